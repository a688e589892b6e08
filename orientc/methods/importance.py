"""The cost of changing a table: an importance matrix for directions, weights for rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orientc.methods.token_statistics import TokenStatistics
from orientc.modeling.factors import CHUNK, Factors

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
        matrix: The importance matrix A, float64 `[dim, dim]`, positive definite.
        weights: Weights of the rows, float64 `[vocab]`.
        known: Whether A was measured; otherwise it is the identity.
    """

    matrix: Tensor
    weights: Tensor
    known: bool = True

    @classmethod
    def plain(cls, table: Tensor) -> Importance:
        """Importance of a table `[vocab, dim]` of which nothing is known: all rows and directions count the same."""
        vocab, dim = table.shape
        ones = torch.ones(vocab, dtype=torch.float64, device=table.device)
        return cls(torch.eye(dim, dtype=torch.float64, device=table.device), ones, known=False)

    @classmethod
    def of(cls, calibration: TokenStatistics, table: Tensor, *, head_weight: float = 1.0) -> Importance:
        """The importance that a calibration of this table measured: `A = M + head_weight · H`, weights by counts.

        This is the one place where measured matrices become a cost: each is shrunk towards its diagonal as far as the
        calibration says. A row has one weight for lookup and head: between the count of its token and how often the
        head expects it, by what M and H have of A.

        Args:
            calibration: Counts, and importance matrices if measured; without them A is the identity.
            table: `[vocab, dim]`.
            head_weight: 1 for a head that shares the compressed table, 0 for one that keeps the original.
        """
        plain = cls.plain(table)
        counts = calibration.counts.to(plain.weights)
        if calibration.input_importance is None:
            return cls(plain.matrix, _expected(counts, calibration), known=False)
        matrix = _shrunk(calibration.input_importance.to(plain.matrix), calibration.input_shrinkage)
        own = None
        if calibration.head_importance is not None and head_weight:
            own = head_weight * _shrunk(calibration.head_importance.to(plain.matrix), calibration.head_shrinkage)
            matrix = matrix + own
        damping = _DAMPING * matrix.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
        matrix = (matrix + matrix.T) / 2 + damping * plain.matrix
        if own is not None and calibration.head_counts is not None:
            # Errors have a covariance like the inverse of A where bits suffice; of their cost this much is the head's.
            share = float(torch.linalg.solve(matrix, own).trace()) / len(matrix)
            counts = (1 - share) * counts + share * calibration.head_counts.to(counts)
        return cls(matrix, _expected(counts, calibration))

    def of_rows(self, ids: Tensor) -> Importance:
        """The importance of some of the rows."""
        return Importance(self.matrix, self.weights[ids], self.known)

    def roots(self) -> tuple[Tensor, Tensor]:
        """The symmetric roots `A^½` and `A^-½`, float64 `[dim, dim]`."""
        values, vectors = torch.linalg.eigh(self.matrix)
        roots = values.clamp_min(values[-1] * 1e-12).sqrt()
        return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T

    def in_latents(self, decoder: Tensor | None) -> Tensor:
        """The importance matrix of latents, `Wᵀ A W` `[rank, rank]`, for a linear decoder W `[dim, rank]`."""
        if decoder is None:
            return self.matrix
        weight = decoder.to(self.matrix)
        return weight.T @ self.matrix @ weight

    @torch.no_grad()
    def cost(self, factors: Factors, table: Tensor) -> float:
        """The cost of a compressed table against the original `[vocab, dim]`."""
        total, start = 0.0, 0
        for decoded in factors.chunks(CHUNK):
            ids = slice(start, start + len(decoded))
            total += self.weighted(decoded - table[ids].float(), ids)
            start += len(decoded)
        return 0.5 * total / float(self.weights.sum())

    def weighted(self, changes: Tensor, ids: Tensor | slice) -> float:
        """The sum `Σ weights_i · δe_iᵀ A δe_i` for changes `[rows, dim]` of the rows `ids`."""
        costs = ((changes @ self.matrix.to(changes)) * changes).sum(1).double()
        return float((self.weights[ids] * costs).sum())


def _expected(counts: Tensor, calibration: TokenStatistics) -> Tensor:
    """Weights of rows: the counts `[vocab]`, and what other texts than the calibration's may have."""
    weights = counts + _EVEN * counts.mean()
    return weights if calibration.prior is None else weights + _PRIOR * calibration.prior.to(weights)


def _shrunk(matrix: Tensor, share: Tensor | None) -> Tensor:
    """A matrix with a share of its diagonal in it; what is off the diagonal is smaller by as much."""
    return matrix if share is None else torch.lerp(matrix, matrix.diagonal().diag(), share.to(matrix))
