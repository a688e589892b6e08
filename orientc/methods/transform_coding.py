"""A table in the fewest bits for what it costs the model: transform coding with bits where they count.

Rows are written in the orthonormal coordinates that the weighted table has in the importance (the closed form of `svd`),
where errors of different coordinates add up and need no feedback. Coordinates differ in variance and rows in how often
they occur, so row groups of rows and groups of columns get bits by their share of the cost: reverse water-filling (Cover and
Thomas, Elements of Information Theory, 10.3.3), done greedily with distortions measured on the rows themselves. All
rows of a row group share their columns' scales, which so take next to no bytes.
A group that gets no bits in any row group is rank that is not kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orientc.methods import per_channel, svd
from orientc.methods.bit_allocation import SCALE_BYTES, Cell, allocate
from orientc.methods.importance import Importance
from orientc.methods.row_groups import row_groups_of
from orientc.modeling.factors import Factors
from orientc.modeling.layout import MOST_BITS, packed_bytes

GROUP = 8


@torch.no_grad()
def transform_code(
    table: Tensor, nbytes: int, importance: Importance, *, dtype: torch.dtype, group_size: int = GROUP
) -> Factors | None:
    """The table in at most `nbytes` bytes, its decoder in `dtype`; None where the budget is too small for this form.

    Each `group_size` coordinates have bits together.
    """
    vocab, dim = table.shape
    whole = svd.truncated_svd(table, dim, importance=importance)
    latents, weight, groups = whole.latents, whole.weight, -(-dim // group_size)
    assert weight is not None
    row_groups = row_groups_of(importance.weights)
    steps = [per_channel.steps(latents, rows, importance.weights) for rows in row_groups]
    cells = [
        cell for rows, own in zip(row_groups, steps, strict=True) for cell in _cells(len(rows), own.costs, group_size)
    ]
    smallest = sum(cell.sizes[1] for cell in cells[::groups])  # each row group has bits for its first group
    kept = groups
    while kept:
        rank = min(dim, kept * group_size)
        left = nbytes - dim * rank * dtype.itemsize - (vocab if len(row_groups) > 1 else 0)
        if left < smallest:
            kept -= 1
            continue
        own = [cells[row_group * groups + number] for row_group in range(len(row_groups)) for number in range(kept)]
        flat = allocate(own, left, [int(number % kept == 0) for number in range(len(own))])
        bits = [flat[row_group * kept : (row_group + 1) * kept] for row_group in range(len(row_groups))]
        used = max(number for row_group in bits for number, width in enumerate(row_group) if width) + 1
        if used == kept:
            break
        kept = used  # what the decoder is smaller by goes into bits
    else:
        return None
    narrow = Factors.plain(latents[:, :rank].contiguous(), weight[:, :rank].contiguous())
    return per_channel.quantize_per_channel(narrow, bits, steps, group_size=group_size, row_groups=row_groups)


def _cells(rows: int, costs: Tensor, group_size: int) -> list[Cell]:
    """A row group's groups of columns, from the `costs [MOST_BITS + 1, dim]` of its columns by bits."""
    cells = []
    for own in costs.split(group_size, dim=1):
        width = own.shape[1]
        sizes = [rows * packed_bytes(width, bits) + width * SCALE_BYTES for bits in range(1, MOST_BITS + 1)]
        cells.append(Cell([0, *sizes], own.sum(1).tolist()))
    return cells
