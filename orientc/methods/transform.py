"""A table in the fewest bits for what it costs the model: transform coding with bits where they count.

Rows are written in the orthonormal coordinates that the weighted table has in the metric (the closed form of `svd`),
where errors of different coordinates add up and need no feedback. Coordinates differ in variance and rows in how often
they occur, so tiers of rows and groups of columns get bits by their share of the cost: reverse water-filling (Cover and
Thomas, Elements of Information Theory, 10.3.3), done greedily with distortions measured on the rows themselves.
A group that gets no bits in any tier is rank that is not kept.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orientc.factors import Factors
from orientc.layout import MOST_BITS, packed_bytes
from orientc.methods import quantize, svd
from orientc.methods.metric import Metric

GROUP = 64
SCALE_BYTES = 4  # a scale and an offset
_SMALLEST_TIER = 256
_SAMPLE = 1024  # rows of a tier that distortions are measured on


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


def tiers_of(weights: Tensor) -> list[Tensor]:
    """Rows from the weightiest to the lightest in tiers that halve in size; ids ascend in a tier.

    One tier where all weights are the same.
    """
    order = weights.argsort(descending=True, stable=True)
    if weights.max() == weights.min():
        return [order.sort().values]
    edges = [len(order)]
    while edges[0] // 2 >= _SMALLEST_TIER:
        edges.insert(0, edges[0] // 2)
    return [order[start:end].sort().values for start, end in zip([0, *edges], edges, strict=False)]


@torch.no_grad()
def fit(table: Tensor, nbytes: int, metric: Metric, *, dtype: torch.dtype, group: int = GROUP) -> Factors | None:
    """The table in at most `nbytes` bytes, its decoder in `dtype`; None where the budget is too small for this form."""
    vocab, dim = table.shape
    whole = svd.fit(table, dim, metric=metric)
    latents, groups = whole.latents, -(-dim // group)
    tiers = tiers_of(metric.weights)
    cells = [
        _cell(latents[rows][:, number * group : (number + 1) * group], metric.weights[rows])
        for rows in tiers
        for number in range(groups)
    ]
    smallest = sum(cell.sizes[1] for cell in cells[::groups])  # each tier has bits for its first group
    kept = groups
    while kept:
        rank = min(dim, kept * group)
        left = nbytes - dim * rank * dtype.itemsize - (vocab if len(tiers) > 1 else 0)
        if left < smallest:
            kept -= 1
            continue
        own = [cells[tier * groups + number] for tier in range(len(tiers)) for number in range(kept)]
        flat = allocate(own, left, [int(number % kept == 0) for number in range(len(own))])
        bits = [flat[tier * kept : (tier + 1) * kept] for tier in range(len(tiers))]
        used = max(number for tier in bits for number, width in enumerate(tier) if width) + 1
        if used == kept:
            break
        kept = used  # what the decoder is smaller by goes into bits
    else:
        return None
    assert whole.weight is not None
    narrow = Factors.plain(latents[:, :rank].contiguous(), whole.weight[:, :rank].contiguous())
    return quantize.fit(
        narrow,
        bits,
        group=group,
        metric=torch.eye(rank, device=table.device),
        tiers=numbered(tiers, vocab) if len(tiers) > 1 else None,
    )


def numbered(tiers: Sequence[Tensor], vocab: int) -> Tensor:
    """The number of each row's tier, uint8 `[vocab]`."""
    found = torch.empty(vocab, dtype=torch.uint8, device=tiers[0].device)
    for number, rows in enumerate(tiers):
        found[rows] = number
    return found


def spread_sample(rows: Tensor, size: int = _SAMPLE) -> Tensor:
    """At most `size` of some rows, evenly spaced."""
    if len(rows) <= size:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, size, device=rows.device).round().long()]


def _cell(latents: Tensor, weights: Tensor) -> Cell:
    """Sizes and costs of a tier's group of columns, `[rows, width]`, by bits."""
    (rows, width), places = latents.shape, spread_sample(torch.arange(len(latents), device=latents.device))
    sizes = [0] + [rows * (packed_bytes(width, bits) + SCALE_BYTES) for bits in range(1, MOST_BITS + 1)]
    sampled, own = latents[places], weights[places]
    total = float((weights * latents.square().sum(1)).sum())
    squares = float((own * sampled.square().sum(1)).sum())
    costs = [total]
    for bits in range(1, MOST_BITS + 1):
        scale, offset = (part.float() for part in quantize.scale_and_offset(sampled.T, bits))
        codes = quantize.nearest(sampled.T, scale, offset, bits)
        errors = (codes * scale + offset - sampled.T).square().sum(0)
        costs.append(total * float((own * errors).sum()) / squares if squares else 0.0)
    return Cell(sizes, costs)
