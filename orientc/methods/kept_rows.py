"""Kept rows: store the heaviest rows of a table as they are, and compress the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from orientc.methods.importance import Importance
from orientc.methods.linear_algebra import add_gram, congruent, principal_directions
from orientc.methods.table_rows import TableRows, some_rows
from orientc.modeling.factors import Factors

Fit = Callable[[TableRows, Importance], Factors]  # compresses rows of a table, given their importance


@dataclass(frozen=True)
class Plan:
    """How many of the heaviest rows to keep, and the rank of the others.

    Attributes:
        count: Number of kept rows.
        rank: Rank of the others.
    """

    count: int
    rank: int


@torch.no_grad()
def best(table: TableRows, nbytes: int, importance: Importance, *, itemsize: int, id_size: int = 4) -> Plan | None:
    """Choose how many of the heaviest rows to keep, and the rank of the others, for the least cost at a size.

    Nothing is fitted: a truncated SVD costs the sum of the eigenvalues it leaves out. Ever fewer kept rows are tried
    for as long as they cost less: the fewer, the less the rank saves that their bytes pay for.

    Args:
        table: `[vocab, dim]` of any float type.
        nbytes: Bytes that the tensors may take.
        importance: What a change of a row costs.
        itemsize: Bytes of a stored float.
        id_size: Bytes of the id of a kept row.

    Returns:
        What costs least; None where not even rank 1 fits.
    """
    vocab, dim = table.shape
    order = importance.weights.argsort(descending=True, stable=True)
    counts = {0, *(vocab >> shift for shift in range(2, 12))}
    if importance.weights.max() == importance.weights.min():
        counts = {0}
    ranks = {
        count: _rank(vocab - count, dim, _left(nbytes, count, dim, itemsize, id_size), itemsize)
        for count in sorted(counts, reverse=True)
    }
    ranks = {count: rank for count, rank in ranks.items() if rank >= 1}
    if len(ranks) < 2:
        return next((Plan(count, rank) for count, rank in ranks.items()), None)
    factor = None if importance.even else importance.factor().float()  # no more exact than A is held

    covariance, later = torch.zeros(dim, dim, dtype=torch.float64, device=table.device), vocab
    least, plan = math.inf, None
    for count, rank in ranks.items():  # ever fewer kept rows, so that rows are added to the covariance
        added = order[count:later].sort().values
        add_gram(covariance, some_rows(table, added), weights=importance.weights[added])
        later = count
        turned = covariance.clone() if factor is None else congruent(covariance.clone(), factor)
        total = turned.trace()
        _, values = principal_directions(turned, rank)
        cost = float(total - values.sum()) if rank < dim else 0.0
        if plan is not None and cost >= least:
            break
        least, plan = cost, Plan(count, rank)
    return plan


def _left(nbytes: int, count: int, dim: int, itemsize: int, id_size: int) -> int:
    """Bytes left beside `count` kept rows."""
    return nbytes - count * (dim * itemsize + (id_size if count else 0))


def _rank(rows: int, dim: int, nbytes: int, itemsize: int) -> int:
    """The largest rank of so many rows, with its decoder, within so many bytes."""
    return min(dim, nbytes // (itemsize * (rows + dim)))


def weightiest(weights: Tensor, count: int) -> Tensor:
    """The ids of the `count` heaviest rows, ascending."""
    return weights.argsort(descending=True, stable=True)[:count].sort().values


def around(
    table: TableRows, ids: Tensor, importance: Importance, fit: Fit, *, dtype: torch.dtype = torch.float32
) -> Factors:
    """Compress a table with some rows kept as they are.

    Args:
        table: `[vocab, dim]` of any float type.
        ids: Ids of the rows to keep, ascending.
        importance: What a change of a row costs.
        fit: Compresses the other rows.
        dtype: Type of the rows kept.
    """
    if not len(ids):
        return fit(table, importance)
    others = torch.ones(len(table), dtype=torch.bool, device=table.device)
    others[ids] = False
    rest = others.nonzero().squeeze(1)
    return fit(some_rows(table, rest), importance.of_rows(rest)).with_kept(ids, table[ids].to(dtype))
