"""Conditions on rows: which to show, and gates that every row has to meet.

rank <= 64                          a number
method == svd                       a word
perplexity.tied <= 1.2x             times the uncompressed model's
sst2.accuracy >= -0.5pt             percentage points from the uncompressed model's
perplexity.tied <= 1.2x @95%        the same of all of the 95 % interval
perplexity.tied[limit=100] <= 1.2x  as it was measured with a limit

The grammar is `NAME SIGN VALUE`: a name of a fact or figure (`names`); one of <= >= == != < >; a number, perhaps with
`x` or `pt`, or for == and != a word; perhaps ` @95%`, for what is measured and one of <= >= < >. With `x` or `pt` the
interval is that of the paired difference from the uncompressed model.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orientc.comparison.names import METRICS, OF_A_POLICY, Name, subject_of
from orientc.comparison.numbers import figure
from orientc.comparison.rows import ROW_NAMES, Column, Comparison, Figure, Row
from orientc.errors import UsageError
from orientc.storage.records import DIVERGENCES
from orientc.storage.sizes import POLICIES

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_SIGNS = {"<=": "≤", ">=": "≥", "==": "=", "!=": "≠"}
FACT_NAMES = (*ROW_NAMES, *(f"model_mb.{head}" for head in POLICIES))
_FORM = re.compile(
    r"\s*(?P<name>[^<>=!\s\[][^<>=!\[]*?(\s*\[.*\])?)\s*(?P<sign><=|>=|==|!=|<|>)\s*(?P<value>[^<>=!].*?)(?P<sure>\s*@\s*95\s*%)?\s*"
)
_NUMBER = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)\s*(?P<unit>x|×|pt)?", re.IGNORECASE)


@dataclass(frozen=True)
class Condition:
    """A condition.

    `unit` is "x" or "pt" for a value relative to the uncompressed model's, else ""; `sure` is whether all of the 95 %
    interval has to meet it.
    """

    text: str
    name: str
    sign: str
    value: float | str
    unit: str
    sure: bool = False

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition as it is written. Raises `UsageError` where the text is none, or its number is too large."""
        found = _FORM.fullmatch(text)
        if not found:
            raise UsageError(f"{text!r} is no condition: write NAME <= VALUE, such as 'perplexity.tied <= 1.2x'")
        number = _NUMBER.fullmatch(found["value"])
        if not number:
            if found["sign"] not in ("==", "!="):
                raise UsageError(f"{text!r}: {found['value']!r} is no number, so it can only be == or !=")
            return cls(text, found["name"], found["sign"], found["value"] + (found["sure"] or ""), "")
        if not math.isfinite(float(number["number"])):
            raise UsageError(f"{text!r}: {number['number']} is larger than any figure")
        unit = (number["unit"] or "").lower().replace("×", "x")
        subject = subject_of(Name.parse(found["name"]).metric)
        if unit and subject in DIVERGENCES:
            raise UsageError(f"{text!r}: {found['name']} is held against the uncompressed model already: give a number")
        if unit == "pt" and (found["name"] in FACT_NAMES or subject == "perplexity"):
            raise UsageError(f"{text!r}: {found['name']} has no percentage points: say how many times, as in 1.2x")
        condition = cls(text, found["name"], found["sign"], float(number["number"]), unit, bool(found["sure"]))
        condition._check_interval()
        return condition

    def _check_interval(self) -> None:
        if not self.sure:
            return
        if self.sign in ("==", "!=") or self.name in FACT_NAMES:
            raise UsageError(f"{self.text!r}: @95% is for what is measured, with <=, <, >= or >")
        if self.unit == "x" and subject_of(Name.parse(self.name).metric) != "perplexity":
            raise UsageError(f"{self.text!r}: @95% of how many times is for perplexities; give points, as in -0.5pt")

    def bound(self, figure: Figure | None, *, scale: float = 1.0) -> float | None:
        """The end of a figure's 95 % interval that has to meet it, in its unit; None where no error is known.

        `scale` is what the figure calls 100 %.
        """
        upper = self.sign in ("<=", "<")
        if figure is None:
            return None
        if not self.unit:
            return figure.high if upper else figure.low
        known = figure.versus_original
        if known is None or known.relative != (self.unit == "x"):
            return None
        end = known.high if upper else known.low
        return end if self.unit == "x" else end / scale * 100

    def holds(self, value: float | str | None, original: float | None = None, *, scale: float = 1.0) -> bool:
        """Whether a value meets it. None does not, nor does a number that is not finite, whatever the sign.

        Against the uncompressed model's figure (`original`) nothing meets it where that is missing or not finite, and
        no value is so many times 0. `scale` is what the figure calls 100 %.
        """
        if value is None or isinstance(value, str) != isinstance(self.value, str):
            return False
        if isinstance(value, str) or isinstance(self.value, str):
            return _OPERATORS[self.sign](value, self.value)
        if not math.isfinite(value):
            return False
        if not self.unit:
            return _OPERATORS[self.sign](value, self.value)
        if original is None or not math.isfinite(original) or (self.unit == "x" and original == 0):
            return False
        # rounded beyond what a float can hold: 0.895 - 0.9 is to be -0.5pt, and 1.15x of 20 no less than 23
        if self.unit == "x":
            return _OPERATORS[self.sign](round(value - self.value * original, 9), 0)
        return _OPERATORS[self.sign](round((value - original) / scale * 100, 9), self.value)

    @property
    def required(self) -> str:
        """What it asks for, as people write it: "≤ 1.2×"."""
        sign = _SIGNS.get(self.sign, self.sign)
        if isinstance(self.value, str):
            return f"{sign} {self.value}"
        return f"{sign} {_in_unit(f'{self.value:g}', self.unit)}" + (" @95 %" if self.sure else "")


