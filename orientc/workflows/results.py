"""What a study found, table by table: the records of artifacts that differ in a seed alone, taken together."""

from __future__ import annotations

import statistics as plain
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orientc.evaluation import statistics
from orientc.evaluation.figures import over_seeds
from orientc.evaluation.glue.averages import averages
from orientc.evaluation.glue.tasks import TASKS
from orientc.evaluation.statistics import Difference, Sample
from orientc.storage import artifact as artifacts
from orientc.storage import records
from orientc.storage.records import Record
from orientc.storage.runs import fit_seconds
from orientc.storage.sizes import INPUT_ONLY, MB, TIED
from orientc.storage.table_info import TableInfo


@dataclass(frozen=True)
class Measured:
    """A figure, the mean over its runs.

    `error` is its standard error, by what was measured on and how the runs differ; None where the records don't tell.
    """

    value: float
    error: float | None
    runs: int
    sample: Sample | None = field(repr=False, compare=False, default=None)

    def against(self, other: Measured) -> Difference | None:
        """How far it is from another one, by the paired test; None where the two are no pair."""
        return statistics.paired(self.sample, other.sample) if self.sample and other.sample else None


@dataclass(frozen=True)
class Result:
    """One table of a study, the uncompressed one or artifacts that differ in a seed alone.

    Attributes:
        method: "original", "svd" or "ae".
        preset: The autoencoder's recipe; "" for others.
        ratio: The parameter ratio asked for; None for the original.
        rank: Width of the latents; the table's own for the original.
        table_mb: Size of the table in MB of 10⁶ bytes, the mean over artifacts, as are `cosine` and `seconds`.
        cosine: Mean cosine distance of the rows from the original's.
        seconds: Time of a fit; None where that is not known.
        figures: By name: "perplexity.tied", "sst2.accuracy".
    """

    method: str
    preset: str
    ratio: float | None
    rank: int
    table_mb: float
    cosine: float
    seconds: float | None
    figures: dict[str, Measured]

    @property
    def averages(self) -> dict[str, float]:
        """GLUE's averages, of which there are none where a task is missing."""
        found: dict[str, dict[str, float]] = {}
        for name, measured in self.figures.items():
            task, _, metric = name.partition(".")
            found.setdefault(task, {})[metric] = measured.value
        scores = {task: TASKS[task].score(own) for task, own in found.items() if task in TASKS}
        return averages(scores)


def result(
    method: str, preset: str, ratio: float | None, base: TableInfo, paths: Sequence[Path], read: Iterable[Record]
) -> Result:
    """A table's figures out of all records of a study.

    Args:
        method: As in `Result`, and so are `preset` and `ratio`.
        preset: See `method`.
        ratio: See `method`.
        base: The uncompressed table.
        paths: The artifacts; none for the original.
        read: The records, of whatever table.
    """
    there = [artifacts.read_hashed_description(path) for path in paths]
    hashes: set[str | None] = {sha256 for _, sha256 in there}
    hashes = hashes or {None}
    own = [record for record in read if (record.artifact["sha256"] if record.artifact else None) in hashes]
    times = [seconds for path in paths if (seconds := fit_seconds(path)) is not None]
    return Result(
        method,
        preset,
        ratio,
        there[0][0].rank if there else base.dim,
        plain.fmean(about.nbytes for about, _ in there) / MB if there else base.nbytes / MB,
        plain.fmean(about.distances["cosine"] for about, _ in there) if there else 0.0,
        plain.fmean(times) if times else None,
        {name: _measured(metric, several) for (name, metric), several in _by_figure(own).items()},
    )


def _by_figure(read: Iterable[Record]) -> Mapping[tuple[str, str], list[Record]]:
    """Records by the names that their figures go by, and by the names of the metrics."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in read:
        for name in record.metrics:
            if record.kind == "perplexity":
                heads = [record.head]
                if record.artifact is None:  # its one perplexity stands for every head policy
                    heads = [INPUT_ONLY, TIED] if record.table.tied else [INPUT_ONLY]
                names = [f"{name}.{head}" for head in heads]
            else:
                names = [f"{(record.data or {}).get('task') or record.kind}.{name}"]
            for shown in names:
                if name not in records.COUNTS:
                    found.setdefault((shown, name), []).append(record)
    return found


def _measured(metric: str, several: Sequence[Record]) -> Measured:
    values = [float(record.metrics[metric]) for record in several]
    whole = over_seeds(metric, several)
    if whole is None:
        return Measured(plain.fmean(values), None, len(values))
    return Measured(whole.value, whole.estimate().standard_error, len(values), whole)
