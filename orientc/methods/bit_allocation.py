"""Where bits go: to what saves the most cost for a byte."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

SCALE_BYTES = 4  # a scale and an offset


@dataclass(frozen=True)
class Cell:
    """Something to give bits to: `sizes[b]` bytes it takes at b bits, `costs[b]` what it costs then."""

    sizes: Sequence[int]
    costs: Sequence[float]


def allocate(cells: Sequence[Cell], budget: int, least: Sequence[int] | None = None) -> list[int]:
    """Bits for each cell so that the costs add up to little and the sizes to at most `budget`.

    Greedy along the lower convex hull of each cell: what saves the most cost per byte goes first. `least` are bits to
    begin with, 0 unless given.
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
                # of a few columns' codes several widths take the same bytes
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
