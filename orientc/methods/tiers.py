"""Tiers of rows: which rows have bits of their own, and how a table in codes is put together tier by tier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from orientc.factors import Factors

Parts = tuple[Tensor, Tensor, Tensor]  # packed codes, scales and offsets
_SMALLEST = 256


def tiers_of(weights: Tensor) -> list[Tensor]:
    """Rows from the weightiest to the lightest in tiers that halve in size; ids ascend in a tier.

    One tier where all weights are the same.
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
    group: int,
    tiers: Sequence[Tensor],
    parts: Iterable[Parts],
) -> Factors:
    """The same table with the `parts` of each tier in the place of its plain latents.

    `tiers` are the rows' ids, ascending, of each tier; `bits` those of its groups of `group` columns.
    """
    tensors = {name: tensor for name, tensor in factors.tensors.items() if name != "latents"}
    for tier, found in enumerate(parts):
        names = (f"latents.{tier}.{name}" for name in ("codes", "scales", "offsets"))
        tensors |= dict(zip(names, found, strict=True))
    if len(tiers) > 1:
        tensors["latents.tiers"] = _numbers(tiers, factors.layout.rows)
    layout = replace(
        factors.layout,
        codec=codec,
        group=group,
        bits=tuple(tuple(tier) for tier in bits),
        tier_rows=tuple(len(rows) for rows in tiers),
    )
    return Factors(layout, tensors)


def _numbers(tiers: Sequence[Tensor], vocab: int) -> Tensor:
    """The number of each row's tier, uint8 `[vocab]`."""
    found = torch.empty(vocab, dtype=torch.uint8, device=tiers[0].device)
    for number, rows in enumerate(tiers):
        found[rows] = number
    return found
