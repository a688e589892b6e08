"""The rows and columns of a comparison: tables down, figures across."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import hypot, isfinite, sqrt
from typing import TYPE_CHECKING, Any

from orientc.comparison.names import Name, label, same, subject_of
from orientc.errors import UsageError
from orientc.storage.records import DIVERGENCES
from orientc.storage.sizes import BOTH, HEAD_ONLY, INPUT_ONLY, TIED

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
SIZES = ("parameter_ratio", "byte_ratio", "table_mb", "bits_per_weight", "model_mb")
# As the quality that size is up against: what a model is used for comes before how far its numbers moved.
PREFERRED = (
    *(f"perplexity.{head}" for head in (TIED, BOTH, INPUT_ONLY, HEAD_ONLY)), "similarity.spearman", "similarity.cosine",
)  # fmt: skip
Z95 = 1.96  # standard errors to the end of an interval of which nothing but a standard error is known
EQUAL = 0.01  # sizes that differ by no more than this share count as equal


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

    @property
    def own_error(self) -> float:
        """Its standard error by whatever is known: what was measured on, else how seeds differ; 0 for nothing."""
        if self.error is not None:
            return self.error
        return self.std / sqrt(len(self.seeds)) if self.std and self.seeds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(replace(self, sample=None))
        del values["sample"]
        return values


@dataclass(frozen=True)
class Column:
    """A figure measured in one way.

    Attributes:
        name: Its metric: "perplexity.tied", "sst2.accuracy".
        chosen: What of the way is not as it is by default, by the names of settings; `text` for another text.
        measured: The way in full: `on`, the text's or data's name, and settings.
        lower: Whether another tool says of its figure that less is better.
        of_artifacts: Whether an artifact was measured so, and not the uncompressed model alone.
        besides: What tells it from one of the same name for which the same was chosen, as other data does.
    """

    name: str
    chosen: dict[str, Any]
    measured: dict[str, Any]
    lower: bool = False
    of_artifacts: bool = True
    besides: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name with what was chosen, which is the same whatever else there is to compare."""
        return self.name + self.label

    @property
    def label(self) -> str:
        """What was chosen, as at the end of the key."""
        return label(self.chosen | self.besides)

    def is_named(self, name: Name) -> bool:
        """Whether a name means it: the metric or its subject, with all that was chosen and nothing else."""
        for own in (self.chosen, self.chosen | self.besides):
            if own.keys() == name.chosen.keys() and all(same(name.chosen[key], value) for key, value in own.items()):
                return name.fits(self.name)
        return False

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        del values["lower"]
        return {"key": self.key} | values | {"lower_is_better": self.lower_is_better}

    @property
    def lower_is_better(self) -> bool:
        """True of perplexities, and of how far predictions are from the uncompressed model's; else as a tool says."""
        return self.lower or subject_of(self.name) in ("perplexity", "kl", "kl_p99", "kl_max")

    @property
    def divergence(self) -> bool:
        """Whether the figure is measured against the uncompressed model's predictions, which has none itself."""
        return subject_of(self.name) in DIVERGENCES


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
        """The columns that a name means: the one of that key, or those of its metric or subject.

        A name that says nothing of how a figure was measured means the default way, whatever others there are.
        """
        parsed = Name.parse(name)
        exact = [column for column in self.columns if name == column.key]
        return exact or [column for column in self.columns if column.is_named(parsed)]

    def columns_like(self, name: str) -> list[Column]:
        """The columns that a name means or, for one that says nothing of how, all of its metric or subject."""
        parsed = Name.parse(name)
        if parsed.chosen:
            return self.columns_named(name)
        return [column for column in self.columns if parsed.fits(column.name)]

    def shown(self, names: Sequence[str] | None) -> list[Column]:
        """The columns that some of `names` speak of, all for None; of these those that an artifact has, if any.

        By its very key a column is shown that the uncompressed model alone has.
        """
        found = [
            column
            for column in self.columns
            if names is None or any(column in self.columns_like(name) for name in names)
        ]
        keys = names or ()
        return [column for column in found if column.of_artifacts or column.key in keys] or found

    def preferred(self, columns: Sequence[Column]) -> Column | None:
        """The one of some columns that size is weighed against unless another is chosen: what people ask for first."""

        def place(column: Column) -> tuple[bool, int, bool]:
            known = PREFERRED.index(column.name) if column.name in PREFERRED else len(PREFERRED)
            return not column.of_artifacts, known, bool(column.label)

        return min(columns, key=place, default=None)

    @property
    def quality(self) -> Column | None:
        """The figure that size is weighed against unless another is chosen."""
        return self.preferred(self.columns)

    def chosen(self, name: str | None) -> Column | None:
        """The figure that size is weighed against: the one named, or `quality`.

        Raises `UsageError` for a name that is no figure's here.
        """
        if name is None:
            return self.quality
        if not (found := self.columns_like(name)):
            there = ", ".join(column.key for column in self.columns) or "none"
            raise UsageError(f"{self.model} has no figure {name!r}; there are: {there}")
        return self.preferred(found)

    def best(self, name: str) -> set[int]:
        """The rows, by number, that are best in a fact or column; none where fewer than two artifacts have it.

        Sizes that differ by no more than 1 % are equal, and where all are there is no best. A figure that is infinite
        is the best of nothing, nor is one that is not told apart from all others.
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
        near = EQUAL * abs(best) if name in SIZES else 0.0
        found = {number for number, value in numbers.items() if isfinite(value) and abs(value - best) <= near}
        if name in SIZES and len(found) == len(numbers):
            return set()
        return found if column is None or self._is_ahead(column, found, numbers.keys() - found) else set()

    def _is_ahead(self, column: Column, first: Collection[int], rest: Collection[int]) -> bool:
        """Whether rows are told apart from all others in a column, as far as the records tell errors."""
        return all(self._differ(column, one, other) for one in first for other in rest)

    def _differ(self, column: Column, one: int, other: int) -> bool:
        """Whether two rows' figures are told apart: by the paired test, or by both errors where they are no pair.

        Figures of which no error is known are as they are.
        """
        first, second = (self.rows[number].figures[column.key] for number in (one, other))
        if known := first.paired(second):
            return known.told_apart
        distance = abs(first.value - second.value)
        return not distance <= Z95 * hypot(first.own_error, second.own_error)

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

        Size is the table's; sizes that differ by no more than 1 % are equal, and between tables of one size a figure
        is better where it is told apart. Rows without the figure, or with an infinite one, are not among them.
        """
        sign = 1 if quality.lower_is_better else -1
        points = {
            number: (row.table_mb, sign * row.figures[quality.key].value)
            for number, row in enumerate(self.rows)
            if quality.key in row.figures and isfinite(row.figures[quality.key].value)
        }

        def beats(one: int, other: int) -> bool:
            (size, figure), (others, theirs) = points[one], points[other]
            if size > others * (1 + EQUAL) or figure > theirs:
                return False
            return size < others * (1 - EQUAL) or (figure < theirs and self._differ(quality, one, other))

        return {number for number in points if not any(beats(other, number) for other in points)}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "columns": [column.as_dict() for column in self.columns],
            "rows": [row.as_dict() for row in self.rows],
            "held_against": self.held_against,
        }
