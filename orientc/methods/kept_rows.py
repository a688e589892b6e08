"""Rows that are kept as they are: which, how many, and the others around them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from orientc.methods import svd
from orientc.methods.importance import Importance
from orientc.modeling.factors import Factors

Fit = Callable[[Tensor, Importance], Factors]  # rows of a table and their importance to what stands for them


@torch.no_grad()
def best(
    table: Tensor, nbytes: int, importance: Importance, *, itemsize: int, id_size: int = 4
) -> tuple[int, int] | None:
    """How many of the weightiest rows to keep, and the rank of the others, for the least cost in `nbytes` bytes.

    A number takes `itemsize` bytes, the id of a kept row `id_size`. What a rank costs is the sum of the eigenvalues it
    leaves out, so nothing is fitted. None where not even rank 1 fits.
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
    for count in reversed(counts):  # from the fewest latents to the most: rows are added to the covariance
        added = order[count:later].sort().values
        covariance += svd.gram(table[added], weights=importance.weights[added])
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
    """Ids of the `count` weightiest rows, ascending."""
    return weights.argsort(descending=True, stable=True)[:count].sort().values


def around(table: Tensor, ids: Tensor, importance: Importance, fit: Fit) -> Factors:
    """Rows `ids` kept as they are, `fit(other rows, their importance)` for the others."""
    if not len(ids):
        return fit(table, importance)
    others = torch.ones(len(table), dtype=torch.bool, device=table.device)
    others[ids] = False
    rest = others.nonzero().squeeze(1)
    return fit(table[rest], importance.of_rows(rest)).with_kept(ids, table[ids].float())
