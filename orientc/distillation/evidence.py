"""What gradients say of single rows: how much of a row's mean gradient is no noise, and how curved the loss is.

*Evidence* is the share of the mean gradient's square that the variance between steps does not explain. Where a row's
gradients come from few steps there is none: those of one passage are alike.

*Caution* is by how much the loss is more curved along moves than a row's gradient and error suggest, which is the root
mean square of its curvatures over all directions. A move shows it: by how much gradients changed along it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_FEWEST = 6.0  # steps that a row's gradients come from at least, by their lengths
_LEAST = 2.0  # caution; with less, moves do harm where the last ones were along directions that are little curved
_TINY = 1e-38


class Moves(NamedTuple):
    """Rows that were moved together.

    Attributes:
        rows: Their numbers, int64 `[n]`.
        changes: What their numbers were changed by, `[n, columns]`.
        gradients: Their mean gradients before, `[n, columns]`.
        suggested: The curvature that gradient and error suggested, `[n]`.
    """

    rows: Tensor
    changes: Tensor
    gradients: Tensor
    suggested: Tensor

    @classmethod
    def together(cls, parts: list[Moves], columns: int, device: torch.device) -> Moves:
        """Moves of several parts of the rows, or of none."""
        none = torch.zeros(0, columns, device=device)
        parts = [cls(torch.zeros(0, dtype=torch.long, device=device), none, none, none.sum(1)), *parts]
        return cls(*(torch.cat(own) for own in zip(*parts, strict=True)))


class Evidence:
    """Sums of the gradients of rows `[rows, columns]` since each was last moved, and what the last moves did."""

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        self._sums = torch.zeros(rows, columns, device=device)
        self._lengths = torch.zeros(rows, device=device)
        self._squares = torch.zeros(rows, device=device)  # of the lengths
        self._steps = torch.zeros(rows, device=device)
        self._last = Moves.together([], columns, device)
        self._caution = _LEAST

    def add(self, gradient: Tensor) -> None:
        """Add the gradient of one step."""
        squares = gradient.square().sum(1)
        self._sums += gradient
        self._lengths += squares.sqrt()
        self._squares += squares
        self._steps += 1

    def means(self) -> Tensor:
        """Mean gradients `[rows, columns]`."""
        return self._sums / self._steps.clamp_min(1).unsqueeze(1)

    def shares(self, means: Tensor) -> Tensor:
        """The evidence of each row, at most 1 and 0 where there is none, `[rows]`."""
        square = means.square().sum(1)
        noise = (self._squares / self._steps.clamp_min(1) - square) / (self._steps - 1).clamp_min(1)
        often = self._lengths.square() >= _FEWEST * self._squares
        return torch.where((square > 0) & often, 1 - noise / square.clamp_min(_TINY), 0).clamp_min(0)

    def learn(self, means: Tensor) -> float:
        """The caution to move with, by how gradients have changed with the last moves."""
        rows, changes, gradients, suggested = self._last
        seen = self._steps[rows] > 0
        expected = float((suggested * changes.square().sum(1))[seen].sum())
        if expected > 0:
            found = float(((means[rows] - gradients) * changes)[seen].sum())
            self._caution = max(found / expected, _LEAST)
        return self._caution

    def moved(self, moves: Moves) -> None:
        """Forget what was known of rows that are moved now, and look how their gradients change."""
        self._last = moves
        for tensor in (self._sums, self._lengths, self._squares, self._steps):
            tensor[moves.rows] = 0

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs, by names."""
        moves = {f"moved.{name}": tensor for name, tensor in self._last._asdict().items()}
        return self._tensors | moves | {"caution": torch.tensor(self._caution, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a state."""
        for name, tensor in self._tensors.items():
            tensor.copy_(state[name])
        self._last = Moves(*(state[f"moved.{name}"].to(self._sums.device) for name in Moves._fields))
        self._caution = float(state["caution"])

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {"sums": self._sums, "lengths": self._lengths, "squares": self._squares, "steps": self._steps}