@dataclass(frozen=True)
class Verdict:
    """Whether a row meets a gate in one figure.

    Attributes:
        of: The comparison.
        row: The row; None where there is none that could meet it.
        condition: The gate.
        figure: The figure's name, as far as one is there with all that was chosen.
        value: What the row has; None where it was not measured.
        original: What the uncompressed model has.
        scale: What the figure calls 100 %.
        met: Whether it is met.
        others: Names of figures that were measured in another way than the gate's.
    """

    of: Comparison
    row: Row | None
    condition: Condition
    figure: str
    value: float | str | None = None
    original: float | None = None
    scale: float = 1.0
    met: bool = False
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The row, what it has in the gate's own unit, and what was required, in one line."""
        if self.row is None:
            return f"{self.of.model}: there is no row to meet {self.figure} {self.condition.required}"
        return f"{self.of.model}, {self.row.name}: {self.figure} is {self._told}, required {self.condition.required}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `found` and `end`, that of the interval, are in the gate's unit."""
        condition = self.condition
        return {
            "condition": condition.text,
            "figure": self.figure,
            "value": self.value,
            "found": self.found,
            "end": self._end,
            "sign": condition.sign,
            "required": condition.value,
            "unit": condition.unit,
            "sure": condition.sure,
            "met": self.met,
        }

    @property
    def found(self) -> float | str | None:
        """What the row has in the gate's unit; None where that can't be said."""
        unit = self.condition.unit
        if not unit or not isinstance(self.value, int | float):
            return self.value
        if self.original is None or not math.isfinite(self.original) or (unit == "x" and not self.original):
            return None
        return self.value / self.original if unit == "x" else (self.value - self.original) / self.scale * 100

    @property
    def _end(self) -> float | None:
        if not self.condition.sure or self.row is None:
            return None
        return self.condition.bound(self.row.figures.get(self.figure), scale=self.scale)

    @property
    def _told(self) -> str:
        if self.value is None:
            return f"not measured{_so(self.others)}"
        if self.found is None:
            return f"{_plain(self.value)} (uncompressed {_plain(self.original)})"
        told = self._shown(self.found)
        if self.condition.sure:
            told += " (no error is known: measure again)" if self._end is None else f" (95 %: {self._shown(self._end)})"
        return told

    def _shown(self, found: float | str) -> str:
        """A value with as many digits as it takes to see on which side of what is required it is."""
        unit, required = self.condition.unit, self.condition.value
        if isinstance(found, str) or isinstance(required, str) or not math.isfinite(found):
            return _plain(found)
        first = 1 if unit == "pt" else 2
        for decimals in range(first, 10):
            rounded = round(found, decimals)
            if (rounded > required, rounded < required) == (found > required, found < required):
                break
        if not unit and decimals == first:
            return _plain(found)
        return _in_unit(f"{rounded:+.{decimals}f}" if unit == "pt" else f"{rounded:.{decimals}f}", unit)


