"""The evaluations a sweep can take, each ready for one artifact of the model after the other.

Data and texts are fetched when the first subject is measured, or by `Measure.fetch` before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orientc.evaluation import finetuning
from orientc.evaluation.configs import PerplexityConfig, SimilarityConfig, SquadConfig
from orientc.evaluation.finetuning import Benchmark
from orientc.evaluation.glue.glue import glue_benchmark
from orientc.evaluation.measurement import Measurement
from orientc.evaluation.perplexity import PerplexityMeasurement
from orientc.evaluation.setup import Setup
from orientc.evaluation.similarity import SimilarityMeasurement, stsb
from orientc.evaluation.squad.squad import squad_benchmark
from orientc.models.resolve import Subject
from orientc.workflows.study import Study


@dataclass(frozen=True)
class Measure:
    """An evaluation by name.

    `of` evaluates one subject, and returns the paths of its records and whether any of them is new; `fetch` gets text
    or data, and raises what `of` would raise without them.
    """

    name: str
    of: Callable[[Subject], tuple[Sequence[Path], bool]]
    fetch: Callable[[], object]


def measures(study: Study, setup: Setup) -> list[Measure]:
    """What a study measures of a model. Raises `UsageError` for a setting that no evaluation can use."""
    found = [_perplexity(setup, study)] if study.perplexity else []
    found += [_measuring("similarity", lambda: _similarity(setup, study))] if study.similarity else []
    return found + [_task(setup, study, name) for name in study.task]


def _perplexity(setup: Setup, study: Study) -> Measure:
    config = PerplexityConfig(limit=study.limit, languages=study.languages)
    return _measuring("perplexity", lambda: PerplexityMeasurement(setup, config, study.text, several=True))


def _similarity(setup: Setup, study: Study) -> Measurement:
    return SimilarityMeasurement(setup, SimilarityConfig(), stsb(study.data))


def _task(setup: Setup, study: Study, name: str) -> Measure:
    """Fine-tuning on a GLUE task or "squad", once for each seed."""
    config = study.config_of(name)
    configs = config.with_seeds(study.seeds_of(name))
    data = study.data_of(name)
    limits = finetuning.limits(*study.limits_of(name), config.epochs)

    @cache
    def benchmark() -> Benchmark:
        if isinstance(config, SquadConfig):
            return squad_benchmark(setup, config, data=data, limits=limits)
        return glue_benchmark(setup, name, config, data=data, limits=limits)

    def of(subject: Subject) -> tuple[list[Path], bool]:
        runs = finetuning.run_seeds(setup, subject, benchmark(), configs, keep=study.keep, resume=True)
        return [run.path for run in runs], any(run.fresh for run in runs)

    return Measure(name, of, benchmark)


def _measuring(name: str, measurement: Callable[[], Measurement]) -> Measure:
    """A measure by what `measurement` makes; it is made when the first subject comes."""
    made = cache(measurement)

    def of(subject: Subject) -> tuple[list[Path], bool]:
        before = made().measured
        found = list(made().compressed(subject)) if subject.artifact else [made().original()]
        return [made().setup.folder / record.file_name for record in found], made().measured > before

    return Measure(name, of, made)
