"""Truncated singular value decomposition, exact: the baseline, also under an importance matrix and row weights."""

from __future__ import annotations

import torch
from torch import Tensor

from orientc.methods.importance import Importance
from orientc.methods.linear_algebra import gram, map_rows, principal_directions
from orientc.modeling.factors import CHUNK, Factors


def weighted_directions(covariance: Tensor, importance: Importance) -> tuple[Tensor, Tensor]:
    """The encoder and decoder of all principal directions under an importance matrix, the largest first.

    Args:
        covariance: The rows' weighted Gram matrix, float64 `[dim, dim]`.
        importance: What a change of a row costs.

    Returns:
        Columns of `A^½·V` and of `A^-½·V`, float64 `[dim, dim]`, scaled so that latents are as large as the table.
    """
    root, inverse = importance.roots()
    scale = importance.matrix.diagonal().mean().sqrt()  # latents stay within float16
    root, inverse = root / scale, inverse * scale
    directions, _ = principal_directions(root @ covariance @ root)
    return root @ directions, inverse @ directions


def truncated_svd(table: Tensor, rank: int, *, center: bool = False, importance: Importance | None = None) -> Factors:
    """The best approximation of a table at a rank in the least-squares sense (Eckart and Young 1936).

    `latents = (E − mean)·V` and `decoder.weight = V`, with the right singular vectors V. With an importance matrix A
    and row weights F it is the best one by that cost: V are the right singular vectors of `F^½ E A^½`, `latents = (E −
    mean)·A^½·V`, `decoder.weight = A^-½·V`, and the mean is the weighted one.

    Args:
        table: E, `[vocab, dim]` of any float type.
        rank: Width of the latents.
        center: Subtract the mean row, which becomes `decoder.bias`; otherwise the mean is 0.
        importance: What a change of a row costs; the same for all rows and directions unless given.

    Returns:
        Factors in float32.
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
        encoder, decoder = (part[:, :rank] for part in weighted_directions(covariance, importance))
    # With an importance matrix latents are computed in float64: the decoder would enlarge a float32 encoder's rounding.
    dtype = torch.float32 if importance is None else torch.float64
    encoder, shift = encoder.to(dtype), None if mean is None else mean.to(dtype)
    latents = map_rows(
        table, rank, lambda rows: (rows.to(dtype) if shift is None else rows.to(dtype) - shift) @ encoder
    )
    return Factors.plain(latents, decoder.float().contiguous(), None if mean is None else mean.float())
