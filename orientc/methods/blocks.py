"""A whole table passed through a formula, a few MB of it at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from orientc.modeling.factors import CHUNK


@torch.no_grad()
def by_blocks(table: Tensor, width: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    """`change` of all rows, float32 `[rows, width]`, for a table `[rows, dim]` of any float type.

    `change` takes a block `[n, dim]` to `[n, width]`. The result is there from the start: blocks of it made in turn
    with larger tensors would leave gaps in memory that nothing fits into.
    """
    changed = torch.empty(len(table), width, device=table.device)
    for block, part in zip(table.split(CHUNK), changed.split(CHUNK), strict=True):
        part.copy_(change(block))
    return changed
