"""Artifacts and records side by side: files in, rows out. Never imports torch.

Figures share a table only where they are comparable: one base model, one text, one set of evaluation settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orientc import artifact as artifacts
from orientc import records
from orientc.artifact import Description
from orientc.errors import ArtifactError, RecordError
from orientc.files import canonical_json, file_sha256
from orientc.provenance import TableInfo
from orientc.records import Record
from orientc.runs import HISTORY_SUFFIX, fit_seconds
from orientc.sizes import INPUT_ONLY, MB, TIED, UNTIED, model_bytes
from orientc.spread import Spread


@dataclass(frozen=True)
class Figure:
    """A metric, its ratio to the uncompressed model's, and its difference from that; over seeds the mean and ±."""

    value: float
    ratio: float | None = None
    difference: float | None = None
    std: float | None = None
    seeds: int = 1


@dataclass(frozen=True)
class Row:
    """One table: the uncompressed one (`method` "original") or an artifact. Sizes are in MB of 10⁶ bytes.

    `model_mb` is by head policy, `figures` by column of the comparison; `seconds` is the fit's time.
    """

    method: str
    rank: int
    path: str | None
    dtype: str
    parameter_ratio: float
    byte_ratio: float
    bits_per_weight: float
    table_mb: float
    model_mb: dict[str, float]
    cosine: float
    rmse: float
    figures: dict[str, Figure]
    seconds: float | None


