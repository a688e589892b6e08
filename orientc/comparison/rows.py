"""The rows and columns of a comparison: tables down, figures across."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from orientc.errors import UsageError
from orientc.storage.records import DIVERGENCES
from orientc.storage.sizes import INPUT_ONLY, TIED, UNTIED

if TYPE_CHECKING:  # help waits for no numpy
    from orientc.evaluation.statistics import Difference, Sample

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
    """A metric; over seeds their mean.

    Attributes:
        value: The figure.
        ratio: How many times the uncompressed model's it is.
        difference: How far it is from that.
        std: Standard deviation over seeds; None for one.
        seeds: The seeds.
        error: Standard error, by what was measured on and how seeds differ; None where the records don't tell.
        low, high: Ends of the 95 % interval.
        versus_original: The difference from the uncompressed model by the paired test.
        versus: The same from the row that all are held against, where one is named, corrected for how many they are.
        sample: How it varies with what was measured on.
    """

    value: float
    ratio: float | None = None
    difference: float | None = None
    std: float | None = None
    seeds: tuple[int, ...] = ()
    error: float | None = None
    low: float | None = None
    high: float | None = None
    versus_original: Difference | None = None
    versus: Difference | None = None
    sample: Sample | None = field(default=None, repr=False, compare=False)

    def paired(self, other: Figure) -> Difference | None:
        """How far it is from another row's, by the paired test; None where the records don't tell."""
        from orientc.evaluation.statistics import paired

        return paired(self.sample, other.sample) if self.sample and other.sample else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(replace(self, sample=None))
        del values["sample"]
        return values


@dataclass(frozen=True)
class Column:
    """A figure measured in one way.

    `name` is what it is called: "perplexity.tied", "sst2.accuracy"; `differs` says what tells it from other columns of
    the name, "" where there are none; `measured` is the way in full: `on`, the text's or data's name, and settings.
    `lower` is whether another tool says of its figure that less is better.
    """

    name: str
    differs: str
    measured: dict[str, Any]
    lower: bool = False

    @property
    def key(self) -> str:
        """Its name, unique within a comparison."""
        return f"{self.name} ({self.differs})" if self.differs else self.name

    @property
    def lower_is_better(self) -> bool:
        """True of perplexities, and of how far predictions are from the uncompressed model's; else as a tool says."""
        return self.lower or self.name.partition(".")[0] in ("perplexity", "kl", "kl_p99", "kl_max")

    @property
    def divergence(self) -> bool:
        """Whether the figure is measured against the uncompressed model's predictions, which has none itself."""
        return self.name.partition(".")[0] in DIVERGENCES


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

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        figures = {key: figure.as_dict() for key, figure in self.figures.items()}
        return asdict(replace(self, figures={})) | {"figures": figures}

    @property
    def smallest_policy(self) -> str:
        """The head policy under which the whole model is the smallest."""
        return list(self.model_mb)[-1]


ROW_NAMES = tuple(name for name in Row.__dataclass_fields__ if name != "figures")


@dataclass(frozen=True)
class Comparison:
    """All there is of one base model. The uncompressed table is the first row, the others follow by size.

    `held_against` is the row that figures are held against beside the uncompressed one, if any (`against`).
    """

    model: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    held_against: str | None = None

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
        """The rows, by number, that are best in a fact or column; none where fewer than two artifacts have it.

        A figure that is infinite is the best of nothing.
        """
        if name == "rank":
            return set()
        values = {number: row.value(name) for number, row in enumerate(self.rows) if not row.original}
        numbers = {number: value for number, value in values.items() if isinstance(value, int | float)}
        if len(numbers) < 2:
            return set()
        column = next((column for column in self.columns if column.key == name), None)
        largest = not column.lower_is_better if column else name in LARGER_IS_BETTER
        best = (max if largest else min)(numbers.values())
        found = {number for number, value in numbers.items() if value == best and isfinite(value)}
        return found if column is None or self._is_ahead(column, found, numbers.keys() - found) else set()

    def _is_ahead(self, column: Column, first: Collection[int], rest: Collection[int]) -> bool:
        """Whether rows are told apart from all others in a column, as far as the records tell errors."""
        for one in first:
            for other in rest:
                known = self.rows[one].figures[column.key].paired(self.rows[other].figures[column.key])
                if known and not known.told_apart:
                    return False
        return True

    def row_named(self, name: str) -> Row | None:
        """The row of a name or path; None where there is none."""
        return next((row for row in self.rows if name in (row.name, row.path)), None)

    def against(self, chosen: Row) -> Comparison:
        """The comparison with every artifact's figures held against those of one row by paired tests.

        Probabilities are corrected by Holm's method for how many rows a column has.
        """
        from orientc.evaluation.statistics import holm

        found = [dict(row.figures) for row in self.rows]
        for column in self.columns:
            held = chosen.figures.get(column.key)
            known = {
                number: difference
                for number, row in enumerate(self.rows)
                if held and row is not chosen and not row.original and column.key in row.figures
                if (difference := row.figures[column.key].paired(held))
            }
            corrected = holm([difference.p for difference in known.values()])
            for (number, difference), p in zip(known.items(), corrected, strict=True):
                own = found[number][column.key]
                found[number][column.key] = replace(own, versus=replace(difference, p_holm=p))
        rows = tuple(replace(row, figures=own) for row, own in zip(self.rows, found, strict=True))
        return replace(self, rows=rows, held_against=chosen.name)

    def pareto(self, quality: Column) -> set[int]:
        """The rows, by number, that no other is at least as small and as good as, and better in one of both.

        Size is the table's; rows without the figure, or with an infinite one, are not among them.
        """
        sign = 1 if quality.lower_is_better else -1
        points = {
            number: (row.table_mb, sign * row.figures[quality.key].value)
            for number, row in enumerate(self.rows)
            if quality.key in row.figures and isfinite(row.figures[quality.key].value)
        }
        return {
            number
            for number, point in points.items()
            if not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points.values())
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "columns": [asdict(column) | {"key": column.key} for column in self.columns],
            "rows": [row.as_dict() for row in self.rows],
            "held_against": self.held_against,
        }
