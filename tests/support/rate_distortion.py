"""The rate–distortion function of a table whose coordinates are Gaussian: what no code of such numbers can go below.

A cell is a coordinate of a row group's rows. Coded with b bits a row at best it costs `cost · 2^(−2b)`, where `cost` is
what leaving it at its mean would (Shannon 1959). Bits go where they save most, until every cell that has any costs the
same per row: reverse water-filling (Cover and Thomas, Elements of Information Theory, 10.3.3). Real coordinates have
other distributions of the same variance, for which the function lies lower, never higher; and a code may know more of a
row than its group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orientc.methods import svd
from orientc.methods.importance import Importance

ROLES = {"codes": "code", "latents": "code", "scales": "scales", "offsets": "scales", "row_groups": "row-group ids"}


@dataclass(frozen=True)
class Cells:
    """Cells of a table.

    Attributes:
        rows: How many rows each has, float64 `[cells]`.
        costs: What each costs where nothing is stored of it, in the unit of `Importance.cost`, float64 `[cells]`.
    """

    rows: Tensor
    costs: Tensor

    @classmethod
    def of(cls, table: Tensor, importance: Importance, row_groups: Sequence[Tensor]) -> Cells:
        """The cells of a table `[vocab, dim]`: row groups by coordinates in the eigenbasis of its importance.

        These are the coordinates of transform coding: uncorrelated, and errors in them add up.
        """
        whole = svd.truncated_svd(table, table.shape[1], importance=importance)
        scales = importance.in_latents(whole.weight).diagonal()
        rows, costs = [], []
        for ids in row_groups:
            weights, latents = importance.weights[ids], whole.latents[ids].double()
            mean = weights @ latents / weights.sum()
            costs.append(weights @ (latents - mean).square() * scales)
            rows.append(torch.full_like(scales, len(ids)))
        return cls(torch.cat(rows), torch.cat(costs) / (2 * importance.weights.sum()))

    def bits(self, cost: float) -> float:
        """The fewest bits, of all rows together, at which Gaussian cells cost no more than `cost`."""
        if not cost > 0:
            raise ValueError(f"no number of bits brings the cost down to {cost}")
        per_row, order = (self.costs / self.rows).sort()
        rows, costs = self.rows[order], self.costs[order]
        # at a level between two cells' costs per row the cheaper ones are left out: they cost what they cost
        left_out = torch.cat([costs.new_zeros(1), costs.cumsum(0)[:-1]])
        levels = (cost - left_out) / rows.flip(0).cumsum(0).flip(0)
        fitting = (levels <= per_row).nonzero()
        if not len(fitting):
            return 0.0  # all of them left out cost less
        first = int(fitting[0])
        return float((rows[first:] * (per_row[first:] / levels[first]).log2()).sum() / 2)

    def cost(self, bits: float) -> float:
        """The least that Gaussian cells cost at so many bits of all rows together."""
        per_row, order = (self.costs / self.rows).sort(descending=True)
        rows, costs = self.rows[order], self.costs[order]
        count = int((per_row > 0).sum())
        logs = per_row[:count].log2()
        levels = ((rows[:count] * logs).cumsum(0) - 2 * bits) / rows[:count].cumsum(0)
        chosen = (levels <= logs).nonzero()
        last = int(chosen[-1]) if len(chosen) else -1  # the cheapest cell that has bits
        if last < 0:
            return float(costs.sum())
        return float(rows[: last + 1].sum() * 2 ** levels[last] + costs[last + 1 :].sum())


def by_role(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Bits of an artifact's tensors by what they are for: codes, decoder, scales, row-group ids, and others by name."""
    found: dict[str, int] = {}
    for name, tensor in tensors.items():
        first, last = name.split(".")[0], name.split(".")[-1]
        role = first if first in ("decoder", "kept") else ROLES.get(last, last)
        found[role] = found.get(role, 0) + 8 * tensor.numel() * tensor.element_size()
    return found


def row_groups_by(weights: Tensor, ratio: float, smallest: int) -> list[Tensor]:
    """Split rows by weight into groups, each `ratio` times as large as the heavier one before it."""
    order, edges = weights.argsort(descending=True, stable=True), [len(weights)]
    while edges[0] / ratio >= smallest:
        edges.insert(0, int(edges[0] / ratio))
    return [order[start:end] for start, end in zip([0, *edges], edges, strict=False)]
