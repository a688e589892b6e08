"""How many bytes of large tensors are alive at once, counted as torch makes them: no timing, no system's figures."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """While it is entered `peak` is the most bytes that tensors of some size and more took together.

    Tensors that share their memory count once. Those that were there before count from when something is done with
    them, what NumPy makes when torch first looks at it.

    Args:
        least: Bytes that a tensor is counted from.
    """

    def __init__(self, least: int) -> None:
        super().__init__()
        self.peak = 0
        self._least, self._alive, self._sizes = least, Counter[int](), dict[int, int]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what is asked for, and count what comes of it and what it was done with."""
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves((made, args)):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes() >= self._least:
                self._count(tensor)
        self.peak = max(self.peak, sum(self._sizes.values()))
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        self._alive[place] += 1
        self._sizes[place] = storage.nbytes()
        weakref.finalize(tensor, self._forget, place)

    def _forget(self, place: int) -> None:
        self._alive[place] -= 1
        if not self._alive[place]:
            self._sizes.pop(place, None)
