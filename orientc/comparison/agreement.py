"""Records of the same thing measured in the same way: equal ones are one, others contradict each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orientc.comparison.columns import way_of
from orientc.storage.records import DIVERGENCES, Record
from orientc.utils.files import canonical_json

LARGEST_DIFFERENCE = 1e-6  # relative, between figures that are the same but for rounding
# Absolute, in nats and as a share: a divergence is a small difference of numbers that are rounded, and of two tokens
# that are as likely either may be the top one.
LARGEST_OF_DIVERGENCES = {"kl": 1e-5, "kl_p99": 1e-4, "kl_max": 1e-4, "same_top": 1e-3}


def once_each(read: Sequence[tuple[Path, Record]]) -> tuple[list[Record], set[str], list[str]]:
    """Take each record once, and find the cells, as of `cell_of`, in which records contradict each other.

    What they ran on, and when, does not make them different, nor do divergences that one was measured without; of
    equal records the one with the most figures is taken. Where two contradict each other nothing tells which one is
    right, so that the cell has no figure at all: not by another seed either, whose mean it would be a part of. Its
    column is there all the same, so that a gate is missed rather than met by another column.

    Returns:
        The records, the cells in doubt, and a line for each of these.
    """
    by_measured: dict[str, list[tuple[Path, Record]]] = {}
    for path, record in read:
        by_measured.setdefault(canonical_json(record.measured), []).append((path, record))
    lines: list[str] = []
    doubtful: set[str] = set()
    for (first, one), *others in by_measured.values():
        for path, other in others:
            if names := _differing(one, other):
                figures = ", ".join(f"{name} {one.metrics.get(name)} and {other.metrics.get(name)}" for name in names)
                lines.append(f"{first} and {path} contradict each other ({figures}): remove one, or measure again")
                doubtful.add(cell_of(one))
                break
    fullest = [max((record for _, record in reversed(entries)), key=_count) for entries in by_measured.values()]
    return fullest, doubtful, lines


def cell_of(record: Record) -> str:
    """What a record's figures are a part of: a row, and a way to measure."""
    measured = {name: value for name, value in record.measured.items() if name not in ("settings", "data", "text")}
    return canonical_json([measured, way_of(record)])


def _count(record: Record) -> int:
    return len(record.metrics)


def _differing(one: Record, other: Record) -> list[str]:
    names = dict.fromkeys((*one.metrics, *other.metrics))
    left_out = {name for name in DIVERGENCES if name not in one.metrics or name not in other.metrics}
    return [
        name
        for name in names
        if name not in left_out and not _equal(name, one.metrics.get(name), other.metrics.get(name))
    ]


def _equal(name: str, one: Any, other: Any) -> bool:
    if not (isinstance(one, int | float) and isinstance(other, int | float)):
        return bool(one == other)
    absolute = LARGEST_OF_DIVERGENCES.get(name, 0.0)
    return math.isclose(one, other, rel_tol=LARGEST_DIFFERENCE, abs_tol=absolute)
