"""The best table of a given size: every form that fits is made, or judged without making it, by what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from orientc.errors import FitError
from orientc.methods import kept_rows, per_group, svd, transform_coding
from orientc.methods.bit_allocation import SCALE_BYTES, Cell, allocate
from orientc.methods.importance import Importance
from orientc.methods.row_groups import row_groups_of, spread_sample
from orientc.modeling.factors import Factors
from orientc.modeling.layout import MOST_BITS, packed_bytes

_SAMPLE = 1024  # rows of a row group that are rounded to see what that costs
_WIDTHS = (48, 64, 128, 256)  # of groups of columns: of few groups in wide steps of bits, much of a budget is left over


@dataclass(frozen=True)
class Choice:
    """The table chosen, the name of its form, and what each form that fits was found to cost."""

    factors: Factors
    form: str
    costs: Mapping[str, float]


def fit_to_size(table: Tensor, nbytes: int, importance: Importance, *, dtype: torch.dtype) -> Choice:
    """The table `[vocab, dim]` in at most `nbytes` bytes, floats in `dtype`, in the form that costs least.

    Forms: "groups" (the rows themselves in codes, scales by rows), "rank" (latents as numbers, and the weightiest rows
    kept) and, where the importance is known, "transform" (see there): without one, directions in which the table varies
    little, and rows unlike the others, may be those that matter most, and nothing says that they don't. Raises
    `FitError` where nothing is that small.
    """
    candidates = {
        "transform": transform_coding.transform_code(table, nbytes, importance, dtype=dtype)
        if importance.known
        else None,
        "groups": groups(table, nbytes, importance.weights),
        "rank": rank_and_kept(table, nbytes, importance, dtype=dtype),
    }
    made = {name: factors.to(dtype) for name, factors in candidates.items() if factors is not None}
    if not made:
        raise FitError(f"the table can't be made as small as {nbytes} bytes: choose a larger target")
    costs = {
        name: importance.cost(factors.map(lambda tensor: tensor.to(table.device)), table)
        for name, factors in made.items()
    }
    if not (costs := {name: cost for name, cost in costs.items() if isfinite(cost)}):
        raise FitError(f"the table's numbers do not fit into {str(dtype).removeprefix('torch.')} or float16 scales")
    form = min(costs, key=lambda name: costs[name])
    return Choice(made[form], form, costs)


@torch.no_grad()
def groups(table: Tensor, nbytes: int, weights: Tensor) -> Factors | None:
    """Rows in codes without a decoder, row groups of rows and groups of columns with bits of their own.

    Of the widths that groups can have, the one that promises the least squared error with the rows' `weights [vocab]`.
    None where the budget is too small.
    """
    vocab, dim = table.shape
    row_groups = row_groups_of(weights)
    left = nbytes - (vocab if len(row_groups) > 1 else 0)
    found: tuple[float, int, list[int]] | None = None
    for width in sorted({min(width, dim) for width in _WIDTHS}):
        cells = [cell for rows in row_groups for cell in _cells(table[rows].float(), weights[rows], width)]
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
    return per_group.quantize_per_group(
        Factors.plain(table.float()),
        [bits[start : start + count] for start in range(0, len(bits), count)],
        group_size=width,
        importance=torch.eye(dim, device=table.device),
        row_groups=row_groups,
    )


def _cells(table: Tensor, weights: Tensor, width: int) -> list[Cell]:
    """Sizes and costs of a row group's groups of `width` columns, by bits, the same throughout its rows."""
    places = spread_sample(torch.arange(len(table), device=table.device), _SAMPLE)
    own, share = weights[places], float(weights.sum() / weights[places].sum())
    cells = []
    for columns in table.split(width, dim=1):
        sampled, count = columns[places].T.contiguous(), columns.shape[1]
        sizes, costs = [0], [float((own * sampled.square().sum(0)).sum()) * share]
        for bits in range(1, MOST_BITS + 1):
            scale, offset = (part.float() for part in per_group.scale_and_offset(sampled, bits))
            errors = per_group.nearest(sampled, scale, offset, bits).mul_(scale).add_(offset).sub_(sampled)
            sizes.append(len(table) * (packed_bytes(count, bits) + SCALE_BYTES))
            costs.append(float((own * errors.square_().sum(0)).sum()) * share)
        cells.append(Cell(sizes, costs))
    return cells


@torch.no_grad()
def rank_and_kept(table: Tensor, nbytes: int, importance: Importance, *, dtype: torch.dtype) -> Factors | None:
    """Latents of the best rank as numbers, and as many of the weightiest rows kept as pays; None where nothing fits."""
    best = kept_rows.best(table, nbytes, importance, itemsize=dtype.itemsize)
    if best is None:
        return None
    count, rank = best
    ids = kept_rows.weightiest(importance.weights, count)
    return kept_rows.around(table, ids, importance, lambda rest, own: svd.truncated_svd(rest, rank, importance=own))
