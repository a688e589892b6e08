"""A compressed table that is read as a tensor, and decoded when its numbers are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils import _pytree

from orientc.modeling.factors import Factors

# what of a tensor is told without its numbers
_FACTS = {
    *(getattr(Tensor, name).__get__ for name in ("dtype", "device", "shape", "ndim", "is_meta", "requires_grad")),
    *(Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__, Tensor.element_size, Tensor.is_floating_point),
}


class Undecoded(Tensor):
    """The whole table `[vocab, dim]`, decoded by the first function that takes its numbers, and held from then on.

    What functions give is an ordinary tensor. It passes no gradient on to what trains, and can't become a parameter.

    Args:
        factors: The compressed table.
        like: A tensor of the table's type and device.
    """

    _factors: Factors
    _numbers: Tensor | None

    @staticmethod
    def __new__(cls, factors: Factors, like: Tensor) -> Self:
        """Make the tensor, which holds no numbers of its own."""
        size = (factors.vocab, factors.dim)
        made: Self = Tensor._make_wrapper_subclass(cls, size, dtype=like.dtype, device=like.device)
        return made

    def __init__(self, factors: Factors, like: Tensor) -> None:
        self._factors, self._numbers = factors, None

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call a function on the decoded table, unless it asks for the tensor's type or size."""
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {})) if func in _FACTS else cls._of_numbers(func, args, kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own stands for none
        cls, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call an operator on the decoded table; those that functions in Python call don't come here."""
        return cls._of_numbers(func, args, kwargs)

    @classmethod
    def _of_numbers(cls, func: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> Any:
        taken, named = _pytree.tree_map_only(cls, cls._decoded, (tuple(args), kwargs or {}))
        return func(*taken, **named)

    def _decoded(self) -> Tensor:
        if self._numbers is None:
            self._numbers = self._factors.table()
        return self._numbers