def verdicts(comparisons: Iterable[Comparison], conditions: Iterable[Condition]) -> list[Verdict]:
    """Hold every artifact against every condition, in each column that it speaks of.

    A figure that is not there misses it, and where there is no artifact at all there is nothing that meets it.
    """
    conditions = list(conditions)
    return [
        verdict
        for comparison in comparisons
        for row in _artifacts(comparison) or (None,)
        for condition in conditions
        for verdict in _verdicts(comparison, row, condition)
    ]


def _artifacts(comparison: Comparison) -> tuple[Row | None, ...]:
    return tuple(row for row in comparison.rows if not row.original)


def _verdicts(comparison: Comparison, row: Row | None, condition: Condition) -> list[Verdict]:
    if row is None:
        return [Verdict(comparison, None, condition, condition.name)]
    return [
        Verdict(
            comparison, row, condition, name, value, original, scale,
            _met(condition, row, name, value, original, scale),
            () if value is not None else other_ways(comparison, condition.name, row),
        )
        for name, value, original, scale in _held_against(comparison, row, condition.name)
    ]  # fmt: skip


def other_ways(comparison: Comparison, name: str, row: Row | None = None) -> tuple[str, ...]:
    """The figures of a name's metric that were measured in other ways: of a row, or of any artifact."""
    metric = Name.parse(name).metric
    return tuple(
        column.key
        for column in comparison.columns_like(metric)
        if column.of_artifacts and column not in comparison.columns_named(name)
        if row is None or column.key in row.figures
    )


def meets(row: Row, comparison: Comparison, condition: Condition) -> bool:
    """Whether a row has what a condition asks for, in every column it speaks of."""
    return all(verdict.met for verdict in _verdicts(comparison, row, condition))


def _met(
    condition: Condition, row: Row, name: str, value: float | str | None, original: float | None, scale: float
) -> bool:
    """Whether a row meets a condition in one column, with all of its interval where that is asked."""
    if not condition.holds(value, original, scale=scale):
        return False
    if not condition.sure:
        return True
    end = condition.bound(row.figures.get(name), scale=scale)
    return end is not None and replace(condition, unit="").holds(end)


def check_names(
    comparisons: Iterable[Comparison], names: Iterable[str], facts: Collection[str] = FACT_NAMES, *, there: bool = False
) -> None:
    """Raise `UsageError` for a name that is neither one of `facts` nor a known figure's, and says which are known.

    Args:
        comparisons: What there is to compare: figures of other tools are known by that alone.
        names: The names.
        facts: Names that are no figures'.
        there: Whether a figure has to be there as well.
    """
    columns = [column for comparison in comparisons for column in comparison.columns]
    for name in names:
        if name in facts or any(name == column.key for column in columns):
            continue
        parsed = Name.parse(name)
        settings = {setting for column in columns for setting in column.measured}
        if there and not any(parsed.fits(column.name) for column in columns):
            measured = dict.fromkeys([*facts, *(column.key for column in columns)])
            raise UsageError(f"there is nothing called {name!r} here; there are {', '.join(measured)}")
        unknown = parsed.unknown([column.name for column in columns], settings)
        if unknown is not None and unknown in parsed.chosen:
            raise UsageError(
                f"{name!r}: nothing is measured with {unknown!r}; in brackets are settings, as [limit=100]"
            )
        if unknown is not None:
            raise UsageError(f"nothing is called {name!r}; known are {', '.join(_known(facts, columns))}")


