"""Row groups: rows that share bits and scales, by frequency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from orientc.modeling.factors import Factors

CodedRows = tuple[Tensor, Tensor, Tensor]  # a row group's packed codes, scales and offsets
_SMALLEST = 256  # rows


def row_groups_of(weights: Tensor, smallest: int = _SMALLEST) -> list[Tensor]:
    """Split rows by weight into row groups, each of half the rows that the next one has.

    Args:
        weights: `[vocab]`.
        smallest: Rows of the first group at least.

    Returns:
        The ids of each row group, ascending; the group of the heaviest rows first. One group where all weights are
        equal.
    """
    order = weights.argsort(descending=True, stable=True)
    if weights.max() == weights.min():
        return [order.sort().values]
    edges = [len(order)]
    while edges[0] // 2 >= smallest:
        edges.insert(0, edges[0] // 2)
    return [order[start:end].sort().values for start, end in zip([0, *edges], edges, strict=False)]


def spread_sample(rows: Tensor, size: int) -> Tensor:
    """Choose at most `size` of some rows `[n]`, evenly spaced."""
    if len(rows) <= size:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, size, device=rows.device).round().long()]


def coded_factors(
    factors: Factors,
    codec: str,
    bits: Sequence[Sequence[int]],
    *,
    group_size: int,
    row_groups: Sequence[Tensor],
    coded: Iterable[CodedRows],
) -> Factors:
    """Replace the latents of a compressed table by codes.

    Args:
        factors: A table whose latents are stored as numbers.
        codec: "per-group".
        bits: For each row group the bits of each group of columns.
        group_size: Columns of a group.
        row_groups: The ids of the rows of each row group, ascending.
        coded: Codes, scales and offsets of each row group.
    """
    tensors = {name: tensor for name, tensor in factors.tensors.items() if name != "latents"}
    for row_group, found in enumerate(coded):
        names = (f"latents.{row_group}.{name}" for name in ("codes", "scales", "offsets"))
        tensors |= dict(zip(names, found, strict=True))
    if len(row_groups) > 1:
        tensors["latents.row_groups"] = row_group_numbers(row_groups, factors.layout.rows)
    layout = replace(
        factors.layout,
        codec=codec,
        group_size=group_size,
        bits=tuple(tuple(row_group) for row_group in bits),
        row_group_sizes=tuple(len(rows) for rows in row_groups),
    )
    return Factors(layout, tensors)


def row_group_numbers(row_groups: Sequence[Tensor], rows: int) -> Tensor:
    """The number of each row's row group, uint8 `[rows]`."""
    found = torch.empty(rows, dtype=torch.uint8, device=row_groups[0].device)
    for number, ids in enumerate(row_groups):
        found[ids] = number
    return found
