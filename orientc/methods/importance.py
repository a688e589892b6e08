"""How much a change of a table matters to the model: which rows, and in which directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orientc.methods.token_statistics import TokenStatistics
from orientc.modeling.factors import CHUNK, Factors

_DAMPING = 1e-3  # of the mean of a importance's diagonal: no direction is taken to matter not at all
# What is added to the counts, in shares of their sum: other texts have other tokens, frequent ones among them, and a
# token that was not met is the one whose errors are large.
_PRIOR = 1.0  # by the order of the ids
_EVEN = 0.1  # the same for all


@dataclass(frozen=True)
class Importance:
    """A change `δe` of the rows is taken to cost `½ · Σ_i w_i · δe_iᵀ A δe_i` with `w = weights / Σ weights`.

    `matrix` A is `[dim, dim]`, positive definite, `weights [vocab]`, both float64. With A in nats per squared unit of
    the table, as a calibration has it, that is the second-order change of the model's prediction, the Kullback–Leibler
    divergence per token. `known` is whether A was measured.
    """

    matrix: Tensor
    weights: Tensor
    known: bool = True

    @classmethod
    def plain(cls, table: Tensor) -> Importance:
        """Nothing is known: every row and direction of a table `[vocab, dim]` counts the same."""
        vocab, dim = table.shape
        ones = torch.ones(vocab, dtype=torch.float64, device=table.device)
        return cls(torch.eye(dim, dtype=torch.float64, device=table.device), ones, known=False)

    @classmethod
    def of(cls, calibration: TokenStatistics, table: Tensor, *, head_weight: float = 1.0) -> Importance:
        """`M + head_weight · H` and counts of a calibration of this table; directions count the same where it has none.

        `head_weight` 1 is right for a tied head, 0 for a model that keeps its head.
        """
        plain = cls.plain(table)
        counts = calibration.counts.to(plain.weights)
        weights = counts + _EVEN * counts.mean()
        if calibration.prior is not None:
            weights = weights + _PRIOR * calibration.prior.to(weights)
        if calibration.input_importance is None:
            return cls(plain.matrix, weights, known=False)
        matrix = calibration.input_importance.to(plain.matrix)
        if calibration.head_importance is not None:
            matrix = matrix + head_weight * calibration.head_importance.to(plain.matrix)
        damping = _DAMPING * matrix.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
        return cls((matrix + matrix.T) / 2 + damping * plain.matrix, weights)

    def of_rows(self, ids: Tensor) -> Importance:
        """The importance of some rows alone; costs keep their unit."""
        return Importance(self.matrix, self.weights[ids], self.known)

    def roots(self) -> tuple[Tensor, Tensor]:
        """`A^½` and `A^-½`, symmetric, float64 `[dim, dim]`."""
        values, vectors = torch.linalg.eigh(self.matrix)
        roots = values.clamp_min(values[-1] * 1e-12).sqrt()
        return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T

    def in_latents(self, decoder: Tensor | None) -> Tensor:
        """The importance of latents `[rank, rank]` that a linear decoder `[dim, rank]` makes rows of."""
        if decoder is None:
            return self.matrix
        weight = decoder.to(self.matrix)
        return weight.T @ self.matrix @ weight

    @torch.no_grad()
    def cost(self, factors: Factors, table: Tensor) -> float:
        """What the compressed table costs against the original `[vocab, dim]`, as the class describes."""
        total, start = 0.0, 0
        for decoded in factors.chunks(CHUNK):
            ids = slice(start, start + len(decoded))
            total += self.weighted(decoded - table[ids].float(), ids)
            start += len(decoded)
        return 0.5 * total / float(self.weights.sum())

    def weighted(self, changes: Tensor, ids: Tensor | slice) -> float:
        """`Σ weights_i · δe_iᵀ A δe_i` for changes `[rows, dim]` of rows `ids`."""
        costs = ((changes @ self.matrix.to(changes)) * changes).sum(1).double()
        return float((self.weights[ids] * costs).sum())
