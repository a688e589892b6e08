"""The options of `tune` that decide what a tuned artifact holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orientc.errors import UsageError


@dataclass(frozen=True)
class TuningConfig:
    """Options of `tune`, field by field.

    Attributes:
        steps: optimizer steps at most.
        minutes: minutes of training at most; None for no limit.
        batch_size: lines (masked models, encoders), windows (causal ones) or pairs (encoder-decoders) a step; None for
            32 lines, 4 windows or 16 pairs.
        learning_rate: Adam's, relative: how far a step moves a tensor's numbers, in units of their root mean square; of
            trellis codes' scales, offsets and decoder, in units of the codes' errors. It falls linearly to 0.
        hidden_weight: weight of the hidden states' cosine distance in the loss.
        eval_steps: move trellis codes, and evaluate on the held-out text, every so many steps.
        patience: stop after so many evaluations without a lower held-out loss.
        seed: draws the order of the text and masks; from 0 to 2³² − 1.
    """

    steps: int = 300
    minutes: float | None = None
    batch_size: int | None = None
    learning_rate: float = 0.01
    hidden_weight: float = 1.0
    eval_steps: int = 25
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value out of range."""
        for name in ("steps", "batch_size", "eval_steps", "patience"):
            if (value := getattr(self, name)) is not None and not 1 <= value < 2**31:
                raise UsageError(f"`{name}` must be at least 1 (and below 2³¹), not {value}")
        for name in ("minutes", "learning_rate"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UsageError(f"`{name}` must be above 0, not {value:g}")
        if not 0 <= self.hidden_weight < math.inf:
            raise UsageError(f"`hidden_weight` must be 0 or more, not {self.hidden_weight:g}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"`seed` must be from 0 to 2³² − 1, not {self.seed}")
