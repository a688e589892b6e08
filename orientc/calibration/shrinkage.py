"""How much of a measured importance matrix to believe: from what each half of its positions predicts of the other.

A mean of outer products over too few positions has directions that look as if nothing depended on them, and a fit puts
its errors there. S(λ) = (1 − λ) A + λ diag(A) has fewer of them the larger λ is. Which λ is right is measured: where
rounding has bits enough, a fit in the metric S leaves errors of covariance ∝ S⁻¹, of a size that the bits decide, which
is det(S)^(1/dim). Were B the true matrix, they would cost

    tr(S⁻¹ B) · det(S)^(1/dim)

times what does not depend on S. (Its logarithm is, up to S's scale, the negative log-likelihood of Gaussian gradients.)
One half of the positions gives A, the other B, and both ways are added up. Halves are of whole inputs: positions of one
input have much in common. The whole has twice a half's positions, so half its variance: the odds λ / (1 − λ), which by
Ledoit and Wolf (2004, "A well-conditioned estimator for large-dimensional covariance matrices") go with it, are halved.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Odds from 1e-4, which is no shrinkage, in steps of a tenth: a cost is flat around its least.
_LEAST, _MOST, _STEPS = 1e-4, 1e4, 194
_TINY = 1e-9  # of the mean of the diagonal


def intensity(halves: Sequence[tuple[Tensor, int]]) -> float:
    """Find the share λ of its diagonal in a mean of outer products over all positions.

    Args:
        halves: the sum over the positions of either half, `[dim, dim]`, and how many they are.

    Returns:
        λ from 0 to 1; 1, the diagonal alone, where a half has no positions or shows nothing.
    """
    if len(halves) != 2 or not all(count and total.diagonal().any() for total, count in halves):
        return 1.0
    odds = torch.logspace(torch.tensor(_LEAST).log10(), torch.tensor(_MOST).log10(), _STEPS, dtype=torch.float64)
    means = [total.double() / count for total, count in halves]
    costs = _costs(means[0], means[1], odds) + _costs(means[1], means[0], odds)
    found = float(odds[costs.argmin()]) / 2
    return found / (1 + found)


def _costs(known: Tensor, true: Tensor, odds: Tensor) -> Tensor:
    """The logarithm of the cost above, per dimension, of `known` shrunk at each of the odds; all float64."""
    diagonal = known.diagonal()
    scale = diagonal.clamp_min(_TINY * diagonal.mean()).rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, None] * known * scale)  # its diagonal is 1
    seen = ((scale[:, None] * true * scale) @ vectors * vectors).sum(0)
    shares = (odds / (1 + odds)).unsqueeze(1)
    shrunk = (1 - shares) * values.clamp_min(0) + shares
    costs: Tensor = (seen / shrunk).mean(1).log() + shrunk.log().mean(1)
    return costs
