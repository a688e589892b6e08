"""Artifacts and records side by side: files in, one table per base model out. Never imports torch.

A row is a table, the uncompressed one or an artifact's; a column is one figure, measured in one way. Figures that were
measured in different ways (another text, limit, setting) are different columns, and what differs is in the column's
name. Only the seed of a fine-tuning is not: over seeds a figure is the mean, with its deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from orientc.errors import ArtifactError, RecordError, UsageError
from orientc.evaluation.statistics import Spread
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage import records
from orientc.storage.description import Description
from orientc.storage.records import Record
from orientc.storage.runs import HISTORY_SUFFIX, fit_seconds
from orientc.storage.sizes import INPUT_ONLY, MB, TIED, UNTIED, model_bytes
from orientc.storage.table_info import TableInfo
from orientc.utils.files import canonical_json, file_sha256, short_hash

# The figures every row has, in the order they are shown, with how they are called there. Sizes are in MB of 10⁶ bytes.
FACTS = {
    "rank": "rank",
    "parameter_ratio": "ratio",
    "byte_ratio": "byte ratio",
    "table_mb": "MB",
    "bits_per_weight": "bits/w",
    "model_mb": "model MB",
    "cosine": "cos dist",
    "rmse": "RMSE",
}
LARGER_IS_BETTER = {"parameter_ratio", "byte_ratio"}
PREFERRED = tuple(f"perplexity.{head}" for head in (TIED, UNTIED, INPUT_ONLY))  # as the quality that size is up against


@dataclass(frozen=True)
class Figure:
    """A metric, its ratio to the uncompressed model's and its difference from that; over seeds the mean and ±."""

    value: float
    ratio: float | None = None
    difference: float | None = None
    std: float | None = None
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Column:
    """A figure measured in one way.

    `name` is what it is called: "perplexity.tied", "sst2.accuracy"; `differs` says what tells it from other columns of
    the name, "" where there are none; `measured` is the way in full: `on`, the text's or data's name, and settings.
    """

    name: str
    differs: str
    measured: dict[str, Any]

    @property
    def key(self) -> str:
        """Its name, unique within a comparison."""
        return f"{self.name} ({self.differs})" if self.differs else self.name

    @property
    def lower_is_better(self) -> bool:
        """True of perplexities."""
        return self.name.startswith("perplexity.")


@dataclass(frozen=True)
class Row:
    """One table: the uncompressed one (`method` "original") or an artifact.

    `settings` are those of the fit that are not the same in all rows of the method. `model_mb` is the whole model's
    size under each head policy, `figures` go by `Column.key`; `seconds` is the fit's time.
    """

    name: str
    method: str
    settings: str
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

    @property
    def original(self) -> bool:
        """Whether this is the uncompressed table."""
        return self.path is None

    def value(self, name: str) -> float | str | None:
        """What the row has under a name: one of its fields, "model_mb.tied", or a column's key; None for nothing."""
        if name in self.figures:
            return self.figures[name].value
        field, _, head = name.partition(".")
        if field == "model_mb":
            return self.model_mb.get(head or self.smallest_policy)
        found = getattr(self, name) if name in ROW_NAMES else None
        return found if isinstance(found, int | float | str) else None

    @property
    def smallest_policy(self) -> str:
        """The head policy under which the whole model is the smallest."""
        return list(self.model_mb)[-1]


ROW_NAMES = tuple(name for name in Row.__dataclass_fields__ if name != "figures")


