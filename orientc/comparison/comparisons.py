"""What `compare` finds, and how to show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orientc.comparison.gates import Verdict
from orientc.comparison.rows import Comparison
from orientc.utils.documents import document


@dataclass(frozen=True)
class Comparisons:
    """What `compare` finds: one comparison for each base model, and how to show it.

    Attributes:
        comparisons: The comparisons.
        problems: A line for each file that could not be used.
        verdicts: For each gate and artifact whether it is met.
        notes: A line for each comparison of which no row is left.
        columns: Names of the facts and figures to show, None for all.
        quality: Name of the figure that size is weighed against, None for each comparison's own choice.
    """

    comparisons: tuple[Comparison, ...]
    problems: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    quality: str | None = None

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The gates that are missed, by row."""
        return tuple(verdict for verdict in self.verdicts if not verdict.met)

    def as_dict(self) -> dict[str, Any]:
        """The comparisons as plain values for JSON, with every column; each row with its gates."""
        return document("compare", {"comparisons": [self._with_gates(comparison) for comparison in self.comparisons]})

    def _with_gates(self, comparison: Comparison) -> dict[str, Any]:
        own = [verdict for verdict in self.verdicts if verdict.of is comparison]
        values = comparison.as_dict()
        for row, made in zip(comparison.rows, values["rows"], strict=True):
            made["gates"] = [verdict.as_dict() for verdict in own if verdict.row is row]
        return values | {"met": all(verdict.met for verdict in own) if own else None}