@dataclass(frozen=True)
class Comparison:
    """Rows that may be compared: one base model, and one text or data with one set of settings, if any.

    `columns` are the figures there are: "perplexity.tied", "sst2.accuracy". `kind` and `text` say what was evaluated
    on what.
    """

    model: str
    kind: str | None
    text: str | None
    settings: dict[str, Any]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Findings:
    """What lies under some paths: comparisons, and a line for each file that could not be used."""

    comparisons: tuple[Comparison, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    path: Path
    sha256: str
    description: Description


def compare(paths: Iterable[str | Path]) -> Findings:
    """Read every artifact and record under `paths` (files or folders) and line them up.

    Damaged or foreign artifacts and records are named in `problems` and skipped.
    """
    given = [Path(path) for path in paths]
    problems = [f"there is nothing at {path}" for path in given if not path.exists()]
    found: list[_Found] = []
    for path in records.files_under(given, artifacts.SUFFIX):
        try:
            description = artifacts.read_description(path)
            found.append(_Found(path, file_sha256(path), description))
        except ArtifactError as error:
            problems.append(str(error))
    read: list[Record] = []
    for path in records.files_under(given, ".json"):
        if not path.name.endswith(HISTORY_SUFFIX):
            try:
                read.append(records.read(path))
            except RecordError as error:
                problems.append(str(error))
    bases = {entry.sha256: entry.description.base.sha256 for entry in found}
    reasons = [_unusable(record, bases) for record in read]
    problems += [f"{record.file_name}: {reason}" for record, reason in zip(read, reasons, strict=True) if reason]
    usable = [record for record, reason in zip(read, reasons, strict=True) if not reason]
    read = list({canonical_json(record.identity): record for record in usable}.values())  # a copy is no second seed
    tables = {entry.description.base.sha256 for entry in found} | {record.model["table_sha256"] for record in read}
    comparisons = [
        comparison
        for table in sorted(tables)
        for comparison in _of_table(
            [entry for entry in found if entry.description.base.sha256 == table],
            [record for record in read if record.model["table_sha256"] == table],
        )
    ]
    return Findings(tuple(comparisons), tuple(problems))


def _unusable(record: Record, bases: dict[str, str]) -> str | None:
    """Why a record has no place beside the artifacts there are, hash of the file to hash of its base table."""
    if not record.figures:
        return f"nothing in it can be compared: {record.kind}"
    if record.artifact is None:
        return None
    base = bases.get(record.artifact["sha256"])
    if base is None:
        return "its artifact is gone or was replaced"
    return None if base == record.model["table_sha256"] else "its artifact was made from another model's table"


def _of_table(found: list[_Found], read: list[Record]) -> list[Comparison]:
    """Comparisons for one base table: one for each way it was evaluated, or one of sizes and distances alone."""
    ways: dict[str, list[Record]] = {}
    for record in read:
        model = {key: record.model.get(key) for key in ("revision", "weights_sha256")}
        way = {"model": model, "text": record.text, "data": record.data, "settings": _shared_settings(record)}
        ways.setdefault(canonical_json(way), []).append(record)
    return [_comparison(found, ways[way]) for way in sorted(ways)] or [_comparison(found, [])]


def _comparison(found: list[_Found], read: list[Record]) -> Comparison:
    known = {entry.sha256: entry for entry in found}
    originals = [record for record in read if record.artifact is None]
    by_artifact: dict[str, list[Record]] = {sha256: [] for sha256 in known}
    for record in read:
        if record.artifact is not None:
            by_artifact[record.artifact["sha256"]].append(record)
    base = found[0].description.base if found else read[0].table
    original = _original_figures(base, originals)
    rows = [_artifact_row(known[sha256], by_artifact[sha256], original) for sha256 in known]
    rows.sort(key=lambda row: (row.parameter_ratio, row.method))
    rows.insert(0, _original_row(base, original))
    evaluated = read[0].text or read[0].data if read else None
    return Comparison(
        model=read[0].model["id"] if read else found[0].description.base.id,
        kind=read[0].kind if read else None,
        text=evaluated["name"] if evaluated else None,
        settings=_shared_settings(read[0]) if read else {},
        columns=_columns(rows),
        rows=tuple(rows),
    )


def _shared_settings(record: Record) -> dict[str, Any]:
    """The settings that rows of one comparison share: all but the seed of a fine-tuning, over which figures spread."""
    tuned = record.text is None
    return {name: value for name, value in record.settings.items() if not (tuned and name == "seed")}


def _columns(rows: list[Row]) -> tuple[str, ...]:
    """The names of all figures: perplexities by head policy, others as they come."""
    seen = dict.fromkeys(name for row in rows for name in row.figures)
    ordered = [f"perplexity.{head}" for head in (INPUT_ONLY, TIED, UNTIED)]
    return tuple(sorted(seen, key=lambda name: ordered.index(name) if name in ordered else len(ordered)))


def _figures(read: list[Record], original: dict[str, Figure]) -> dict[str, Figure]:
    """Each figure of some records of one table, that of several seeds as their mean."""
    values: dict[str, list[float]] = {}
    for record in read:
        for name, value in record.figures.items():
            values.setdefault(name, []).append(value)
    found = {}
    for name, several in values.items():
        spread = Spread.of(several)
        base = original[name].value if name in original else None
        ratio = spread.mean / base if base else None
        difference = None if base is None else spread.mean - base
        found[name] = Figure(spread.mean, ratio, difference, spread.std, spread.count)
    return found


def _original_figures(base: TableInfo, originals: list[Record]) -> dict[str, Figure]:
    """The uncompressed model's figures; its one perplexity stands for every head policy."""
    own = _figures(originals, _figures(originals, {}))
    heads = (INPUT_ONLY, TIED) if base.tied else (UNTIED,)
    perplexity = next((figure for name, figure in own.items() if name.startswith("perplexity.")), None)
    return dict.fromkeys((f"perplexity.{head}" for head in heads), perplexity) if perplexity else own


def _original_row(base: TableInfo, figures: dict[str, Figure]) -> Row:
    heads = (INPUT_ONLY, TIED) if base.tied else (UNTIED,)
    return Row(
        method=records.ORIGINAL,
        rank=base.dim,
        path=None,
        dtype=base.dtype,
        parameter_ratio=1.0,
        byte_ratio=1.0,
        bits_per_weight=8 * base.nbytes / (base.vocab * base.dim),
        table_mb=base.nbytes / MB,
        model_mb=dict.fromkeys(heads, base.model_bytes / MB),
        cosine=0.0,
        rmse=0.0,
        figures=figures,
        seconds=None,
    )


def _artifact_row(entry: _Found, read: list[Record], original: dict[str, Figure]) -> Row:
    description = entry.description
    base = description.base
    heads = (INPUT_ONLY, TIED) if base.tied else (UNTIED,)
    return Row(
        method=description.method,
        rank=description.rank,
        path=str(entry.path),
        dtype=description.dtype,
        parameter_ratio=description.parameter_ratio,
        byte_ratio=description.byte_ratio,
        bits_per_weight=description.bits_per_weight,
        table_mb=description.nbytes / MB,
        model_mb={head: model_bytes(base.model_bytes, base.nbytes, description.nbytes, head) / MB for head in heads},
        cosine=description.distances["cosine"],
        rmse=description.distances["rmse"],
        figures=_figures(read, original),
        seconds=fit_seconds(entry.path),
    )
