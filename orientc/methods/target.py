"""The best table of a given size: every form that fits is made, or judged without making it, by what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from orientc.errors import FitError
from orientc.factors import Factors
from orientc.layout import MOST_BITS, packed_bytes
from orientc.methods import kept, quantize, svd, transform
from orientc.methods.metric import Metric
from orientc.methods.transform import GROUP, SCALE_BYTES, Cell, allocate, numbered, spread_sample, tiers_of

_SAMPLE = 256  # rows of a tier that are rounded to see what that costs


@dataclass(frozen=True)
class Choice:
    """The table chosen, the name of its form, and what each form that fits was found to cost."""

    factors: Factors
    form: str
    costs: Mapping[str, float]


def fit(table: Tensor, nbytes: int, metric: Metric, *, dtype: torch.dtype) -> Choice:
    """The table `[vocab, dim]` in at most `nbytes` bytes, floats in `dtype`, in the form that costs least.

    Forms: "transform" (see there), "groups" (the rows themselves in codes, bits by tiers of rows, with feedback) and
    "rank" (latents as numbers, and the weightiest rows kept). "transform" is for a metric that is known: it takes bits
    from directions in which the table varies little, and to a model those may matter most. Raises `FitError` where
    nothing is that small.
    """
    candidates = {
        "transform": transform.fit(table, nbytes, metric, dtype=dtype) if metric.known else None,
        "groups": groups(table, nbytes, metric),
        "rank": rank_and_kept(table, nbytes, metric, dtype=dtype),
    }
    made = {name: factors.to(dtype) for name, factors in candidates.items() if factors is not None}
    if not made:
        raise FitError(f"the table can't be made as small as {nbytes} bytes: choose a larger target")
    costs = {
        name: metric.cost(factors.map(lambda tensor: tensor.to(table.device)), table) for name, factors in made.items()
    }
    if not (costs := {name: cost for name, cost in costs.items() if isfinite(cost)}):
        raise FitError(f"the table's numbers do not fit into {str(dtype).removeprefix('torch.')} or float16 scales")
    form = min(costs, key=lambda name: costs[name])
    return Choice(made[form], form, costs)


@torch.no_grad()
def groups(table: Tensor, nbytes: int, metric: Metric) -> Factors | None:
    """Rows in codes without a decoder, tiers of rows with bits of their own; None where the budget is too small."""
    vocab, dim = table.shape
    tiers, count = tiers_of(metric.weights), -(-dim // GROUP)
    cells = []
    for rows in tiers:
        own = spread_sample(rows, _SAMPLE)
        share = float(metric.weights[rows].sum() / metric.weights[own].sum())
        sizes, costs = [0], [metric.weighted(table[own].float(), own) * share]
        for bits in range(1, MOST_BITS + 1):
            widths = [min(GROUP, dim - start) for start in range(0, dim, GROUP)]
            sizes.append(len(rows) * sum(packed_bytes(width, bits) + SCALE_BYTES for width in widths))
            coded = quantize.fit(Factors.plain(table[own].float()), [[bits] * count], group=GROUP, metric=metric.matrix)
            costs.append(metric.weighted(coded.dense() - table[own].float(), own) * share)
        cells.append(Cell(sizes, costs))
    fixed = vocab if len(tiers) > 1 else 0
    if fixed + sum(cell.sizes[1] for cell in cells) > nbytes:
        return None
    bits_of = allocate(cells, nbytes - fixed, [1] * len(cells))
    return quantize.fit(
        Factors.plain(table.float()),
        [[bits] * count for bits in bits_of],
        group=GROUP,
        metric=metric.matrix,
        tiers=numbered(tiers, vocab) if len(tiers) > 1 else None,
    )


@torch.no_grad()
def rank_and_kept(table: Tensor, nbytes: int, metric: Metric, *, dtype: torch.dtype) -> Factors | None:
    """Latents of the best rank as numbers, and as many of the weightiest rows kept as pays; None where nothing fits."""
    best = kept.best(table, nbytes, metric, itemsize=dtype.itemsize)
    if best is None:
        return None
    count, rank = best
    ids = kept.weightiest(metric.weights, count)
    return kept.around(table, ids, metric, lambda rest, own: svd.fit(rest, rank, metric=own))