@dataclass(frozen=True)
class Comparison:
    """All there is of one base model. The uncompressed table is the first row, the others follow by size."""

    model: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def columns_named(self, name: str) -> list[Column]:
        """The columns of a key, a name, or the part of a name before its dot ("perplexity" stands for every policy)."""
        exact = [column for column in self.columns if name in (column.key, column.name)]
        return exact or [column for column in self.columns if column.name.partition(".")[0] == name]

    def shown(self, names: Sequence[str] | None) -> list[Column]:
        """The columns that some of `names` speak of; all of them for None."""
        if names is None:
            return [*self.columns]
        return [column for column in self.columns if any(column in self.columns_named(name) for name in names)]

    @property
    def quality(self) -> Column | None:
        """The figure that size is weighed against unless another is chosen: perplexity of the smallest model first."""
        by_name = {column.name: column for column in reversed(self.columns)}
        return next((by_name[name] for name in PREFERRED if name in by_name), next(iter(self.columns), None))

    def chosen(self, name: str | None) -> Column | None:
        """The figure that size is weighed against: the one named, or `quality`.

        Raises `UsageError` for a name that is no figure's here.
        """
        if name is None:
            return self.quality
        if not (found := self.columns_named(name)):
            there = ", ".join(column.key for column in self.columns) or "none"
            raise UsageError(f"{self.model} has no figure {name!r}; there are: {there}")
        return next(column for column in found if column.name == found[-1].name)

    def best(self, name: str) -> set[int]:
        """The rows, by number, that are best in a fact or column; none where fewer than two artifacts have it."""
        if name == "rank":
            return set()
        values = {number: row.value(name) for number, row in enumerate(self.rows) if not row.original}
        numbers = {number: value for number, value in values.items() if isinstance(value, int | float)}
        if len(numbers) < 2:
            return set()
        column = next((column for column in self.columns if column.key == name), None)
        largest = not column.lower_is_better if column else name in LARGER_IS_BETTER
        best = (max if largest else min)(numbers.values())
        return {number for number, value in numbers.items() if value == best}

    def pareto(self, quality: Column) -> set[int]:
        """The rows, by number, that no other is at least as small and as good as, and better in one of both.

        Size is the table's; rows without the figure are not among them.
        """
        sign = 1 if quality.lower_is_better else -1
        points = {
            number: (row.table_mb, sign * row.figures[quality.key].value)
            for number, row in enumerate(self.rows)
            if quality.key in row.figures
        }
        return {
            number
            for number, point in points.items()
            if not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points.values())
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        values["columns"] = [asdict(column) | {"key": column.key} for column in self.columns]
        return values


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
            if path in given or not calibrations.is_calibration(path):  # in a runs folder they lie beside artifacts
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
    return Findings(tuple(_comparison(*group) for group in _by_model(found, read)), tuple(problems))


def of_artifact(path: Path) -> Comparison | None:
    """An artifact beside the uncompressed model, by the records that lie with it; None where there are none."""
    for compared in compare([path, *records.files_under([path.parent], ".json")]).comparisons:
        for row in compared.rows:
            if row.path == str(path) and row.figures:
                measured = tuple(column for column in compared.columns if column.key in row.figures)
                return replace(compared, columns=measured)
    return None


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


def _by_model(found: list[_Found], read: list[Record]) -> list[tuple[list[_Found], list[Record]]]:
    """Artifacts and records by the model they belong to; an artifact no record speaks of, by its table alone.

    Two models may share a table, a fine-tuned one and its base for example: records tell them apart.
    """
    groups: dict[tuple[str, ...], tuple[dict[str, _Found], list[Record]]] = {}
    known = {entry.sha256: entry for entry in found}
    spoken_of = set()
    for record in sorted(read, key=lambda record: record.file_name):
        model = record.model
        key = (model["table_sha256"], str(model.get("revision")), str(model.get("weights_sha256")))
        artifacts_there, records_there = groups.setdefault(key, ({}, []))
        records_there.append(record)
        if record.artifact:
            artifacts_there[record.artifact["sha256"]] = known[record.artifact["sha256"]]
            spoken_of.add(record.artifact["sha256"])
    for entry in found:
        if entry.sha256 not in spoken_of:
            base = entry.description.base
            own: tuple[str, ...] = next((key for key in groups if key[0] == base.sha256), (base.sha256,))
            groups.setdefault(own, ({}, []))[0][entry.sha256] = entry
    return [(list(there.values()), of_model) for _, (there, of_model) in sorted(groups.items())]


def _comparison(found: list[_Found], read: list[Record]) -> Comparison:
    columns, by_column = _columns(read)
    base = read[0].table if read else found[0].description.base
    rows = [_original_row(base)]
    told = _told_apart(found)
    rows += sorted(
        (_artifact_row(entry, told[entry.sha256]) for entry in found),
        key=lambda row: (row.parameter_ratio, row.method, row.settings),
    )
    sha256s = {str(entry.path): entry.sha256 for entry in found}
    for column in columns:
        measured: dict[str | None, list[tuple[Record, float]]] = {}
        for record, value in by_column[column.key]:
            measured.setdefault(record.artifact["sha256"] if record.artifact else None, []).append((record, value))
        original = _figure(measured[None], None) if None in measured else None
        for row in rows:
            own = measured.get(sha256s[row.path] if row.path else None)
            if own:
                row.figures[column.key] = _figure(own, original)
    return Comparison(read[0].model["id"] if read else base.id, columns, tuple(rows))


