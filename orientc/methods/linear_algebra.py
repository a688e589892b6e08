"""Linear algebra on whole tables, block by block: Gram matrix, row norms, principal directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from orientc.modeling.factors import CHUNK

_STRIPS = 8  # a Gram matrix is computed in strips from the diagonal on: 9/16 of the work


@torch.no_grad()
def map_rows(table: Tensor, width: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to a table, some MB of rows at a time.

    The result is allocated first: blocks of it made between larger temporaries would leave gaps in memory.

    Args:
        table: `[rows, dim]` of any float type.
        width: Width of the result.
        function: Takes a block `[n, dim]` to `[n, width]`.

    Returns:
        Float32 `[rows, width]`.
    """
    result = torch.empty(len(table), width, device=table.device)
    for block, part in zip(table.split(CHUNK), result.split(CHUNK), strict=True):
        part.copy_(function(block))
    return result


def gram(table: Tensor, mean: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """The Gram matrix `(E − mean)ᵀ F (E − mean)` with the weights on the diagonal of F.

    Args:
        table: E, `[vocab, dim]` of any float type.
        mean: A row to subtract, float64 `[dim]`.
        weights: Float64 `[vocab]`; all 1 unless given.

    Returns:
        Float64 `[dim, dim]`.
    """
    dim = table.shape[1]
    total = torch.zeros(dim, dim, dtype=torch.float64, device=table.device)
    width = -(-dim // _STRIPS)
    for start in range(0, len(table), CHUNK):
        rows = table[start : start + CHUNK].double()
        if mean is not None:
            rows = rows - mean
        weighted = rows if weights is None else rows * weights[start : start + CHUNK].unsqueeze(1)
        for left in range(0, dim, width):
            strip = slice(left, left + width)
            total[strip, left:].addmm_(rows[:, strip].T, weighted[:, left:])
    return total.triu() + total.triu(1).T


def norms(table: Tensor) -> Tensor:
    """Euclidean norms of the rows, float32 `[vocab]`, of a table `[vocab, dim]` of any float type."""
    return map_rows(table, 1, lambda rows: rows.float().norm(dim=1, keepdim=True)).squeeze(1)


def principal_directions(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors and eigenvalues of a symmetric matrix, largest first.

    For a Gram matrix they are the table's right singular vectors and squared singular values: `EᵀE = V S² Vᵀ`. The
    sign of each vector is fixed (its largest entry is positive), so that it does not depend on the LAPACK in use.

    Args:
        covariance: Float64 `[dim, dim]`.

    Returns:
        The eigenvectors as columns, `[dim, dim]`, and the eigenvalues, `[dim]`.
    """
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return vectors * largest.sign(), values
