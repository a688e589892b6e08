"""The cost of changing a table: an importance matrix for directions, weights for rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orientc.methods.linear_algebra import STRIP, cholesky, column_deviations, norms
from orientc.methods.table_rows import TableRows
from orientc.methods.token_statistics import TokenStatistics
from orientc.modeling.factors import Factors

_DAMPING = 1e-3  # added to the diagonal, in shares of its mean: no direction counts for nothing
# Added to the counts, in shares of their sum: other texts have other tokens, and the errors of a row without weight can
# be of any size.
_PRIOR = 1.0  # the calibration's prior
_EVEN = 0.1  # the same for all tokens
_SHORTEST = 1e-3  # of the mean squared length; shorter rows count as one of that


@dataclass(frozen=True)
class Importance:
    """A quadratic cost: changes `δe` of the rows cost `½ · Σ_i w_i · δe_iᵀ A δe_i` with `w = weights / Σ weights`.

    With a calibration's importance matrix, in nats per squared unit of the table, that is to second order the
    Kullback–Leibler divergence of the model's predictions per token.

    Attributes:
        given: The importance matrix A as it is held, `[dim, dim]`, positive definite, float32 or float64; None for the
            identity, which no matrix is held for.
        weights: Weights of the rows, float64 `[vocab]`.
        known: Whether A was measured; otherwise it is the identity, or guessed from the table.
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
    def guessed(cls, table: TableRows, weights: Tensor | None = None) -> Importance:
        """The importance of a table `[vocab, dim]` of a model that nothing was measured of.

        A is diagonal and as large as each column's standard deviation. Of two linear maps that are learned one behind
        the other the Gram matrices `EᵀE` and `WᵀW` come to be the same (Arora, Cohen, Hazan 2018, "On the optimization
        of deep networks"): what follows listens to what varies, and A would be the covariance. Its root stands between
        that and the identity. Where no weights of rows are known an error counts by its share of the row's length:
        what follows a lookup is mostly normalised, and frequent tokens often have the shorter rows.

        Args:
            table: `[vocab, dim]`.
            weights: Weights of the rows, float64 `[vocab]`, if known.
        """
        tiny = torch.finfo(torch.float32).tiny
        deviations = column_deviations(table)
        given = torch.diag(deviations / deviations.mean().clamp_min(tiny) + _DAMPING).float()
        if weights is None:
            squares = norms(table).double().square()
            weights = 1 / squares.clamp_min((_SHORTEST * squares.mean()).clamp_min(tiny))
        return cls(given, weights, known=False)

    @classmethod
    def of(cls, calibration: TokenStatistics, table: TableRows, *, head_weight: float = 1.0) -> Importance:
        """The importance that a calibration of this table measured: `A = M + head_weight · H`, weights by counts.

        This is the one place where measured matrices become a cost: each is shrunk towards its diagonal as far as the
        calibration says. A row has one weight for lookup and head: between the count of its token and how often the
        head expects it, by what M and H have of A. A is held in float32, as they are measured.

        Args:
            calibration: Counts, and importance matrices if measured; without them A is the identity.
            table: `[vocab, dim]`.
            head_weight: 1 for a head that shares the compressed table, 0 for one that keeps the original.
        """
        counts = calibration.counts.to(table.device, torch.float64)
        if calibration.input_importance is None:
            return cls(None, _expected(counts, calibration), known=False, _dim=table.shape[1])
        lookup = _Measured(calibration.input_importance, calibration.input_shrinkage)
        if calibration.head_importance is None or not head_weight:
            return cls(_sum([lookup], table.device), _expected(counts, calibration))
        head = _Measured(calibration.head_importance, calibration.head_shrinkage, head_weight)
        matrix = _sum([lookup, head], table.device)
        if calibration.head_counts is not None:
            # Errors have a covariance like the inverse of A where bits suffice; of their cost this much is the head's.
            share = _trace_of_quotient(head, matrix) / len(matrix)
            counts = (1 - share) * counts + share * calibration.head_counts.to(counts)
        return cls(matrix, _expected(counts, calibration))

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
        squares = (changes * changes).sum(1) if self.given is None else self._squares(changes)
        return float((self.weights[ids] * squares.double()).sum())

    def _squares(self, changes: Tensor) -> Tensor:
        """`δeᵀ A δe` of changes `[rows, dim]` in strips of A on and below its diagonal: little more than half of it."""
        assert self.given is not None
        total = changes.new_zeros(len(changes))
        for strip in _strips(len(self.given)):
            own, matrix = changes[:, strip], self.given[strip].to(changes)
            turned = own @ matrix[:, strip] / 2 + changes[:, : strip.start] @ matrix[:, : strip.start].T
            total += (turned * own).sum(1)
        return 2 * total


