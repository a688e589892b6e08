"""Transform coding: rows in the eigenbasis of the importance matrix, bits by reverse water-filling.

The coordinates are the latents of `svd.truncated_svd` at full rank under the importance matrix: uncorrelated, and
errors in them add up, so that no error feedback is needed. Each row group and group of columns gets bits by its share
of the cost: reverse water-filling (Cover and Thomas, Elements of Information Theory, 10.3.3), greedily, with errors
measured on the rows. Scales are per channel and take next to no bytes. Columns that get no bits in any row group are
left out: the rank is smaller by them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orientc.methods import per_channel, svd
from orientc.methods.bit_allocation import SCALE_BYTES, Cell, allocate
from orientc.methods.importance import Importance
from orientc.methods.row_groups import row_groups_of
from orientc.methods.table_rows import TableRows
from orientc.modeling.factors import Factors
from orientc.modeling.layout import MOST_BITS, packed_bytes

GROUP = 8  # columns that have bits together


@torch.no_grad()
def transform_code(
    table: TableRows, nbytes: int, importance: Importance, *, dtype: torch.dtype, group_size: int = GROUP
) -> Factors | None:
    """Compress a table to a number of bytes by transform coding.

    Args:
        table: `[vocab, dim]` of any float type.
        nbytes: Bytes that the tensors may take.
        importance: What a change of a row costs.
        dtype: Type that the decoder will be stored in.
        group_size: Columns that have bits together.

    Returns:
        The compressed table; None where `nbytes` is too small for a decoder and codes.
    """
    vocab, dim = table.shape
    whole = svd.truncated_svd(table, dim, importance=importance)
    latents, weight, groups = whole.latents, whole.weight, -(-dim // group_size)
    assert weight is not None
    row_groups = row_groups_of(importance.weights)
    scales = [per_channel.channel_scales(latents, rows, importance.weights) for rows in row_groups]
    cells = [
        cell for rows, own in zip(row_groups, scales, strict=True) for cell in _cells(len(rows), own.costs, group_size)
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
        kept = used  # the decoder gets smaller, and there are more bytes for codes
    else:
        return None
    narrow = Factors.plain(latents[:, :rank].contiguous(), weight[:, :rank].contiguous())
    return per_channel.quantize_per_channel(narrow, bits, scales, group_size=group_size, row_groups=row_groups)


def _cells(rows: int, costs: Tensor, group_size: int) -> list[Cell]:
    """The cells of a row group of so many rows, from the costs of its columns at 0 to 8 bits, `[9, dim]`."""
    cells = []
    for own in costs.split(group_size, dim=1):
        width = own.shape[1]
        sizes = [rows * packed_bytes(width, bits) + width * SCALE_BYTES for bits in range(1, MOST_BITS + 1)]
        cells.append(Cell([0, *sizes], own.sum(1).tolist()))
    return cells
