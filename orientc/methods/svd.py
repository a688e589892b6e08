"""Truncated singular value decomposition, exact: the baseline, also under an importance matrix and row weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orientc.methods.importance import Importance
from orientc.methods.linear_algebra import STRIP, congruent, gram, map_rows, principal_directions
from orientc.methods.table_rows import TableRows
from orientc.modeling.factors import Factors, rows_at_once


@dataclass(frozen=True)
class PrincipalBasis:
    """The coordinates that a truncated SVD keeps: latents of any rows are `(rows − mean) · encoder`.

    Attributes:
        encoder: `[dim, rank]`, float32; float64 under an importance matrix, whose decoder would enlarge the rounding.
        decoder: `[dim, rank]`, float32: rows are `latents · decoderᵀ + mean`.
        mean: The mean row, float64 `[dim]`; None where none is subtracted.
    """

    encoder: Tensor
    decoder: Tensor
    mean: Tensor | None = None

    @property
    def rank(self) -> int:
        """Width of the latents."""
        return self.encoder.shape[1]

    def latents(self, rows: Tensor) -> Tensor:
        """Latents `[n, rank]` of rows `[n, dim]` of any float type, in the encoder's."""
        wide = rows.to(self.encoder.dtype)
        return (wide if self.mean is None else wide - self.mean.to(wide)) @ self.encoder


@torch.no_grad()
def principal_basis(
    table: TableRows,
    rank: int | None = None,
    *,
    center: bool = False,
    importance: Importance | None = None,
) -> PrincipalBasis:
    """The basis of `truncated_svd`, without the latents of any row.

    Args:
        table: E, `[vocab, dim]` of any float type.
        rank: Width of the latents; all of `dim` unless given.
        center: Subtract the mean row.
        importance: What a change of a row costs; the same for all rows and directions unless given.
    """
    weights = None if importance is None else importance.weights
    mean = _mean(table, weights) if center else None
    directions = _directions(gram(table, mean, weights), importance, rank)
    if importance is None or importance.even:
        kept = directions.float().contiguous()
        return PrincipalBasis(kept, kept, mean)
    return PrincipalBasis(*_turned_back(directions, importance), mean)


def _directions(covariance: Tensor, importance: Importance | None, rank: int | None) -> Tensor:
    """The principal directions of a Gram matrix under an importance matrix; all of them are in its place."""
    if importance is not None and not importance.even:
        congruent(covariance, importance.factor())
    directions, _ = principal_directions(covariance, rank)
    return covariance.T.copy_(directions) if directions.shape == covariance.shape else directions


def _turned_back(directions: Tensor, importance: Importance) -> tuple[Tensor, Tensor]:
    """The encoder and decoder of the principal directions V under an importance matrix A = LLᵀ.

    Beside the directions and the importance matrix one matrix `[dim, dim]` is held at a time, and the decoder.

    Args:
        directions: V, float64 `[dim, rank]`. Its numbers are lost.
        importance: What a change of a row costs.

    Returns:
        `L·V`, float64 `[dim, rank]`, and `L^-ᵀ·V`, float32 `[dim, rank]`, scaled so that latents are as large as the
        table.
    """
    scale = importance.scale
    factor = importance.factor()  # made again, which takes little, rather than held beside the eigenvectors
    for columns in directions.split(STRIP, dim=1):
        columns.copy_(torch.linalg.solve_triangular(factor.T, columns, upper=True))
    del factor
    decoder = torch.empty_like(directions, dtype=torch.float32, memory_format=torch.contiguous_format)
    decoder.copy_(directions).mul_(scale)
    for columns in directions.split(STRIP, dim=1):
        columns.copy_(importance.product(columns)).div_(scale)
    return directions, decoder


def _mean(table: TableRows, weights: Tensor | None) -> Tensor:
    """The mean row by weight, float64 `[dim]`."""
    masses = torch.ones(len(table), dtype=torch.float64, device=table.device) if weights is None else weights
    size = rows_at_once(table.shape[1])
    parts = zip(masses.split(size), table.split(size), strict=True)
    total: Tensor = torch.stack([part @ rows.double() for part, rows in parts]).sum(0) / masses.sum()
    return total


def truncated_svd(
    table: TableRows,
    rank: int,
    *,
    center: bool = False,
    importance: Importance | None = None,
    dtype: torch.dtype = torch.float32,
) -> Factors:
    """The best approximation of a table at a rank in the least-squares sense (Eckart and Young 1936).

    `latents = (E − mean)·V` and `decoder.weight = V`, with the right singular vectors V. With an importance matrix A =
    LLᵀ and row weights F it is the best one by that cost: V are the right singular vectors of `F^½ E L`, `latents = (E
    − mean)·L·V`, `decoder.weight = L^-ᵀ·V`, and the mean is the weighted one.

    Args:
        table: E, `[vocab, dim]` of any float type.
        rank: Width of the latents.
        center: Subtract the mean row, which becomes `decoder.bias`; otherwise the mean is 0.
        importance: What a change of a row costs; the same for all rows and directions unless given.
        dtype: Type of the latents.

    Returns:
        Factors in float32 but for the latents.
    """
    basis = principal_basis(table, rank, center=center, importance=importance)
    latents = map_rows(table, basis.rank, basis.latents, dtype=dtype)
    return Factors.plain(latents, basis.decoder, None if basis.mean is None else basis.mean.float())