def share_of_head(lookup: Tensor, head: Tensor) -> float:
    """How much of what errors cost is a head's, in a table that serves lookup and head; both matrices `[dim, dim]`.

    Where bits suffice errors have a covariance like the inverse of the matrices' sum.
    """
    both = [_Measured(lookup, None), _Measured(head, None)]
    return _trace_of_quotient(both[1], _sum(both, head.device)) / len(head)


def _expected(counts: Tensor, calibration: TokenStatistics) -> Tensor:
    """Weights of rows: the counts `[vocab]`, and what other texts than the calibration's may have."""
    weights = counts + _EVEN * counts.mean()
    return weights if calibration.prior is None else weights + _PRIOR * calibration.prior.to(weights)


@dataclass(frozen=True)
class _Measured:
    """A measured matrix `[dim, dim]`, as it is used: times `weight`, with a share of its diagonal in it."""

    given: Tensor
    share: Tensor | None
    weight: float = 1.0

    def diagonal(self, device: torch.device) -> Tensor:
        """Its diagonal, float64 `[dim]`."""
        return self.weight * self.given.diagonal().to(device, torch.float64)

    def rows(self, strip: slice, device: torch.device) -> Tensor:
        """Some rows of its symmetric part, float64; what is off the diagonal is smaller by the share."""
        own = (self.given[strip].to(device, torch.float64) + self.given[:, strip].T.to(device, torch.float64)) / 2
        if self.share is not None:
            diagonal = torch.zeros_like(own).diagonal_scatter(own.diagonal(strip.start), strip.start)
            own = torch.lerp(own, diagonal, self.share.to(own))
        return own.mul_(self.weight)


def _sum(measured: Sequence[_Measured], device: torch.device) -> Tensor:
    """The importance matrix of measured ones: damped, symmetric, float32 `[dim, dim]`.

    Some rows at a time: the sum in float64 is not held.
    """
    dim = len(measured[0].given)
    diagonal = torch.stack([own.diagonal(device) for own in measured]).sum(0)
    damping = (_DAMPING * diagonal.mean()).clamp_min(torch.finfo(torch.float32).tiny)
    total = torch.empty(dim, dim, device=device)
    for strip in _strips(dim):
        rows = torch.stack([own.rows(strip, device) for own in measured]).sum(0)
        rows.diagonal(strip.start).add_(damping)
        total[strip] = rows
    return total


def _trace_of_quotient(measured: _Measured, matrix: Tensor) -> float:
    """The trace of `matrix⁻¹ · measured`, for a positive definite matrix `[dim, dim]`."""
    factor, total = cholesky(matrix.double()), 0.0
    for strip in _strips(len(matrix)):
        total += float(torch.cholesky_solve(measured.rows(strip, matrix.device).T, factor).diagonal(-strip.start).sum())
    return total


def _strips(dim: int) -> Iterator[slice]:
    """Rows that are worked on at once."""
    yield from (slice(start, min(start + STRIP, dim)) for start in range(0, dim, STRIP))