def _known(facts: Iterable[str], columns: Iterable[Column]) -> list[str]:
    """All names, the head policies of a metric in one."""
    policies = "|".join(POLICIES)
    metrics = [metric for metric in METRICS if subject_of(metric) not in OF_A_POLICY]
    of_others = [column.name for column in columns if column.name not in METRICS]
    return [*dict.fromkeys([*facts, *(f"{metric}.{policies}" for metric in OF_A_POLICY), *metrics, *of_others])]


def select(comparison: Comparison, where: Iterable[Condition], sort: str | None = None) -> Comparison:
    """The comparison with the rows that meet every condition, the uncompressed one always first.

    `sort` is the name of what the rest is sorted by, "-" before it for the largest first; rows without it come last.
    """
    where = list(where)
    original, *rows = comparison.rows
    rows = [row for row in rows if all(meets(row, comparison, condition) for condition in where)]
    if sort:
        name = sort.removeprefix("-")
        column = comparison.chosen(name) if comparison.columns_like(name) else None
        key = column.key if column else name
        having = [row for row in rows if row.value(key) is not None]
        having.sort(key=lambda row: row.value(key), reverse=sort.startswith("-"))  # type: ignore[arg-type,return-value]
        rows = having + [row for row in rows if row.value(key) is None]
    return replace(comparison, rows=(original, *rows))


def nothing_left(before: Comparison, after: Comparison, where: Iterable[Condition]) -> str | None:
    """A line where no artifact is left by conditions, and what of them was not measured; None where one is."""
    where = list(where)
    if not where or len(after.rows) > 1 or len(before.rows) == 1:
        return None
    told = " and ".join(repr(condition.text) for condition in where)
    named = [condition.name for condition in where if condition.name not in FACT_NAMES]
    lacking = [name for name in named if not any(c.of_artifacts for c in before.columns_named(name))]
    ways = [f"{name} is not measured{_so(other_ways(before, name))}" for name in dict.fromkeys(lacking)]
    return f"{before.model}: no row is left by `where` {told}" + (f": {'; '.join(ways)}" if ways else "")


def _so(others: Sequence[str]) -> str:
    return f" so (there is {', '.join(others)})" if others else ""


def _held_against(
    comparison: Comparison, row: Row, name: str
) -> list[tuple[str, float | str | None, float | None, float]]:
    """What a condition's name stands for in a row: name, value, the uncompressed model's value, and its 100 %.

    A figure that no artifact was measured for is no column of theirs.
    """
    original = comparison.rows[0]
    if name not in FACT_NAMES:
        return [
            (column.key, row.value(column.key), _number(original.value(column.key)), _scale(column))
            for column in comparison.columns_named(name)
            if column.of_artifacts
        ] or [(name, None, None, 1.0)]
    return [(name, row.value(name), _number(original.value(name)), 1.0)]


def _scale(column: Column) -> float:
    """SQuAD's figures go to 100, all other scores to 1."""
    return 100.0 if column.name.startswith("squad.") else 1.0


def _number(value: float | str | None) -> float | None:
    return None if isinstance(value, str) else value


def _in_unit(number: str, unit: str) -> str:
    return number.replace("-", "−") + {"x": "×", "pt": " pt"}.get(unit, "")


def _plain(value: float | str | None) -> str:
    return "not measured" if value is None else figure(value, 4) if isinstance(value, float) else str(value)
