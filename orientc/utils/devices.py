"""The choice of the device to compute on."""

from __future__ import annotations

import torch

from orientc.errors import DeviceError, UsageError
from orientc.utils import distributed
from orientc.utils.messages import first_line


def pick_device(name: str | None = None) -> torch.device:
    """Choose the device to compute on.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps" …; None: the one accelerate picks.

    Raises:
        UsageError: `name` is not the name of a device, or several processes run and are to get one each.
        DeviceError: There is no such device here.
    """
    if name is None or distributed.count() > 1:
        if name not in (None, "cpu"):
            raise UsageError("with several processes accelerate gives each its `device`: leave it out, or name cpu")
        device: torch.device = distributed.joined(cpu=name == "cpu").device
        return device
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"{name!r} is not the name of a device: cpu, cuda, cuda:1, mps …") from None
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(f"there is no {name} here ({first_line(error)}): choose another `device`") from None
    return device
