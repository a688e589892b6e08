"""Truncated singular value decomposition: the baseline, exact; and the same in a importance, with weights for the rows."""

from __future__ import annotations

import torch
from torch import Tensor

from orientc.methods.blocks import by_blocks
from orientc.methods.importance import Importance
from orientc.modeling.factors import CHUNK, Factors

STRIPS = 8  # that a Gram matrix is computed in, each from its diagonal on: 9/16 of the work


def gram(table: Tensor, mean: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """`(E − mean)ᵀ F (E − mean)` in float64, `[dim, dim]`, for a table `[vocab, dim]` of any float type.

    F has `weights [vocab]` on its diagonal, 1 where there are none.
    """
    dim = table.shape[1]
    total = torch.zeros(dim, dim, dtype=torch.float64, device=table.device)
    width = -(-dim // STRIPS)
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
    return by_blocks(table, 1, lambda rows: rows.float().norm(dim=1, keepdim=True)).squeeze(1)


def principal_directions(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors as columns and eigenvalues of a symmetric matrix `[dim, dim]`, float64, largest first.

    Of a table's Gram matrix they are the right singular vectors and squared singular values: `EᵀE = V S² Vᵀ`. Each
    vector's sign is fixed (its largest entry is positive) so that the result does not depend on the linear-algebra
    library's choice.
    """
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return vectors * largest.sign(), values


def truncated_svd(table: Tensor, rank: int, *, center: bool = False, importance: Importance | None = None) -> Factors:
    """Best approximation of rank `rank` in the least-squares sense (Eckart and Young 1936).

    `table` is `[vocab, dim]` of any float type; the factors are float32: `latents = (E − mean)·V`,
    `decoder.weight = V`, and with `center` the mean row as `decoder.bias`. With a `importance` of matrix A and weights F it
    is the best one there: of the right singular vectors V of `F^½ E A^½` come `latents = (E − mean)·A^½·V` and
    `decoder.weight = A^-½·V`, and the mean is weighted. Latents are coordinates in the importance, orthonormal
    but for its scale.
    """
    weights = None if importance is None else importance.weights
    mean = None
    if center:
        masses = table.new_ones(len(table), dtype=torch.float64) if weights is None else weights
        parts = zip(masses.split(CHUNK), table.split(CHUNK), strict=True)
        mean = torch.stack([part @ rows.double() for part, rows in parts]).sum(0) / masses.sum()
    covariance = gram(table, mean, weights)
    if importance is None:
        directions, _ = principal_directions(covariance)
        encoder = decoder = directions[:, :rank]
    else:
        root, inverse = importance.roots()
        scale = importance.matrix.diagonal().mean().sqrt()  # latents are of the table's size then, in float16's range
        root, inverse = root / scale, inverse * scale
        directions, _ = principal_directions(root @ covariance @ root)
        encoder, decoder = root @ directions[:, :rank], inverse @ directions[:, :rank]
    # rounded to float32 once: a plain encoder can be float32 itself, but a importance's decoder would enlarge its rounding
    dtype = torch.float32 if importance is None else torch.float64
    encoder, shift = encoder.to(dtype), None if mean is None else mean.to(dtype)
    latents = by_blocks(
        table, rank, lambda rows: (rows.to(dtype) if shift is None else rows.to(dtype) - shift) @ encoder
    )
    return Factors.plain(latents, decoder.float().contiguous(), None if mean is None else mean.float())
