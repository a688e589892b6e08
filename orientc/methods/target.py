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
from orientc.methods.transform import SCALE_BYTES, Cell, allocate, numbered, spread_sample, tiers_of

_SAMPLE = 256  # rows of a tier that are rounded to see what that costs
_WIDTHS = (48, 64, 128, 256)  # of groups of columns: of few groups in wide steps of bits, much of a budget is left over


@dataclass(frozen=True)
class Choice:
    """The table chosen, the name of its form, and what each form that fits was found to cost."""

    factors: Factors
    form: str
    costs: Mapping[str, float]


def fit(table: Tensor, nbytes: int, metric: Metric, *, dtype: torch.dtype) -> Choice:
    """The table `[vocab, dim]` in at most `nbytes` bytes, floats in `dtype`, in the form that costs least.

    Forms: "transform" (see there), "groups" (the rows themselves in codes with feedback, bits by tiers and columns) and
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
    """Rows in codes without a decoder, tiers of rows and groups of columns with bits of their own.

    Of the widths that groups can have, the one that promises the least cost. None where the budget is too small.
    """
    vocab, dim = table.shape
    tiers = tiers_of(metric.weights)
    left = nbytes - (vocab if len(tiers) > 1 else 0)
    found: tuple[float, int, list[int]] | None = None
    for width in sorted({min(width, dim) for width in _WIDTHS}):
        cells = [cell for rows in tiers for cell in _cells(table, rows, width, metric)]
        if sum(cell.sizes[1] for cell in cells) > left:
            continue
        bits = allocate(cells, left, [1] * len(cells))
        cost = sum(cell.costs[own] for cell, own in zip(cells, bits, strict=True))
        if found is None or cost < found[0]:
            found = cost, width, bits
    if found is None:
        return None
    _, width, bits = found
    count = -(-dim // width)
    return quantize.fit(
        Factors.plain(table.float()),
        [bits[start : start + count] for start in range(0, len(bits), count)],
        group=width,
        metric=metric.matrix,
        tiers=numbered(tiers, vocab) if len(tiers) > 1 else None,
    )


def _cells(table: Tensor, rows: Tensor, width: int, metric: Metric) -> list[Cell]:
    """Sizes and costs of a tier's groups of `width` columns, by bits, the same throughout its rows."""
    own = spread_sample(rows, _SAMPLE)
    original, weights = table[own].float(), metric.weights[own].unsqueeze(1)
    share = float(metric.weights[rows].sum() / weights.sum())
    widths = [min(width, table.shape[1] - start) for start in range(0, table.shape[1], width)]
    costs = []
    for bits in range(MOST_BITS + 1):
        changes = original
        if bits:
            coded = [[bits] * len(widths)]
            changes = quantize.fit(Factors.plain(original), coded, group=width, metric=metric.matrix).dense() - original
        by_column = (weights * (changes @ metric.matrix.to(changes)) * changes).sum(0) * share
        costs.append([float(part.sum()) for part in by_column.split(width)])
    sizes = [
        [0] + [len(rows) * (packed_bytes(columns, bits) + SCALE_BYTES) for bits in range(1, MOST_BITS + 1)]
        for columns in widths
    ]
    return [Cell(size, cost) for size, cost in zip(sizes, zip(*costs, strict=True), strict=True)]


@torch.no_grad()
def rank_and_kept(table: Tensor, nbytes: int, metric: Metric, *, dtype: torch.dtype) -> Factors | None:
    """Latents of the best rank as numbers, and as many of the weightiest rows kept as pays; None where nothing fits."""
    best = kept.best(table, nbytes, metric, itemsize=dtype.itemsize)
    if best is None:
        return None
    count, rank = best
    ids = kept.weightiest(metric.weights, count)
    return kept.around(table, ids, metric, lambda rest, own: svd.fit(rest, rank, metric=own))
