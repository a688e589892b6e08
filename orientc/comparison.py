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


@dataclass(frozen=True)
class Figure:
    """A metric under one head policy, and its ratio to the uncompressed model's."""

    value: float
    ratio: float | None


@dataclass(frozen=True)
class Row:
    """One table: the uncompressed one (`method` "original") or an artifact. Sizes are in MB of 10⁶ bytes.

    `model_mb` and `perplexity` are by head policy; `seconds` is the fit's time.
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
    perplexity: dict[str, Figure]
    seconds: float | None


@dataclass(frozen=True)
class Comparison:
    """Rows that may be compared: one base model, and one text with one set of settings where anything was evaluated."""

    model: str
    text: str | None
    settings: dict[str, Any]
    heads: tuple[str, ...]
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
    read = [record for record, reason in zip(read, reasons, strict=True) if not reason]
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
    if "perplexity" not in record.metrics:
        return "it holds no perplexity"
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
        way = {"model": model, "text": record.text, "data": record.data, "settings": record.settings}
        ways.setdefault(canonical_json(way), []).append(record)
    return [_comparison(found, ways[way]) for way in sorted(ways)] or [_comparison(found, [])]


def _comparison(found: list[_Found], read: list[Record]) -> Comparison:
    known = {entry.sha256: entry for entry in found}
    originals = [record for record in read if record.artifact is None]
    by_artifact: dict[str, list[Record]] = {sha256: [] for sha256 in known}
    for record in read:
        if record.artifact is not None:
            by_artifact[record.artifact["sha256"]].append(record)
    original = originals[0].perplexity if originals else None
    rows = [_artifact_row(known[sha256], by_artifact[sha256], original) for sha256 in known]
    rows.sort(key=lambda row: (row.parameter_ratio, row.method))
    rows.insert(0, _original_row(found[0].description.base if found else read[0].table, originals))
    seen = {head for row in rows for head in row.perplexity}
    return Comparison(
        model=read[0].model["id"] if read else found[0].description.base.id,
        text=read[0].text["name"] if read and read[0].text else None,
        settings=read[0].settings if read else {},
        heads=tuple(head for head in (INPUT_ONLY, TIED, UNTIED) if head in seen),
        rows=tuple(rows),
    )


def _original_row(base: TableInfo, originals: list[Record]) -> Row:
    heads = (INPUT_ONLY, TIED) if base.tied else (UNTIED,)
    figures = {head: Figure(originals[0].perplexity, 1.0) for head in heads} if originals else {}
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
        perplexity=figures,
        seconds=None,
    )


def _artifact_row(entry: _Found, read: list[Record], original: float | None) -> Row:
    description = entry.description
    base = description.base
    heads = (INPUT_ONLY, TIED) if base.tied else (UNTIED,)
    figures = {
        record.head: Figure(value := record.perplexity, value / original if original else None) for record in read
    }
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
        perplexity=figures,
        seconds=fit_seconds(entry.path),
    )
