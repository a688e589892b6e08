"""Make the artifacts and records that a comparison needs: some fits, and the same measures for each of them.

What is there already is not made again; a cell that fails is remembered and the rest goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from orientc.compression.configs import Config
from orientc.compression.fit_and_store import fit_and_store
from orientc.errors import UsageError
from orientc.evaluation import finetuning
from orientc.evaluation.configs import FinetuningConfig, PerplexityConfig, SimilarityConfig, SquadConfig
from orientc.evaluation.finetuning import Benchmark
from orientc.evaluation.glue.glue import glue_benchmark
from orientc.evaluation.glue.tasks import TASKS
from orientc.evaluation.measurement import Measurement
from orientc.evaluation.perplexity import PerplexityMeasurement
from orientc.evaluation.setup import Setup
from orientc.evaluation.similarity import SimilarityMeasurement, stsb
from orientc.evaluation.squad.squad import squad_benchmark
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import runs
from orientc.utils.messages import first_line
from orientc.utils.progress import Progress

SQUAD = "squad"


@dataclass(frozen=True)
class Measure:
    """An evaluation by name; `of` evaluates one subject and returns the paths of its records."""

    name: str
    of: Callable[[Subject], Sequence[Path]]


def measuring(name: str, measurement: Callable[[], Measurement]) -> Measure:
    """A measure by what `measurement` makes; it is made when the first subject comes."""
    made = cache(measurement)

    def of(subject: Subject) -> list[Path]:
        found = list(made().compressed(subject)) if subject.artifact else [made().original()]
        return [made().setup.folder / record.file_name for record in found]

    return Measure(name, of)


@dataclass(frozen=True)
class Measures:
    """The measures there are for one model; data and texts are fetched when the first subject is measured."""

    setup: Setup

    @classmethod
    def of(cls, source: ModelSource, *, out: Path | None, device: torch.device, progress: Progress) -> Measures:
        """For a model whose records go into its place in the runs folder `out`."""
        return cls(Setup(source, runs.model_folder(source.id, out), device, progress=progress))

    def perplexity(self, text: Path | None = None, config: PerplexityConfig | None = None) -> Measure:
        """Perplexity on a text file, or on the default text."""
        chosen = config or PerplexityConfig()
        return measuring("perplexity", lambda: PerplexityMeasurement(self.setup, chosen, text))

    def similarity(self, data: Path | None) -> Measure:
        """Sentence vectors on STS-B from a folder, or from the hub."""
        return measuring("similarity", lambda: SimilarityMeasurement(self.setup, SimilarityConfig(), stsb(data)))

    def task(
        self,
        name: str,
        data: Path | None,
        limits: dict[str, int | None],
        seeds: Sequence[int] | str | None,
        tuned: Mapping[str, Any],
    ) -> Measure:
        """Fine-tuning on a GLUE task or "squad", once for each seed; `tuned` are settings that are not the default.

        Raises `UsageError` for a task there is not.
        """
        if name not in (SQUAD, *TASKS):
            raise UsageError(f"there is no `task` {name!r}: choose from {', '.join([*TASKS, SQUAD])}")
        config = SquadConfig(**tuned) if name == SQUAD else FinetuningConfig(**tuned)
        configs = config.with_seeds(seeds)

        @cache
        def benchmark() -> Benchmark:
            if isinstance(config, SquadConfig):
                return squad_benchmark(self.setup, config, data=data, limits=limits)
            return glue_benchmark(self.setup, name, config, data=data, limits=limits)

        def of(subject: Subject) -> list[Path]:
            return [finetuning.run(self.setup, subject, benchmark(), each, resume=True).path for each in configs]

        return Measure(name, of)


@dataclass
class Outcome:
    """What a sweep leaves: artifacts and records, and a line for each cell that failed."""

    paths: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def sweep(
    source: ModelSource,
    configs: Sequence[Config],
    measures: Sequence[Measure],
    *,
    out: Path | None,
    device: str | None,
    progress: Progress,
) -> Outcome:
    """Fit every config, then take every measure of the uncompressed model and of each artifact.

    Raises `ModelError` where the model's table can't be read; anything that goes wrong later fails its cell alone.
    """
    table = read_table(source)
    outcome = Outcome()
    subjects = [("original", Subject(source))]
    for config in configs:
        with _cell(f"{config.method}, {config.size}", outcome):
            path = fit_and_store(table, config, out=out, device=device, progress=progress).path
            outcome.paths.append(path)
            subjects.append((path.name, Subject(source, path, artifacts.load(path))))
    for measure in measures:
        for name, subject in subjects:
            with _cell(f"{measure.name} of {name}", outcome):
                outcome.paths += measure.of(subject)
    return outcome


@contextlib.contextmanager
def _cell(name: str, outcome: Outcome) -> Iterator[None]:
    """Within it a failure becomes a line of the outcome; being interrupted does not."""
    try:
        yield
    except Exception as error:  # whatever it is, the other cells can still be done
        outcome.failed.append(f"{name}: {first_line(error)}")
