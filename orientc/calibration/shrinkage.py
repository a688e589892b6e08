"""How much of a measured importance matrix to believe: from what a part of its positions shows that the others don't.

A mean of outer products over too few positions has directions that look as if nothing depended on them, and a fit puts
its errors there. S(λ) = (1 − λ) A + λ diag(A) has fewer of them the larger λ is. Which λ is right is measured: where
rounding has bits enough, a fit in the metric S leaves errors of covariance ∝ S⁻¹, of a size that the bits decide, which
is det(S)^(1/dim). Were B the true matrix, they would cost

    tr(S⁻¹ B) · det(S)^(1/dim)

times what does not depend on S. (Its logarithm is, up to S's scale, the negative log-likelihood of Gaussian gradients.)
Positions are in a few parts, of whole inputs, for positions of one input have much in common. Each part in turn gives B
and the others A. All of them together are more than the others: the odds λ / (1 − λ), which go with the variance of a
mean (Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices"), are less by that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PARTS = 4  # with two, odds have a long way to go where there are fewer positions than dimensions
# Odds from 1e-4, which is no shrinkage, in steps of a tenth: a cost is flat around its least.
_LEAST, _MOST, _STEPS = 1e-4, 1e4, 194


def intensity(parts: Sequence[tuple[Tensor, int]]) -> float:
    """Find the share λ of its diagonal in a mean of outer products over all positions.

    Args:
        parts: of each part the sum over its positions, `[dim, dim]`, and how many they are; 1 or more.

    Returns:
        λ from 0 to 1; 1, the diagonal alone, where there is one part, or parts have nothing in common.
    """
    if len(parts) < 2:
        return 1.0
    shown = torch.stack([total.diagonal() > 0 for total, _ in parts]).all(0)
    if not shown.any():
        return 1.0
    sums = [total[shown][:, shown].double() for total, _ in parts]
    counts = [count for _, count in parts]
    whole, positions = torch.stack(sums).sum(0), sum(counts)
    odds = torch.logspace(torch.tensor(_LEAST).log10(), torch.tensor(_MOST).log10(), _STEPS, dtype=torch.float64)
    costs = torch.zeros_like(odds)
    for total, count in zip(sums, counts, strict=True):
        costs += count * _costs((whole - total) / (positions - count), total / count, odds)
    found = float(odds[costs.argmin()]) * (len(parts) - 1) / len(parts)
    return found / (1 + found)


def _costs(known: Tensor, true: Tensor, odds: Tensor) -> Tensor:
    """The logarithm of the cost above, per dimension, of `known` shrunk at each of the odds; all float64."""
    scale = known.diagonal().rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, None] * known * scale)  # its diagonal is 1
    seen = ((scale[:, None] * true * scale) @ vectors * vectors).sum(0)
    shares = (odds / (1 + odds)).unsqueeze(1)
    shrunk = (1 - shares) * values.clamp_min(0) + shares
    costs: Tensor = (seen / shrunk).mean(1).log() + shrunk.log().mean(1)
    return costs