def _columns(read: list[Record]) -> tuple[tuple[Column, ...], dict[str, list[tuple[Record, float]]]]:
    """The columns that records make, and what each has by its key: records with the value of that figure."""
    ways: dict[str, dict[str, list[tuple[Record, float]]]] = {}
    for record in read:
        for name, value in _figures(record).items():
            ways.setdefault(name, {}).setdefault(canonical_json(_measured(record)), []).append((record, value))
    columns: list[Column] = []
    by_column: dict[str, list[tuple[Record, float]]] = {}
    for name in sorted(ways, key=_order):
        several = [ways[name][way] for way in sorted(ways[name])]
        measured = [_measured(own[0][0]) for own in several]
        for own, way, differs in zip(several, measured, _differences(measured), strict=True):
            column = Column(name, differs, way)
            columns.append(column)
            by_column[column.key] = own
    return tuple(columns), by_column


def _figures(record: Record) -> dict[str, float]:
    """A record's figures by column name; the uncompressed model's one perplexity stands for every head policy."""
    if record.artifact is None and record.kind == "perplexity":
        heads = (INPUT_ONLY, TIED) if record.table.tied else (UNTIED,)
        return {f"perplexity.{head}": value for value in record.figures.values() for head in heads}
    return record.figures


def _measured(record: Record) -> dict[str, Any]:
    """All that has to be the same for figures to share a column."""
    on = record.text or record.data or {}
    seeded = record.text is not None  # a text's masks; of a fine-tuning figures are taken over seeds
    settings = {name: value for name, value in record.settings.items() if seeded or name != "seed"}
    described = {name: value for name, value in on.items() if name not in ("name", "task", "sha256")}
    return {"on": on.get("name"), **described, **settings, "sha256": str(on.get("sha256"))[:8]}


def _differences(measured: list[dict[str, Any]]) -> list[str]:
    """For each of several ways to measure a figure, what tells it from the others, in words; hashes if all else fails.

    The ways differ among themselves; of one alone there is nothing to tell.
    """
    names = dict.fromkeys(name for way in measured for name in way)
    differing = [name for name in names if len({canonical_json(way.get(name)) for way in measured}) > 1]
    for told in ([name for name in differing if name != "sha256"], differing):
        found = [_words(way, told) for way in measured]
        if len(set(found)) == len(found):
            return found
    return [short_hash(way) for way in measured]  # 3 and 3.0, or null and nothing at all


def _words(values: Mapping[str, Any], names: Iterable[str]) -> str:
    """Names with their values, without those that have none."""
    shown = ((name.replace("_", " "), values[name]) for name in names if values.get(name) is not None)
    return ", ".join(
        f"{name} {str(value).removesuffix('.0') if isinstance(value, float) else value}" for name, value in shown
    )


def _order(name: str) -> tuple[int, str]:
    """Perplexities first, by head policy; the rest by name."""
    perplexities = [f"perplexity.{head}" for head in (INPUT_ONLY, TIED, UNTIED)]
    return (perplexities.index(name), "") if name in perplexities else (len(perplexities), name)


def _figure(own: list[tuple[Record, float]], original: Figure | None) -> Figure:
    """One record's figure, or the mean of several that differ in their seed alone, against the uncompressed model's."""
    spread = Spread.of([value for _, value in own])
    seeds = sorted(record.settings["seed"] for record, _ in own if isinstance(record.settings.get("seed"), int))
    if original is None:
        return Figure(spread.mean, None, None, spread.std, tuple(seeds))
    ratio = spread.mean / original.value if original.value else None
    return Figure(spread.mean, ratio, spread.mean - original.value, spread.std, tuple(seeds))


def _told_apart(found: list[_Found]) -> dict[str, str]:
    """For each artifact by hash, the settings that not all artifacts of its method share."""
    values: dict[str, dict[str, set[str]]] = {}
    for entry in found:
        seen = values.setdefault(entry.description.method, {})
        for name, value in entry.description.settings.items():
            seen.setdefault(name, set()).add(canonical_json(value))
    return {
        entry.sha256: _words(
            entry.description.settings,
            (
                name
                for name, seen in values[entry.description.method].items()
                if len(seen) > 1 and name not in ("rank", "ratio")
            ),
        )
        for entry in found
    }


def _original_row(base: TableInfo) -> Row:
    heads = (INPUT_ONLY, TIED) if base.tied else (UNTIED,)
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
    description = entry.description
    base = description.base
    heads = (INPUT_ONLY, TIED) if base.tied else (UNTIED,)
    return Row(
        name=entry.path.name.removesuffix(artifacts.SUFFIX),
        method=description.method,
        settings=settings,
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
        figures={},
        seconds=fit_seconds(entry.path),
    )
