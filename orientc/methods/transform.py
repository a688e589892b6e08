"""A table in the fewest bits for what it costs the model: transform coding with bits where they count.

Rows are written in the orthonormal coordinates that the weighted table has in the metric (the closed form of `svd`),
where errors of different coordinates add up and need no feedback. Coordinates differ in variance and rows in how often
they occur, so tiers of rows and groups of columns get bits by their share of the cost: reverse water-filling (Cover and
Thomas, Elements of Information Theory, 10.3.3), done greedily with distortions measured on the rows themselves. All
rows of a tier share their columns' scales, which so take next to no bytes.
A group that gets no bits in any tier is rank that is not kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orientc.factors import Factors
from orientc.layout import MOST_BITS, packed_bytes
from orientc.methods import columns, svd
from orientc.methods.allocation import SCALE_BYTES, Cell, allocate
from orientc.methods.metric import Metric
from orientc.methods.tiers import tiers_of

GROUP = 8


@torch.no_grad()
def fit(table: Tensor, nbytes: int, metric: Metric, *, dtype: torch.dtype, group: int = GROUP) -> Factors | None:
    """The table in at most `nbytes` bytes, its decoder in `dtype`; None where the budget is too small for this form.

    Each `group` coordinates have bits together.
    """
    vocab, dim = table.shape
    whole = svd.fit(table, dim, metric=metric)
    latents, weight, groups = whole.latents, whole.weight, -(-dim // group)
    assert weight is not None
    tiers = tiers_of(metric.weights)
    steps = [columns.steps(latents, rows, metric.weights) for rows in tiers]
    cells = [cell for rows, own in zip(tiers, steps, strict=True) for cell in _cells(len(rows), own.costs, group)]
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
    narrow = Factors.plain(latents[:, :rank].contiguous(), weight[:, :rank].contiguous())
    return columns.fit(narrow, bits, steps, group=group, tiers=tiers)


def _cells(rows: int, costs: Tensor, group: int) -> list[Cell]:
    """A tier's groups of columns, from the `costs [MOST_BITS + 1, dim]` of its columns by bits."""
    cells = []
    for own in costs.split(group, dim=1):
        width = own.shape[1]
        sizes = [rows * packed_bytes(width, bits) + width * SCALE_BYTES for bits in range(1, MOST_BITS + 1)]
        cells.append(Cell([0, *sizes], own.sum(1).tolist()))
    return cells
