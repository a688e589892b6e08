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
        logits: float32 `[positions, vocab]`; they are overwritten.
    """

    def __init__(self, logits: Tensor) -> None:
        self._log_probabilities, self._probabilities, self._top = _normalized(logits)

    def losses(self, targets: Tensor) -> Tensor:
        """Cross-entropy of each target in nats, `[positions]`."""
        return -_chosen(self._log_probabilities, targets)

    def against(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What another model's predictions are worth, and how far they are from these.

        Args:
            logits: The other model's, float32 `[positions, vocab]`; they are overwritten.
            targets: The token to be predicted at each position.

        Returns:
            `[positions]` each: cross-entropy of the targets, KL divergence from these predictions, both in nats, and
            whether the most likely token is the same.
        """
        log_probabilities, _, top = _normalized(logits)
        losses = -_chosen(log_probabilities, targets)
        terms = torch.sub(self._log_probabilities, log_probabilities, out=log_probabilities).mul_(self._probabilities)
        divergences = terms.sum(-1)
        if divergences.isnan().any():  # 0 · log 0 is 0, where a model rules tokens out; what is NaN itself stays so
            divergences = terms.masked_fill_(self._probabilities == 0, 0).sum(-1)
        return losses, divergences.clamp_(min=0), top == self._top  # by rounding it may be below by some 1e-7


def cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each target in nats, `[positions]`.

    Args:
        logits: float32 `[positions, vocab]`; they are overwritten.
        targets: The token to be predicted at each position.
    """
    shifted = logits.sub_(logits.amax(-1, keepdim=True))
    chosen = _chosen(shifted, targets)
    return shifted.exp_().sum(-1).log_() - chosen


def _normalized(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, in the place of the logits, probabilities, and the most likely token of each position.

    `log_softmax` adds up a vocabulary's terms one after the other, which on a CPU is off by 1e-5 of their sum where
    there are many; `sum` adds them up by halves.
    """
    largest = logits.max(-1, keepdim=True)
    shifted = logits.sub_(largest.values)
    probabilities = shifted.exp()
    total = probabilities.sum(-1, keepdim=True)
    return shifted.sub_(total.log()), probabilities.div_(total), largest.indices.squeeze(-1)


def _chosen(values: Tensor, targets: Tensor) -> Tensor:
    return values.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


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
