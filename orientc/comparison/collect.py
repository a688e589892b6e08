"""Read artifacts and records, and line them up: one comparison for each base model."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orientc.comparison.agreement import cell_of, once_each
from orientc.comparison.columns import columns_of, figure_of, policies_of, words
from orientc.comparison.rows import Comparison, Row
from orientc.errors import ArtifactError, RecordError
from orientc.modeling.table_names import HEAD, INPUT
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage import records
from orientc.storage.artifact import Artifact
from orientc.storage.description import Description
from orientc.storage.records import Record
from orientc.storage.runs import HISTORY_SUFFIX, fit_seconds
from orientc.storage.sizes import BOTH, INPUT_ONLY, MB, model_bytes
from orientc.storage.table_info import TableInfo
from orientc.utils.files import canonical_json

_SIZES = ("rank", "ratio", "target_bits", "target_mb", "target_ratio")  # settings that a row has columns for


@dataclass(frozen=True)
class _Found:
    """An artifact, or several of one model's tables, which were measured together: the first, and `others`."""

    path: Path
    sha256: str
    description: Description
    others: tuple[_Found, ...] = ()

    @property
    def parts(self) -> tuple[_Found, ...]:
        """Each artifact."""
        return (replace(self, others=()), *self.others)

    @property
    def place(self) -> str:
        """The file, or all files."""
        return " + ".join(str(part.path) for part in self.parts)


