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
from orientc.evaluation import finetuning, perplexity, similarity, texts
from orientc.evaluation.finetuning import Settings
from orientc.evaluation.glue import data as glue_data
from orientc.evaluation.glue import evaluate as glue
from orientc.evaluation.glue.tasks import TASKS
from orientc.evaluation.recording import RecordedMeasurement
from orientc.evaluation.squad import data as squad_data
from orientc.evaluation.squad import evaluate as squad
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


def measuring(name: str, measurement: Callable[[], RecordedMeasurement]) -> Measure:
    """A measure by what `measurement` makes; it is made when the first subject comes."""
    made = cache(measurement)

    def of(subject: Subject) -> list[Path]:
        if subject.path and subject.artifact:
            found = list(made().compressed(subject.path, subject.artifact))
        else:
            found = [made().original()]
        return [made().folder / record.file_name for record in found]

    return Measure(name, of)


@dataclass(frozen=True)
class Measures:
    """The measures there are for one model; data and texts are fetched when the first subject is measured."""

    source: ModelSource
    out: Path | None
    device: torch.device
    progress: Progress

    @property
    def folder(self) -> Path:
        """Where the records go."""
        return runs.model_folder(self.source.id, self.out)

    def perplexity(self, text: Path | None = None, settings: perplexity.Settings | None = None) -> Measure:
        """Perplexity on a text file, or on the default text."""

        def measurement() -> perplexity.Measurement:
            perplexity.protocol_of(self.source)  # before a text is fetched for nothing
            chosen = settings or perplexity.Settings()
            return perplexity.Measurement(
                self.source,
                texts.scored_text(text, self.source),
                chosen,
                folder=self.folder,
                device=self.device,
                progress=self.progress,
            )

        return measuring("perplexity", measurement)

    def similarity(self, data: Path | None) -> Measure:
        """Sentence vectors on STS-B from a folder, or from the hub."""
        return measuring(
            "similarity",
            lambda: similarity.Measurement(
                self.source,
                similarity.stsb(data),
                similarity.Settings(),
                folder=self.folder,
                device=self.device,
                progress=self.progress,
            ),
        )

    def task(
        self,
        name: str,
        data: Path | None,
        limits: Mapping[str, int | None],
        seeds: Sequence[int],
        tuned: Mapping[str, Any],
    ) -> Measure:
        """Fine-tuning on a GLUE task or "squad", once for each seed; `tuned` are settings that are not the default.

        Raises `UsageError` for a task there is not.
        """
        if name not in (SQUAD, *TASKS):
            raise UsageError(f"there is no task {name!r}: choose from {', '.join([*TASKS, SQUAD])}")
        kind = squad.Settings if name == SQUAD else Settings
        settings = [kind(**tuned, seed=seed) for seed in seeds]

        @cache
        def loaded() -> Any:
            train = settings[0].epochs > 0
            if name == SQUAD:
                return squad_data.load(data, train=train, **limits)
            return glue_data.load(TASKS[name], data, train=train, **limits)

        def of(subject: Subject) -> list[Path]:
            found = []
            for chosen in settings:
                options: dict[str, Any] = {"limits": limits, "progress": self.progress}
                if isinstance(chosen, squad.Settings):
                    work = squad.work(subject, loaded(), chosen, **options)
                else:
                    work = glue.work(subject, TASKS[name], loaded(), chosen, **options)
                run = finetuning.run(
                    subject,
                    work,
                    chosen,
                    folder=self.folder,
                    device=self.device,
                    resume=True,
                    progress=self.progress,
                )
                found.append(run.path)
            return found

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
