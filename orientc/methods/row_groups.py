"""Row groups of rows: which rows have bits of their own, and how a table in codes is put together row group by row group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from orientc.modeling.factors import Factors

Parts = tuple[Tensor, Tensor, Tensor]  # packed codes, scales and offsets
_SMALLEST = 256


def row_groups_of(weights: Tensor) -> list[Tensor]:
    """Rows from the weightiest to the lightest in row groups that halve in size; ids ascend in a row group.

    One row group where all weights are the same.
    """
    order = weights.argsort(descending=True, stable=True)
    if weights.max() == weights.min():
        return [order.sort().values]
    edges = [len(order)]
    while edges[0] // 2 >= _SMALLEST:
        edges.insert(0, edges[0] // 2)
    return [order[start:end].sort().values for start, end in zip([0, *edges], edges, strict=False)]


def spread_sample(rows: Tensor, size: int) -> Tensor:
    """At most `size` of some rows, evenly spaced."""
    if len(rows) <= size:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, size, device=rows.device).round().long()]


def put_together(
    factors: Factors,
    codec: str,
    bits: Sequence[Sequence[int]],
    *,
    group_size: int,
    row_groups: Sequence[Tensor],
    parts: Iterable[Parts],
) -> Factors:
    """The same table with the `parts` of each row group in the place of its plain latents.

    `row_groups` are the rows' ids, ascending, of each row group; `bits` those of its groups of `group_size` columns.
    """
    tensors = {name: tensor for name, tensor in factors.tensors.items() if name != "latents"}
    for row_group, found in enumerate(parts):
        names = (f"latents.{row_group}.{name}" for name in ("codes", "scales", "offsets"))
        tensors |= dict(zip(names, found, strict=True))
    if len(row_groups) > 1:
        tensors["latents.row_groups"] = _numbers(row_groups, factors.layout.rows)
    layout = replace(
        factors.layout,
        codec=codec,
        group_size=group_size,
        bits=tuple(tuple(row_group) for row_group in bits),
        row_group_sizes=tuple(len(rows) for rows in row_groups),
    )
    return Factors(layout, tensors)


def _numbers(row_groups: Sequence[Tensor], vocab: int) -> Tensor:
    """The number of each row's row group, uint8 `[vocab]`."""
    found = torch.empty(vocab, dtype=torch.uint8, device=row_groups[0].device)
    for number, rows in enumerate(row_groups):
        found[rows] = number
    return found
