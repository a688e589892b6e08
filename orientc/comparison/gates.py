"""Conditions on rows: which to show, and gates that every row has to meet.

rank <= 64                    a number
method == svd                 a word
perplexity.tied <= 1.2x       times the uncompressed model's
sst2.accuracy >= -0.5pt       percentage points from the uncompressed model's
perplexity.tied <= 1.2x @95%  the same of all of the 95 % interval

The grammar is `NAME SIGN VALUE`: a name of a fact or figure; one of <= >= == != < >; a number, perhaps with `x` or
`pt`, or for == and != a word; perhaps ` @95%`, for what is measured and one of <= >= < >. With `x` or `pt` the interval
is that of the paired difference from the uncompressed model.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from orientc.comparison.numbers import figure
from orientc.comparison.rows import ROW_NAMES, Column, Comparison, Figure, Row
from orientc.errors import UsageError
from orientc.storage.records import DIVERGENCES
from orientc.storage.sizes import INPUT_ONLY, TIED, UNTIED

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
FACT_NAMES = (*ROW_NAMES, *(f"model_mb.{head}" for head in (INPUT_ONLY, TIED, UNTIED)))
_FORM = re.compile(
    r"\s*(?P<name>[^<>=!\s][^<>=!]*?)\s*(?P<sign><=|>=|==|!=|<|>)\s*(?P<value>[^<>=!].*?)(?P<sure>\s*@\s*95\s*%)?\s*"
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
        if unit and found["name"].partition(".")[0] in DIVERGENCES:
            raise UsageError(f"{text!r}: {found['name']} is held against the uncompressed model already: give a number")
        if unit == "pt" and (found["name"] in FACT_NAMES or found["name"].partition(".")[0] == "perplexity"):
            raise UsageError(f"{text!r}: {found['name']} has no percentage points: say how many times, as in 1.2x")
        condition = cls(text, found["name"], found["sign"], float(number["number"]), unit, bool(found["sure"]))
        condition._check_interval()
        return condition

    def _check_interval(self) -> None:
        if not self.sure:
            return
        if self.sign in ("==", "!=") or self.name in FACT_NAMES:
            raise UsageError(f"{self.text!r}: @95% is for what is measured, with <=, <, >= or >")
        if self.unit == "x" and self.name.partition(".")[0] != "perplexity":
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


@dataclass(frozen=True)
class Failure:
    """A gate that a row misses.

    `figure` is the figure's name, `value` what the row has, and `original` what the uncompressed model has; None where
    there is none.
    """

    model: str
    row: Row
    condition: Condition
    figure: str
    value: float | str | None
    original: float | None = None
    scale: float = 1.0

    def __str__(self) -> str:
        """The row, what it has, in the gate's own unit too, and what was required, in one line."""
        told = [_told(self.value), *(f"({part})" for part in [", ".join(self._in_its_unit)] if part)]
        return f"{self.model}, {self.row.name}: {self.figure} is {' '.join(told)}, required {self.condition.text}"

    @property
    def _in_its_unit(self) -> list[str]:
        if not isinstance(self.value, int | float):
            return []
        told, unit = [], self.condition.unit
        if unit:
            if self.original is None or not math.isfinite(self.original) or (unit == "x" and not self.original):
                return [f"uncompressed {_told(self.original)}"]
            points = (self.value - self.original) / self.scale * 100
            told.append(_in_unit(self.value / self.original if unit == "x" else points, unit))
        if self.condition.sure:
            end = self.condition.bound(self.row.figures.get(self.figure), scale=self.scale)
            told.append("no error is known: measure again" if end is None else f"95 %: {_in_unit(end, unit)}")
        return told


def failures(comparisons: Iterable[Comparison], conditions: Iterable[Condition]) -> list[Failure]:
    """Where artifacts miss a condition, in every column it speaks of; a figure that is not there misses it.

    A condition that no row can be held against, because there is no artifact at all, is missed by the uncompressed.
    """
    conditions = list(conditions)
    return [
        Failure(comparison.model, row, condition, name, value, original, scale)
        for comparison in comparisons
        for row in [row for row in comparison.rows if not row.original] or comparison.rows
        for condition in conditions
        for name, value, original, scale in _held_against(comparison, row, condition.name)
        if row.original or not _met(condition, row, name, value, original, scale)
    ]


def meets(row: Row, comparison: Comparison, condition: Condition) -> bool:
    """Whether a row has what a condition asks for, in every column it speaks of."""
    return all(
        _met(condition, row, name, value, original, scale)
        for name, value, original, scale in _held_against(comparison, row, condition.name)
    )


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


def check_names(comparisons: Iterable[Comparison], names: Iterable[str], facts: Collection[str] = FACT_NAMES) -> None:
    """Raise `UsageError` for a name that is neither one of `facts` nor a figure's in any comparison."""
    comparisons = list(comparisons)
    for name in names:
        if name not in facts and not any(c.columns_named(name) for c in comparisons):
            there = dict.fromkeys([*facts, *(column.name for c in comparisons for column in c.columns)])
            raise UsageError(f"there is nothing called {name!r} here; there are {', '.join(there)}")


def select(comparison: Comparison, where: Iterable[Condition], sort: str | None = None) -> Comparison:
    """The comparison with the rows that meet every condition, the uncompressed one always first.

    `sort` is the name of what the rest is sorted by, "-" before it for the largest first; rows without it come last.
    """
    where = list(where)
    original, *rows = comparison.rows
    rows = [row for row in rows if all(meets(row, comparison, condition) for condition in where)]
    if sort:
        name = sort.removeprefix("-")
        column = comparison.chosen(name) if comparison.columns_named(name) else None
        key = column.key if column else name
        having = [row for row in rows if row.value(key) is not None]
        having.sort(key=lambda row: row.value(key), reverse=sort.startswith("-"))  # type: ignore[arg-type,return-value]
        rows = having + [row for row in rows if row.value(key) is None]
    return replace(comparison, rows=(original, *rows))


def _held_against(
    comparison: Comparison, row: Row, name: str
) -> list[tuple[str, float | str | None, float | None, float]]:
    """What a condition's name stands for in a row: name, value, the uncompressed model's value, and its 100 %."""
    original = comparison.rows[0]
    columns = comparison.columns_named(name)
    if columns:
        return [
            (column.key, row.value(column.key), _number(original.value(column.key)), _scale(column))
            for column in columns
        ]
    return [(name, row.value(name), _number(original.value(name)), 1.0)]


def _scale(column: Column) -> float:
    """SQuAD's figures go to 100, all other scores to 1."""
    return 100.0 if column.name.startswith("squad.") else 1.0


def _number(value: float | str | None) -> float | None:
    return None if isinstance(value, str) else value


def _in_unit(value: float, unit: str) -> str:
    return f"{value:+.2f} pt".replace("-", "−") if unit == "pt" else f"{figure(value, 4)}{'×' if unit else ''}"


def _told(value: float | str | None) -> str:
    return "not measured" if value is None else figure(value, 4) if isinstance(value, float) else str(value)
