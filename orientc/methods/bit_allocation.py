"""Bit allocation: spend a budget of bytes where it lowers the cost most."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

SCALE_BYTES = 4  # a scale and an offset, float16 each


@dataclass(frozen=True)
class Cell:
    """A group of columns of one row group, which has one number of bits.

    Attributes:
        sizes: Bytes it takes at 0, 1, 2 … bits.
        costs: What it costs at 0, 1, 2 … bits, in any unit.
    """

    sizes: Sequence[int]
    costs: Sequence[float]


def allocate(cells: Sequence[Cell], budget: int, least: Sequence[int] | None = None) -> list[int]:
    """Choose bits for each cell so that the total cost is low and the sizes stay within a budget.

    Greedy along the lower convex hull of each cell: the step that saves the most cost per byte goes first.

    Args:
        cells: What bits can be given to.
        budget: Bytes.
        least: Bits that cells begin with; 0 unless given.

    Returns:
        The bits of each cell.
    """
    bits = list(least) if least is not None else [0] * len(cells)
    left = budget - sum(cell.sizes[own] for cell, own in zip(cells, bits, strict=True))
    queue: list[tuple[float, int, int]] = []

    def offer(number: int) -> None:
        """Queue the best step that a cell can still take."""
        cell, now = cells[number], bits[number]
        steps = []
        for more in range(now + 1, len(cell.sizes)):
            gain, grown = cell.costs[more] - cell.costs[now], cell.sizes[more] - cell.sizes[now]
            if gain < 0 and grown <= left:
                # the codes of a few columns can take the same bytes at several bits
                steps.append((gain / grown if grown else -math.inf, number, more))
        if steps:
            heapq.heappush(queue, min(steps))

    for number in range(len(cells)):
        offer(number)
    while queue:
        _, number, more = heapq.heappop(queue)
        step = cells[number].sizes[more] - cells[number].sizes[bits[number]]
        if step <= left:
            left -= step
            bits[number] = more
        offer(number)
    return bits
