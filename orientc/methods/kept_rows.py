"""Kept rows: store the heaviest rows of a table as they are, and compress the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from orientc.methods.importance import Importance
from orientc.methods.linear_algebra import gram
from orientc.modeling.factors import Factors

Fit = Callable[[Tensor, Importance], Factors]  # compresses rows of a table, given their importance


@torch.no_grad()
def best(
    table: Tensor, nbytes: int, importance: Importance, *, itemsize: int, id_size: int = 4
) -> tuple[int, int] | None:
    """Choose how many of the heaviest rows to keep, and the rank of the others, for the least cost at a size.

    Nothing is fitted: a truncated SVD costs the sum of the eigenvalues it leaves out.

    Args:
        table: `[vocab, dim]` of any float type.
        nbytes: Bytes that the tensors may take.
        importance: What a change of a row costs.
        itemsize: Bytes of a stored float.
        id_size: Bytes of the id of a kept row.

    Returns:
        Number of kept rows and rank; None where not even rank 1 fits.
    """
    vocab, dim = table.shape
    root, _ = importance.roots()
    order = importance.weights.argsort(descending=True, stable=True)
    counts = sorted(
        {0, *(vocab >> shift for shift in range(2, 12))} if importance.weights.max() > importance.weights.min() else {0}
    )
    found: tuple[float, int, int] | None = None
    covariance = torch.zeros_like(importance.matrix)
    later = vocab
    for count in reversed(counts):  # ever fewer kept rows, so that rows are added to the covariance
        added = order[count:later].sort().values
        covariance += gram(table[added], weights=importance.weights[added])
        later = count
        left = nbytes - count * (dim * itemsize + (id_size if count else 0))
        rank = min(dim, left // (itemsize * (vocab - count + dim)))
        if rank < 1:
            continue
        values = torch.linalg.eigvalsh(root @ covariance @ root)
        cost = float(values[: dim - rank].clamp_min(0).sum())
        if found is None or cost < found[0]:
            found = cost, count, int(rank)
    return found and found[1:]


def weightiest(weights: Tensor, count: int) -> Tensor:
    """The ids of the `count` heaviest rows, ascending."""
    return weights.argsort(descending=True, stable=True)[:count].sort().values


def around(table: Tensor, ids: Tensor, importance: Importance, fit: Fit) -> Factors:
    """Compress a table with some rows kept as they are.

    Args:
        table: `[vocab, dim]` of any float type.
        ids: Ids of the rows to keep, ascending.
        importance: What a change of a row costs.
        fit: Compresses the other rows.
    """
    if not len(ids):
        return fit(table, importance)
    others = torch.ones(len(table), dtype=torch.bool, device=table.device)
    others[ids] = False
    rest = others.nonzero().squeeze(1)
    return fit(table[rest], importance.of_rows(rest)).with_kept(ids, table[ids].float())
