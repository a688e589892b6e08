"""How far predictions are from those of the uncompressed model, position by position.

The Kullback–Leibler divergence of the compressed model's distribution q from the uncompressed model's p over the
vocabulary (Kullback, Leibler 1951), in nats: `KL(p ‖ q) = Σ p · (log p − log q)`; and whether both have the same most
likely token. Names and figures follow llama.cpp's perplexity tool (`--kl-divergence`: mean, percentiles and maximum of
KLD, "same top p"), which scores the second half of each window, where here every scored token counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Reference:
    """The uncompressed model's predictions at some positions.

    Args:
        logits: float32 `[positions, vocab]`.
    """

    def __init__(self, logits: Tensor) -> None:
        self._top = logits.argmax(-1)
        self._log_probabilities = logits.log_softmax(-1)
        self._probabilities = self._log_probabilities.exp()

    def losses(self, targets: Tensor) -> Tensor:
        """Cross-entropy of each target in nats, `[positions]`."""
        return _losses(self._log_probabilities, targets)

    def against(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What another model's predictions are worth, and how far they are from these.

        Args:
            logits: The other model's, float32 `[positions, vocab]`.
            targets: The token to be predicted at each position.

        Returns:
            `[positions]` each: cross-entropy of the targets, KL divergence from these predictions, both in nats, and
            whether the most likely token is the same.
        """
        same_top = logits.argmax(-1) == self._top
        log_probabilities = logits.log_softmax(-1)
        del logits  # they are large
        losses = _losses(log_probabilities, targets)
        terms = torch.sub(self._log_probabilities, log_probabilities, out=log_probabilities).mul_(self._probabilities)
        divergences = terms.sum(-1)
        if divergences.isnan().any():  # 0 · log 0 is 0, where a model rules tokens out; what is NaN itself stays so
            divergences = terms.masked_fill_(self._probabilities == 0, 0).sum(-1)
        return losses, divergences.clamp_(min=0), same_top  # by rounding it may be below by some 1e-7


def _losses(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    return -log_probabilities.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of all lies, interpolated linearly between neighbours, as llama.cpp has it.

    Args:
        values: At least one number, none NaN.
        share: From 0 to 1.
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below if below == above else below + (place - math.floor(place)) * (above - below)