def line_up(paths: Sequence[Path]) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Read every artifact and record under `paths`, files or folders.

    Returns:
        One comparison for each base model, and a line for each path that is not there and each file that is damaged or
        foreign, which is skipped.
    """
    problems = [f"there is nothing at {path}" for path in paths if not path.exists()]
    found: list[_Found] = []
    for path in records.files_under(paths, artifacts.SUFFIX):
        try:
            description, sha256 = artifacts.read_hashed_description(path)
            found.append(_Found(path, sha256, description))
        except ArtifactError as error:
            if path in paths or not calibrations.is_calibration(path):  # in a runs folder they lie beside artifacts
                problems.append(str(error))
    read, unreadable = _records(paths)
    problems += unreadable
    bases = {entry.sha256: entry.description.base.sha256 for entry in found}
    reasons = [_unusable(record, bases) for _, record in read]
    problems += [f"{record.file_name}: {why}" for (_, record), why in zip(read, reasons, strict=True) if why]
    usable, doubtful, disagreements = once_each([entry for entry, why in zip(read, reasons, strict=True) if not why])
    comparisons = tuple(_comparison(*group, doubtful) for group in _by_model(found, usable))
    return comparisons, (*problems, *disagreements)


def of_artifacts(parts: Sequence[tuple[Path, Artifact]], fingerprint: str) -> Comparison | None:
    """An artifact beside the uncompressed model, by the records that lie with it; None where there are none.

    Args:
        parts: The artifact's file, and the artifact as it was read from there; or several, measured together.
        fingerprint: That of the model; no figure of another one is shown, with the same table or not.
    """
    first, *others = (_Found(path, artifact.sha256, artifact.description) for path, artifact in parts)
    found = replace(first, sha256=records.sha256_of([artifact.sha256 for _, artifact in parts]), others=tuple(others))
    read = [(place, record) for place, record in _records([first.path.parent])[0] if record.figures]
    own = [
        (place, record)
        for place, record in read
        if record.model["fingerprint"] == fingerprint
        and (record.artifact is None or record.artifact["sha256"] == found.sha256)
    ]
    once, doubtful, _ = once_each(own)
    compared = _comparison([found], once, doubtful)
    measured = tuple(column for column in compared.columns if column.key in compared.rows[1].figures)
    return replace(compared, columns=measured) if measured else None


def _records(paths: Sequence[Path]) -> tuple[list[tuple[Path, Record]], list[str]]:
    """Every record under `paths` with its file, and a line for each file that is none."""
    read, problems = [], []
    for path in records.files_under(paths, ".json"):
        if not path.name.endswith(HISTORY_SUFFIX):
            try:
                read.append((path, records.read(path)))
            except RecordError as error:
                problems.append(str(error))
    return read, problems


def _parts(record: Record) -> dict[str, str]:
    """The artifacts that a record is of: hash of each file to the hash of the table that it should be of."""
    if record.artifact is None:
        return {}
    parts = record.artifact.get("parts") or [record.artifact]
    return {part["sha256"]: part.get("table_sha256", record.model["table_sha256"]) for part in parts}


def _unusable(record: Record, bases: dict[str, str]) -> str | None:
    """Why a record has no place beside the artifacts there are, hash of the file to hash of its base table."""
    if not record.figures:
        return f"nothing in it can be compared: {record.kind}"
    for sha256, table in _parts(record).items():
        base = bases.get(sha256)
        if base is None:
            return "its artifact is gone or was replaced"
        if base != table:
            return "its artifact was made from another model's table"
    return None


def _by_model(found: list[_Found], read: list[Record]) -> list[tuple[list[_Found], list[Record]]]:
    """Artifacts and records by the model they belong to; an artifact no record speaks of, by the base it names.

    Two models may share a table, a fine-tuned one and its base for example: fingerprints tell them apart.
    """
    groups: dict[tuple[str, str], tuple[dict[str, _Found], list[Record]]] = {}
    # the model that a table and an id stand for, or for other tables than the lookup's the id alone
    measured: dict[tuple[str, str, str], tuple[str, str]] = {}
    known = {entry.sha256: entry for entry in found}
    spoken_of = set()
    for record in sorted(read, key=lambda record: record.file_name):
        model = record.model
        key = (model["table_sha256"], model["fingerprint"])
        for table in (model["table_sha256"], ""):
            measured[(table, model["id"], str(model["revision"]))] = key
        artifacts_there, records_there = groups.setdefault(key, ({}, []))
        records_there.append(record)
        if record.artifact:
            first, *others = (known[sha256] for sha256 in _parts(record))
            own = replace(first, sha256=record.artifact["sha256"], others=tuple(others))
            artifacts_there[own.sha256] = own
            spoken_of.add(own.sha256)
    for entry in found:
        if entry.sha256 not in spoken_of:
            base = entry.description.base
            table = base.sha256 if base.table == INPUT else ""
            key = measured.get((table, base.id, str(base.revision)), (base.sha256, f"{base.id}@{base.revision}"))
            groups.setdefault(key, ({}, []))[0][entry.sha256] = entry
    return [(list(there.values()), of_model) for _, (there, of_model) in sorted(groups.items())]


def _comparison(found: list[_Found], read: list[Record], doubtful: Collection[str]) -> Comparison:
    columns, by_column = columns_of(read)
    base = read[0].table if read else found[0].description.base
    rows = [_original_row(base, policies_of(base, read))]
    told = _told_apart(found)
    rows += sorted(
        (_artifact_row(entry, told[entry.sha256]) for entry in found),
        key=lambda row: (row.parameter_ratio, row.method, row.settings),
    )
    sha256s = {entry.place: entry.sha256 for entry in found}
    for column in columns:
        measured: dict[str | None, list[tuple[Record, float]]] = {}
        for record, value in by_column[column.key]:
            if doubtful and cell_of(record) in doubtful:
                continue
            measured.setdefault(record.artifact["sha256"] if record.artifact else None, []).append((record, value))
        original = figure_of(column, measured[None], None) if None in measured else None
        for row in rows:
            own = measured.get(sha256s[row.path] if row.path else None)
            if own:
                row.figures[column.key] = figure_of(column, own, original)
    return Comparison(read[0].model["id"] if read else base.id, columns, tuple(rows))


def _told_apart(found: list[_Found]) -> dict[str, str]:
    """For each artifact by hash, the settings that not all artifacts of its method share."""
    values: dict[str, dict[str, set[str]]] = {}
    alone = [entry for entry in found if not entry.others]
    for entry in alone:
        seen = values.setdefault(entry.description.method, {})
        for name, value in entry.description.settings.items():
            seen.setdefault(name, set()).add(canonical_json(value))
    return dict.fromkeys((entry.sha256 for entry in found), "") | {
        entry.sha256: words(
            entry.description.settings,
            (name for name, seen in values[entry.description.method].items() if len(seen) > 1 and name not in _SIZES),
        )
        for entry in alone
    }


def _original_row(base: TableInfo, heads: Sequence[str]) -> Row:
    return Row(
        name=records.ORIGINAL,
        method=records.ORIGINAL,
        settings="",
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
        figures={},
        seconds=None,
    )


def _artifact_row(entry: _Found, settings: str) -> Row:
    """An artifact's row, or that of several, whose sizes are sums, and distances means over rows and numbers."""
    described = [part.description for part in entry.parts]
    bases = [description.base for description in described]
    base, nbytes = bases[0], sum(description.nbytes for description in described)
    numbers, base_bytes = sum(each.vocab * each.dim for each in bases), sum(each.nbytes for each in bases)
    heads = (BOTH,) if {HEAD, INPUT} <= {each.table for each in bases} else policies_of(base)
    sizes = dict.fromkeys(heads, base.model_bytes)
    for head in heads:
        for description, own in zip(described, bases, strict=True):
            kept = own.tied and head == INPUT_ONLY
            sizes[head] = model_bytes(sizes[head], own.nbytes, description.nbytes, kept=kept)
    cosine, rmse = (described[0].distances[name] for name in ("cosine", "rmse"))
    if entry.others:
        cosine = sum(each.distances["cosine"] * each.base.vocab for each in described) / sum(it.vocab for it in bases)
        squares = sum(each.distances["rmse"] ** 2 * each.base.vocab * each.base.dim for each in described)
        rmse = math.sqrt(squares / numbers)
    times = [seconds for part in entry.parts if (seconds := fit_seconds(part.path)) is not None]
    return Row(
        name=" + ".join(part.path.name.removesuffix(artifacts.SUFFIX) for part in entry.parts),
        method="+".join(dict.fromkeys(description.method for description in described)),
        settings=settings,
        rank=described[0].rank,
        path=entry.place,
        dtype="+".join(dict.fromkeys(description.dtype for description in described)),
        parameter_ratio=numbers / sum(description.numbers for description in described),
        byte_ratio=base_bytes / nbytes,
        bits_per_weight=8 * nbytes / numbers,
        table_mb=nbytes / MB,
        model_mb={head: size / MB for head, size in sizes.items()},
        cosine=cosine,
        rmse=rmse,
        figures={},
        seconds=sum(times) if len(times) == len(described) else None,
    )
