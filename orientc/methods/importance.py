"""The cost of changing a table: an importance matrix for directions, weights for rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orientc.methods.linear_algebra import STRIP, cholesky
from orientc.methods.table_rows import TableRows
from orientc.methods.token_statistics import TokenStatistics
from orientc.modeling.factors import Factors

_DAMPING = 1e-3  # added to the diagonal, in shares of its mean: no direction counts for nothing
# Added to the counts, in shares of their sum: other texts have other tokens, and the errors of a row without weight can
# be of any size.
_PRIOR = 1.0  # the calibration's prior
_EVEN = 0.1  # the same for all tokens


@dataclass(frozen=True)
class Importance:
    """A quadratic cost: changes `δe` of the rows cost `½ · Σ_i w_i · δe_iᵀ A δe_i` with `w = weights / Σ weights`.

    With a calibration's importance matrix, in nats per squared unit of the table, that is to second order the
    Kullback–Leibler divergence of the model's predictions per token.

    Attributes:
        given: The importance matrix A as it is held, `[dim, dim]`, positive definite, float32 or float64; None for the
            identity, which no matrix is held for.
        weights: Weights of the rows, float64 `[vocab]`.
        known: Whether A was measured; otherwise it is the identity.
    """

    given: Tensor | None
    weights: Tensor
    known: bool = True
    _dim: int = 0  # of the identity

    @classmethod
    def plain(cls, table: TableRows) -> Importance:
        """Importance of a table `[vocab, dim]` of which nothing is known: all rows and directions count the same."""
        vocab, dim = table.shape
        return cls(None, torch.ones(vocab, dtype=torch.float64, device=table.device), known=False, _dim=dim)

    @classmethod
    def of(cls, calibration: TokenStatistics, table: TableRows, *, head_weight: float = 1.0) -> Importance:
        """The importance that a calibration of this table measured: `A = M + head_weight · H`, weights by counts.

        This is the one place where measured matrices become a cost: each is shrunk towards its diagonal as far as the
        calibration says. A is held in float32, as they are measured.

        Args:
            calibration: Counts, and importance matrices if measured; without them A is the identity.
            table: `[vocab, dim]`.
            head_weight: 1 for a head that shares the compressed table, 0 for one that keeps the original.
        """
        counts = calibration.counts.to(table.device, torch.float64)
        weights = counts + _EVEN * counts.mean()
        if calibration.prior is not None:
            weights = weights + _PRIOR * calibration.prior.to(weights)
        if calibration.input_importance is None:
            return cls(None, weights, known=False, _dim=table.shape[1])
        measured = [(1.0, calibration.input_importance, calibration.input_shrinkage)]
        if calibration.head_importance is not None:
            measured.append((head_weight, calibration.head_importance, calibration.head_shrinkage))
        return cls(_sum(measured, table.device), weights)

    def to(self, device: torch.device) -> Importance:
        """The same importance on another device."""
        return replace(
            self, given=None if self.given is None else self.given.to(device), weights=self.weights.to(device)
        )

    @property
    def even(self) -> bool:
        """Whether all directions count the same: A is the identity."""
        return self.given is None

    @property
    def matrix(self) -> Tensor:
        """The importance matrix A, float64 `[dim, dim]`."""
        if self.given is None:
            return torch.eye(self._dim, dtype=torch.float64, device=self.weights.device)
        return self.given.double()

    @property
    def scale(self) -> float:
        """The root of the mean of A's diagonal: what rows `E·A^½` are larger by than those of E."""
        return 1.0 if self.given is None else math.sqrt(float(self.given.diagonal().double().mean()))

    def of_rows(self, ids: Tensor) -> Importance:
        """The importance of some of the rows."""
        return replace(self, weights=self.weights[ids])

    def roots(self) -> tuple[Tensor, Tensor]:
        """The symmetric roots `A^½` and `A^-½`, float64 `[dim, dim]`."""
        values, vectors = torch.linalg.eigh(self.matrix)
        roots = values.clamp_min(values[-1] * 1e-12).sqrt()
        return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T

    def factor(self) -> Tensor:
        """The Cholesky factor L of `A = LLᵀ`, lower triangular, float64 `[dim, dim]`."""
        return cholesky(self.matrix if self.given is None or self.given.dtype != torch.float64 else self.matrix.clone())

    def product(self, columns: Tensor) -> Tensor:
        """The product `A·X` with columns X, `[dim, n]`, in their type."""
        if self.given is None:
            return columns
        return torch.cat([rows.to(columns) @ columns for rows in self.given.split(STRIP)])

    def in_latents(self, decoder: Tensor | None) -> Tensor | None:
        """The importance matrix of latents, `Wᵀ A W` float64 `[rank, rank]`, for a linear decoder W `[dim, rank]`.

        Of rows that are their own latents it is A as it is held: None for the identity.
        """
        if decoder is None:
            return self.given
        weight = decoder.double()
        return weight.T @ self.product(weight)

    @torch.no_grad()
    def cost(self, factors: Factors, table: TableRows) -> float:
        """The cost of a compressed table against the original `[vocab, dim]`."""
        total, start = 0.0, 0
        for decoded in factors.chunks():
            ids = slice(start, start + len(decoded))
            total += self.weighted(decoded - table[ids].float(), ids)
            start += len(decoded)
        return 0.5 * total / float(self.weights.sum())

    def weighted(self, changes: Tensor, ids: Tensor | slice) -> float:
        """The sum `Σ weights_i · δe_iᵀ A δe_i` for changes `[rows, dim]` of the rows `ids`."""
        turned = changes if self.given is None else changes @ self.given.to(changes)
        return float((self.weights[ids] * (turned * changes).sum(1).double()).sum())


def _sum(measured: Sequence[tuple[float, Tensor, Tensor | None]], device: torch.device) -> Tensor:
    """The importance matrix of measured ones, each with its weight and its share of its diagonal: damped, symmetric.

    Some rows at a time: the sum in float64 is not held.

    Returns:
        Float32 `[dim, dim]`.
    """
    dim = len(measured[0][1])
    diagonals = [weight * matrix.diagonal().to(device, torch.float64) for weight, matrix, _ in measured]
    damping = (_DAMPING * torch.stack(diagonals).sum(0).mean()).clamp_min(torch.finfo(torch.float32).tiny)
    total = torch.empty(dim, dim, device=device)
    for start in range(0, dim, STRIP):
        strip = slice(start, start + STRIP)
        rows = torch.zeros_like(total[strip], dtype=torch.float64)
        for weight, matrix, share in measured:
            for part in (matrix[strip], matrix[:, strip].T):
                own = part.to(rows)
                if share is not None:  # what is off the diagonal is smaller by as much
                    diagonal = torch.zeros_like(own).diagonal_scatter(own.diagonal(start), start)
                    own = torch.lerp(own, diagonal, share.to(own))
                rows += (weight / 2) * own
        rows.diagonal(start).add_(damping)
        total[strip] = rows
    return total
