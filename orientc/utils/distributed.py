"""The processes a command runs in: one as a rule, several under `torchrun` or `accelerate launch`.

The launcher tells each process its place through the environment, so asking costs no import. All of them compute;
the main one alone prints and writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from orientc.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def index() -> int:
    """Which of them this one is, from 0."""
    return int(os.environ.get("RANK") or 0)


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return index() == 0


def check_alone(what: str) -> None:
    """Raise `UsageError` where several processes were started for something that runs in one."""
    if count() > 1:
        raise UsageError(f"{what} runs in one process: start it without a launcher")


def gather(values: list[T]) -> list[T]:
    """The lists of all processes joined, in their order; every process gets the whole."""
    if count() == 1:
        return values
    from accelerate.utils import gather_object

    joined()
    gathered: list[T] = gather_object(values)
    return gathered


def add_up(tensor: Tensor) -> Tensor:
    """The sum of the tensors of all processes, in every process."""
    if count() == 1:
        return tensor
    from accelerate.utils import reduce

    joined()
    total: Tensor = reduce(tensor, "sum")
    return total


def from_main(find: Callable[[], T]) -> T:
    """What `find` returns in the main process, in all of them: so that they never differ on what a file says."""
    if count() == 1:
        return find()
    from accelerate.utils import broadcast_object_list

    joined()
    found: list[Any] = broadcast_object_list([find() if is_main() else None])
    return found[0]  # type: ignore[no-any-return]


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """The main process goes through the context before the others do: what it downloads, they find."""
    if count() == 1:
        yield
        return
    with joined().main_process_first():
        yield


def wait() -> None:
    """Go on when every process has come here."""
    if count() > 1:
        joined().wait_for_everyone()


def joined(*, cpu: bool = False) -> Any:
    """accelerate's view of the processes; its first use joins them, over the CPU if `cpu` or there is nothing else.

    Raises `DeviceError` where that joins fewer than the launcher has started: each would take itself for the whole.
    """
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=cpu or (count() > 1 and not torch.accelerator.is_available()))
    if state.num_processes < count():
        raise DeviceError(f"{count()} processes were started, accelerate joins {state.num_processes}: try --device cpu")
    return state
