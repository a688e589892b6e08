"""The recipe an autoencoder is fitted by: orientc's defaults, and the paper's (`PAPER`).

The defaults reach the paper's objective in a fraction of the time: they start from the principal subspace of the
row-normalised table, take large batches, and take the learning rate to zero. Imports no torch.
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
    """Weights of the three terms of the loss; the defaults are the paper's."""

    cosine: float = 0.9975 / 5
    power: float = 0.0025
    rmse: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of an autoencoder's fit.

    Attributes:
        epochs: Passes over the table.
        batch_size: Rows in a step of Adam.
        learning_rate: The highest learning rate.
        schedule: "cosine" takes the learning rate to zero step by step; "halving" halves it every `halve_every` epochs.
        halve_every: Epochs, for the schedule "halving".
        alpha_start: Exponent α of the power term in the first epoch; it goes linearly to `alpha_end`.
        alpha_end: Exponent α from epoch `alpha_epochs` on.
        alpha_epochs: Epochs over which α changes; it is constant within an epoch.
        cosine_weight: Weight of the mean cosine distance.
        power_weight: Weight of the mean of |x|^α.
        rmse_weight: Weight of the root of the mean squared difference.
        nonlinear: After which linear map an ELU follows: "none", "encoder", "decoder" or "both".
        init: What the fit starts from: "subspace" (the principal subspace of the row-normalised table), "random"
            (PyTorch's own initialisation) or "artifact" (another compressed table).
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
        """Raise `UsageError` where a value is out of range."""
        for name, low in {
            "epochs": 1, "batch_size": 1, "halve_every": 1, "alpha_epochs": 0,
            "cosine_weight": 0, "power_weight": 0, "rmse_weight": 0,
        }.items():  # fmt: skip
            value = getattr(self, name)
            if not low <= value < 2**31:
                raise UsageError(f"`{name}` must be at least {low} (and below 2³¹), not {value}")
        for name in ("learning_rate", "alpha_start", "alpha_end"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"`{name}` must be above 0, not {getattr(self, name)}")
        for name, allowed in {"nonlinear": NONLINEAR, "schedule": SCHEDULES, "init": INITS}.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"`{name}` must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not self.cosine_weight + self.power_weight + self.rmse_weight:
            raise UsageError("at least one of `cosine_weight`, `power_weight` and `rmse_weight` must be above 0")

    @property
    def weights(self) -> Weights:
        """The weights of the terms of the loss."""
        return Weights(self.cosine_weight, self.power_weight, self.rmse_weight)

    def alpha(self, epoch: int) -> float:
        """The exponent α of the power term in an epoch, counted from 0."""
        if epoch >= self.alpha_epochs:
            return self.alpha_end
        return self.alpha_start - (self.alpha_start - self.alpha_end) * epoch / self.alpha_epochs

    def learning_rate_at(self, epoch: int, progress: float) -> float:
        """The learning rate in an epoch, counted from 0; `progress` is the share of all steps done."""
        if self.schedule == "halving":
            return self.learning_rate * 0.5 ** (epoch // self.halve_every)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


PAPER = Recipe(epochs=30, batch_size=32, schedule="halving", alpha_epochs=20, init="random")
