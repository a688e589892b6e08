"""The evaluations a sweep can take, each ready for one artifact of the model after the other.

Data and texts are fetched when the first subject is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
from orientc.evaluation.texts import Text
from orientc.models.resolve import Subject

SQUAD = "squad"


@dataclass(frozen=True)
class Measure:
    """An evaluation by name; `of` evaluates one subject and returns the paths of its records."""

    name: str
    of: Callable[[Subject], Sequence[Path]]


def perplexity(setup: Setup, text: str | Path | Text | None, limit: int | None) -> Measure:
    """Perplexity on a text, or on the default one. Raises `UsageError` for a limit below 1."""
    config = PerplexityConfig(limit=limit)
    return _measuring("perplexity", lambda: PerplexityMeasurement(setup, config, text, several=True))


def similarity(setup: Setup, data: str | Path | None) -> Measure:
    """Sentence vectors on STS-B from a folder, or from the hub."""
    return _measuring("similarity", lambda: SimilarityMeasurement(setup, SimilarityConfig(), stsb(data)))


def task(
    setup: Setup,
    name: str,
    *,
    data: str | Path | None,
    limits: dict[str, int | None],
    seeds: Sequence[int] | str | None,
    **settings: Any,
) -> Measure:
    """Fine-tuning on a GLUE task or "squad", once for each seed; `settings` are fields of its config.

    Raises `UsageError` for a task there is not.
    """
    if name not in (SQUAD, *TASKS):
        raise UsageError(f"there is no `task` {name!r}: choose from {', '.join([*TASKS, SQUAD])}")
    config = SquadConfig(**settings) if name == SQUAD else FinetuningConfig(**settings)
    configs = config.with_seeds(seeds)

    @cache
    def benchmark() -> Benchmark:
        if isinstance(config, SquadConfig):
            return squad_benchmark(setup, config, data=data, limits=limits)
        return glue_benchmark(setup, name, config, data=data, limits=limits)

    def of(subject: Subject) -> list[Path]:
        return [finetuning.run(setup, subject, benchmark(), each, resume=True).path for each in configs]

    return Measure(name, of)


def _measuring(name: str, measurement: Callable[[], Measurement]) -> Measure:
    """A measure by what `measurement` makes; it is made when the first subject comes."""
    made = cache(measurement)

    def of(subject: Subject) -> list[Path]:
        found = list(made().compressed(subject)) if subject.artifact else [made().original()]
        return [made().setup.folder / record.file_name for record in found]

    return Measure(name, of)
