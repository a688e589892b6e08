"""Where tensors live while they are worked on."""

from __future__ import annotations

import torch

from orientc.errors import UsageError


def pick_device(name: str | None = None) -> torch.device:
    """The device called `name`, or the one accelerate picks. Raises `UsageError` for one that is not there."""
    if name is None:
        from accelerate import PartialState

        device: torch.device = PartialState().device
        return device
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"there is no device {name!r} here: {str(error).splitlines()[0]}") from None
    return device
