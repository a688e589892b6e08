"""The processes of a run: one, or several under `torchrun` or `accelerate launch`.

All of them compute; the main one alone prints and writes. Count and index come from the launcher's environment
variables, so that asking for them imports nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from orientc.errors import DeviceError, UsageError
from orientc.utils.messages import first_line

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def count() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def index() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK") or 0)


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return index() == 0


def check_alone(what: str) -> None:
    """Raise `UsageError` where several processes run `what`, which is made for one."""
    if count() > 1:
        raise UsageError(f"{what} runs in one process: start it without a launcher")


def gather(values: list[T]) -> list[T]:
    """Concatenate the lists of all processes, in their order; every process gets the result."""
    if count() == 1:
        return values
    from accelerate.utils import gather_object

    joined()
    gathered: list[T] = gather_object(values)
    return gathered


def add_up(tensor: Tensor) -> Tensor:
    """Sum the tensors of all processes; every process gets the result."""
    if count() == 1:
        return tensor
    from accelerate.utils import reduce

    joined()
    total: Tensor = reduce(tensor, "sum")
    return total


def from_main(find: Callable[[], T]) -> T:
    """Call a function in the main process; every process gets the result, so that all see the same files."""
    if count() == 1:
        return find()
    from accelerate.utils import broadcast_object_list

    joined()
    found: list[Any] = broadcast_object_list([find() if is_main() else None])
    return found[0]  # type: ignore[no-any-return]


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Let the main process run the context before the others, so that they find what it downloads."""
    if count() == 1:
        yield
        return
    with joined().main_process_first():
        yield


def wait() -> None:
    """Wait until every process has come here."""
    if count() > 1:
        joined().wait_for_everyone()


def leave() -> None:
    """Leave the other processes, at the end: of one that ends while still joined, threads may end it with an abort."""
    if count() == 1 or "torch" not in sys.modules:
        return
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def joined(*, cpu: bool = False) -> Any:
    """Join the processes, and return accelerate's `PartialState` of them.

    Args:
        cpu: Use the CPU; so it is where there is no accelerator.

    Raises:
        DeviceError: accelerate joins fewer processes than the launcher has started, or can't join them.
    """
    import torch
    from accelerate import PartialState

    try:
        state = PartialState(cpu=cpu or (count() > 1 and not torch.accelerator.is_available()))
    except ValueError as error:  # the launcher's variables are not all there
        raise DeviceError(
            f"{count()} processes can't join ({first_line(error)}): start them with torchrun or accelerate launch"
        ) from error
    if state.num_processes < count():
        raise DeviceError(f"{count()} processes were started, accelerate joins {state.num_processes}: try `device` cpu")
    return state
