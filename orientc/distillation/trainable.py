"""What trains of a compressed table: the numbers that it stores, as floats that are rounded wherever they are used.

Each number trained is `start + unit · shadow`, its shadow a float32 parameter that begins at 0; the unit is the root
mean square of a tensor's numbers. The student computes with what an artifact would store, so what is evaluated is what
is kept; the gradient passes a rounding as if it were none (straight-through, Bengio, Léonard, Courville 2013, arXiv
1308.3432). The student's own parameters don't train: they are written anew from the shadows, and their gradients are
passed on to these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from orientc.modeling.factors import Factors

_SMALLEST = 1e-4  # root mean square that a tensor's steps are taken relative to, at least


class Trainable:
    """A compressed table in training: all its floats train, codes stay.

    Args:
        factors: The table as the artifact stores it.
        device: Where the student holds it.

    Attributes:
        shadows: What trains, by the names of the stored tensors; float32.
    """

    def __init__(self, factors: Factors, device: torch.device) -> None:
        self._factors = factors.map(lambda tensor: tensor.to(device))
        self._dtypes = {name: tensor.dtype for name, tensor in self._factors.tensors.items() if self._trains(name)}
        self._start = {name: self._factors.tensors[name].float() for name in self._dtypes}
        self._units = {name: _size(numbers) for name, numbers in self._start.items()}
        self.shadows = {name: nn.Parameter(torch.zeros_like(tensor)) for name, tensor in self._start.items()}

    @property
    def student(self) -> Factors:
        """The table that the student is to hold."""
        return self._factors

    @torch.no_grad()
    def write(self, parameters: Mapping[str, Tensor]) -> None:
        """Give the student's parameters, by the names of its table's tensors, the numbers that would be stored."""
        for name, tensor in self._straight().items():
            parameters[name].copy_(tensor)

    def pass_on(self, parameters: Mapping[str, Tensor]) -> None:
        """Add the gradients of the student's parameters to those of the shadows, and clear them."""
        pass_gradients(self._straight(), parameters)

    @torch.no_grad()
    def move_codes(self) -> int:
        """Choose codes anew by the gradients since codes were last chosen; how many rows have others now."""
        return 0

    @torch.no_grad()
    def stored(self) -> dict[str, Tensor]:
        """The tensors that are not as the artifact has them, as it would store them; on the CPU."""
        return {name: tensor.to("cpu", self._dtypes[name]) for name, tensor in self._straight().items()}

    @property
    def finite(self) -> bool:
        """Whether everything that trains is finite, and within the types it is stored in."""
        return all(
            bool(part[name].isfinite().all()) for part in (self.shadows, self._straight()) for name in self.shadows
        )

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs beside the shadows."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a state. Raises `KeyError` or `RuntimeError` where it is of another table."""

    def _trains(self, name: str) -> bool:
        return self._factors.tensors[name].is_floating_point()

    def _straight(self) -> dict[str, Tensor]:
        """What would be stored, as floats that pass gradients on to the shadows."""
        return {name: rounded(self._exact(name), dtype) for name, dtype in self._dtypes.items()}

    def _exact(self, name: str) -> Tensor:
        """The numbers of a stored tensor before they are rounded."""
        return self._start[name] + self._units[name] * self.shadows[name]


def _size(numbers: Tensor) -> Tensor:
    """What a step of 1 moves numbers by: their root mean square."""
    return (numbers.square().mean().sqrt() if numbers.numel() else numbers.new_zeros(())).clamp_min(_SMALLEST)


class _Rounded(torch.autograd.Function):
    """Numbers rounded to a type, int8 or a float's, as float32; the gradient passes."""

    @staticmethod
    def forward(_: Any, exact: Tensor, dtype: torch.dtype) -> Tensor:
        return exact.round().clamp(-127, 127) if dtype == torch.int8 else exact.to(dtype).float()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def pass_gradients(made: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    """Pass the gradients of parameters on to what they are made of, and clear them."""
    whole = [(tensor, parameters[name]) for name, tensor in made.items() if parameters[name].grad is not None]
    torch.autograd.backward([tensor for tensor, _ in whole], [own.grad for _, own in whole])
    for _, own in whole:
        own.grad = None


def rounded(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers rounded to a type, int8 or a float's, as float32; the gradient passes."""
    found: Tensor = _Rounded.apply(exact, dtype)  # type: ignore[no-untyped-call]
    return found
