"""What `compare` finds, and how to show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orientc.comparison.gates import Failure
from orientc.comparison.rows import Comparison
from orientc.utils.documents import document


@dataclass(frozen=True)
class Comparisons:
    """What `compare` finds: one comparison for each base model, and how to show it.

    `problems` has a line for each file that could not be used, `failures` one entry for each gate that an artifact
    misses. `columns` are the names of the facts and figures to show, None for all; `quality` is the name of the figure
    that size is weighed against, None for each comparison's own choice.
    """

    comparisons: tuple[Comparison, ...]
    problems: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    columns: tuple[str, ...] | None = None
    quality: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The comparisons as plain values for JSON, with every column."""
        return document("compare", {"comparisons": [comparison.as_dict() for comparison in self.comparisons]})
