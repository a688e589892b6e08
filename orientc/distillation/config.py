"""What may be asked for where an artifact is tuned."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orientc.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """How long, how fast and by which loss.

    Training ends after `steps`, or after `minutes` if these are over first, and where the loss on the held-out text has
    not been lower for `patience` evaluations, one every `eval_steps`. `learning_rate` is relative: how far a step
    moves a tensor's numbers, in units of their root mean square; it falls linearly to 0. `hidden_weight` is that of
    the states' agreement in the loss. `batch_size` is in lines or windows, None for the objective's default. `seed`
    draws the order of the text and masks.
    """

    steps: int = 300
    minutes: float | None = None
    batch_size: int | None = None
    learning_rate: float = 1e-2
    hidden_weight: float = 1.0
    eval_steps: int = 25
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value nothing can be tuned by."""
        for name in ("steps", "batch_size", "eval_steps", "patience"):
            if (value := getattr(self, name)) is not None and not 1 <= value < 2**31:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1 (and below 2³¹), not {value}")
        for name in ("minutes", "learning_rate"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UsageError(f"--{name.replace('_', '-')} must be above 0, not {value:g}")
        if not 0 <= self.hidden_weight < math.inf:
            raise UsageError(f"--hidden-weight must be 0 or more, not {self.hidden_weight:g}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed must be from 0 to 2³² − 1, not {self.seed}")
