"""How an autoencoder is fitted: the settings, ours and the paper's.

`PAPER` is the published recipe; `Recipe`' own defaults reach its objective in a fraction of the time: they start
from the closed-form principal subspace of the row-normalised table, take large batches, and let the learning rate end
at zero. This module imports no torch: wrong settings are refused without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orientc.errors import UsageError

NONLINEAR = ("none", "encoder", "decoder", "both")
SCHEDULES = ("cosine", "halving")
INITS = ("subspace", "random", "artifact")


@dataclass(frozen=True)
class Weights:
    """Weights of the loss's three terms; the defaults are the paper's."""

    cosine: float = 0.9975 / 5
    power: float = 0.0025
    rmse: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """How an autoencoder is fitted.

    `alpha` of the power term goes linearly from `alpha_start` to `alpha_end` over `alpha_epochs`, held within an
    epoch. `schedule` "cosine" takes the learning rate to zero over the fit, step by step; "halving" halves it
    every `halve_every` epochs. `nonlinear` says after which linear map an ELU follows. `init` is where the fit
    starts from: the principal subspace, PyTorch's random initialisation, or another artifact.
    """

    epochs: int = 4
    batch_size: int = 1024
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    halve_every: int = 4
    alpha_start: float = 1.0
    alpha_end: float = 0.1
    alpha_epochs: int = 3
    cosine_weight: float = Weights.cosine
    power_weight: float = Weights.power
    rmse_weight: float = Weights.rmse
    nonlinear: str = "none"
    init: str = "subspace"

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value no fit can use."""
        for name, low in {
            "epochs": 1, "batch_size": 1, "halve_every": 1, "alpha_epochs": 0,
            "cosine_weight": 0, "power_weight": 0, "rmse_weight": 0,
        }.items():  # fmt: skip
            value = getattr(self, name)
            if not low <= value < 2**31:
                raise UsageError(f"{name} must be at least {low} (and below 2³¹), not {value}")
        for name in ("learning_rate", "alpha_start", "alpha_end"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")
        for name, allowed in {"nonlinear": NONLINEAR, "schedule": SCHEDULES, "init": INITS}.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not self.cosine_weight + self.power_weight + self.rmse_weight:
            raise UsageError("at least one of cosine_weight, power_weight and rmse_weight must be above 0")

    @property
    def weights(self) -> Weights:
        """The weights of the loss's terms."""
        return Weights(self.cosine_weight, self.power_weight, self.rmse_weight)

    def alpha(self, epoch: int) -> float:
        """The exponent of the power term in an epoch, counted from 0."""
        if epoch >= self.alpha_epochs:
            return self.alpha_end
        return self.alpha_start - (self.alpha_start - self.alpha_end) * epoch / self.alpha_epochs

    def learning_rate_at(self, epoch: int, progress: float) -> float:
        """The learning rate in an epoch, counted from 0, with a share `progress` of all steps done."""
        if self.schedule == "halving":
            return self.learning_rate * 0.5 ** (epoch // self.halve_every)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


PAPER = Recipe(epochs=30, batch_size=32, schedule="halving", alpha_epochs=20, init="random")
