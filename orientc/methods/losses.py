"""The terms of the paper's loss (arXiv 2106.08181), their sum, and the distances reported for a compressed table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from orientc.methods.recipe import Weights
from orientc.methods.table_rows import TableRows
from orientc.modeling.factors import Factors, rows_at_once

COSINE_EPS = 1e-6
POWER_EPS = 1e-10  # keeps the gradient of |x|^α finite at 0


def cosine_distance(decoded: Tensor, rows: Tensor) -> Tensor:
    """The cosine distance, a scalar: the mean over rows of `1 − cos`; both inputs `[rows, dim]`.

    `cos = x·y / (max(‖x‖, ε) · max(‖y‖, ε))` as in torch and the paper, with ε = 1e-6. So a row of zeros (padding, as a
    rule) has cosine 0 and distance 1, also where it is decoded to zeros.
    """
    lengths = decoded.norm(dim=-1).clamp_min(COSINE_EPS) * rows.norm(dim=-1).clamp_min(COSINE_EPS)
    distances: Tensor = 1 - (decoded * rows).sum(-1) / lengths
    return distances.mean()


def power(decoded: Tensor, rows: Tensor, alpha: float) -> Tensor:
    """The power term, a scalar: the mean over numbers of `(|decoded − rows| + 1e-10)^alpha` (arXiv 2106.08181)."""
    logarithm = ((decoded - rows).abs() + POWER_EPS).log()
    return (alpha * logarithm).exp().mean()  # a third of the time of `pow`, whose gradient is another `pow`


def rmse(decoded: Tensor, rows: Tensor) -> Tensor:
    """The root of the mean squared difference over all numbers, a scalar."""
    return (decoded - rows).square().mean().sqrt()


def loss(decoded: Tensor, rows: Tensor, alpha: float, weights: Weights) -> Tensor:
    """The weighted sum of the terms, a differentiable scalar.

    Args:
        decoded: Reconstructed rows, `[rows, dim]`.
        rows: Rows of the table, `[rows, dim]`.
        alpha: Exponent of the power term.
        weights: Weights of the terms; a term of weight 0 is not computed.
    """
    total = torch.zeros((), device=rows.device)
    if weights.cosine:
        total = total + weights.cosine * cosine_distance(decoded, rows)
    if weights.power:
        total = total + weights.power * power(decoded, rows, alpha)
    if weights.rmse:
        total = total + weights.rmse * rmse(decoded, rows)
    return total


@dataclass(frozen=True)
class Distances:
    """Distances of a reconstructed table to the original, over all rows.

    Attributes:
        cosine: The mean cosine distance of the rows.
        rmse: The root of the mean squared difference x.
        mae: The mean of |x|.
        power_0_1: The mean of `(|x| + 1e-10)^0.1`.
        power_0_6: The mean of `(|x| + 1e-10)^0.6`.
    """

    cosine: float
    rmse: float
    mae: float
    power_0_1: float
    power_0_6: float

    def objective(self, weights: Weights) -> float:
        """The loss over all rows at α = 0.1, by which fits are compared."""
        return weights.cosine * self.cosine + weights.power * self.power_0_1 + weights.rmse * self.rmse

    def scaled(self, scale: float) -> Distances:
        """The distances between both tables times `scale`."""
        if scale == 1:
            return self
        powers = {"power_0_1": self.power_0_1 * scale**0.1, "power_0_6": self.power_0_6 * scale**0.6}
        return Distances(self.cosine, self.rmse * scale, self.mae * scale, **powers)


def _sum(values: Tensor) -> float:
    """The sum of all numbers: within a row in the row's type, which is much faster, over rows in float64."""
    return values.sum(1).sum(dtype=torch.float64).item()


@torch.no_grad()
def measure(pairs: Iterable[tuple[Tensor, Tensor]]) -> Distances:
    """Measure distances over blocks of (reconstructed, original) rows, `[rows, dim]` float32 each."""
    rows = numbers = 0
    cosine = square = absolute = power_0_1 = power_0_6 = 0.0
    for decoded, original in pairs:
        difference = (decoded - original).abs()
        rows += original.shape[0]
        numbers += original.numel()
        cosine += cosine_distance(decoded, original).double().item() * original.shape[0]
        square += _sum(difference.square())
        absolute += _sum(difference)
        log = difference.add_(POWER_EPS).log_()
        power_0_1 += _sum((0.1 * log).exp_())
        power_0_6 += _sum(log.mul_(0.6).exp_())
    return Distances(
        cosine=max(cosine / rows, 0.0),  # of equal rows it comes out as -1e-8, say
        rmse=math.sqrt(square / numbers),
        mae=absolute / numbers,
        power_0_1=power_0_1 / numbers,
        power_0_6=power_0_6 / numbers,
    )


def distances(factors: Factors, table: TableRows) -> Distances:
    """Measure the distances of a compressed table to the original `[vocab, dim]` of any float type."""
    size = rows_at_once(factors.dim)
    blocks = zip(factors.chunks(size), table.split(size), strict=True)
    return measure((decoded, rows.float()) for decoded, rows in blocks)
