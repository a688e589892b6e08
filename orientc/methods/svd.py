"""Truncated singular value decomposition: the baseline, exact."""

from __future__ import annotations

import torch
from torch import Tensor

from orientc.factors import CHUNK, Factors


def gram(table: Tensor, mean: Tensor | None = None) -> Tensor:
    """`(E − mean)ᵀ (E − mean)` in float64, `[dim, dim]`, for a table `[vocab, dim]` of any float type."""
    total = torch.zeros(table.shape[1], table.shape[1], dtype=torch.float64, device=table.device)
    for block in table.split(CHUNK):
        rows = block.double() if mean is None else block.double() - mean
        total += rows.T @ rows
    return total


def principal_directions(table: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Right singular vectors of the table as columns `[dim, dim]`, and squared singular values `[dim]`.

    Float64, largest first, from the Gram matrix: `EᵀE = V S² Vᵀ`. Each vector's sign is fixed (its largest
    entry is positive) so that the result does not depend on the linear-algebra library's choice.
    """
    values, vectors = torch.linalg.eigh(gram(table, mean))
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return vectors * largest.sign(), values


def fit(table: Tensor, rank: int, *, center: bool = False) -> Factors:
    """Best approximation of rank `rank` in the least-squares sense (Eckart and Young 1936).

    `table` is `[vocab, dim]` of any float type; the factors are float32: `latents = (E − mean)·V`,
    `decoder.weight = V`, and with `center` the mean row as `decoder.bias`.
    """
    mean = table.double().mean(dim=0) if center else None
    directions, _ = principal_directions(table, mean)
    kept = directions[:, :rank]
    latents = torch.cat(
        [((block.double() if mean is None else block.double() - mean) @ kept).float() for block in table.split(CHUNK)]
    )
    return Factors.plain(latents, kept.float().contiguous(), None if mean is None else mean.float())
