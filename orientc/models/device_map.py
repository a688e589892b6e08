"""A model spread over devices by accelerate: what is asked for, and where its inputs go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import convert_file_size_to_int
from transformers import PreTrainedModel

from orientc.errors import DeviceError, EvaluationError, UsageError
from orientc.utils import distributed
from orientc.utils.messages import first_line

AUTO, BALANCED = POLICIES = ("auto", "balanced")
DISK, CPU = "disk", "cpu"
_LARGEST = 10_000_000  # bytes of a file that names modules


@dataclass(frozen=True)
class DeviceMap:
    """How a model is spread over devices.

    Attributes:
        modules: "auto" or "balanced", or the device of each module by name, "cpu" and "disk" among them.
        max_memory: Bytes, or such as "10GiB", by the number of a GPU or "cpu"; None for all there is.
    """

    modules: str | Mapping[str, str | int]
    max_memory: Mapping[str | int, str | int] | None = None

    @classmethod
    def read(cls, device_map: str | Path | None, max_memory: str | None, device: str | None = None) -> DeviceMap | None:
        """What two options say; None where neither is given.

        Args:
            device_map: "auto", "balanced", or a JSON file with the device of each module.
            max_memory: "0=10GiB,cpu=30GiB", or the same as a JSON object.
            device: Name of the one device that was chosen, which excludes a map.

        Raises:
            UsageError: They say nothing that can be used, or several processes run, each with a model of its own.
            DeviceError: They name a device that is not here.
        """
        if device_map is None:
            if max_memory is not None:
                raise UsageError("`max_memory` is for a model that is spread over devices: choose auto as `device_map`")
            return None
        if device is not None:
            raise UsageError("`device` and `device_map` exclude each other: name one device or spread the model")
        if distributed.count() > 1:
            raise UsageError(
                "`device_map` spreads one model over all devices, several processes have one each: leave it out, or "
                "start without a launcher"
            )
        named = str(device_map)
        found = cls(named if named in POLICIES else _read(Path(named)), _limits(max_memory))
        used = {*(found.max_memory or ()), *(() if isinstance(found.modules, str) else found.modules.values())}
        there = torch.accelerator.device_count()
        if lacking := [number for number in used if isinstance(number, int) and not 0 <= number < there]:
            raise DeviceError(
                f"there is no device {lacking[0]} here, of {there}: choose others in `device_map` and `max_memory`"
            )
        return found

    def options(self, folder: str) -> dict[str, Any]:
        """What `from_pretrained` takes; weights that have to be written anew for the disk go to a folder."""
        modules = self.modules if isinstance(self.modules, str) else {**self.modules}
        limits = {} if self.max_memory is None else {"max_memory": {**self.max_memory}}
        return {"device_map": modules, "offload_folder": folder, **limits}


def inputs_device(model: PreTrainedModel) -> torch.device:
    """The device that a model's inputs are best on: of one that is spread, the device it mainly runs on."""
    spread = getattr(model, "hf_device_map", None)
    own: torch.device = model.device
    if spread is None or own.type != "meta":
        return own
    return torch.device(next((device for device in spread.values() if device not in (CPU, DISK)), CPU))


def check_gradients(model: PreTrainedModel) -> None:
    """Raise `EvaluationError` for a model some of whose weights are kept away while they don't run."""
    places = {str(device) for device in getattr(model, "hf_device_map", {}).values()}
    away = {DISK} | ({CPU} if places - {CPU, DISK} else set())
    if found := sorted(places & away):
        raise EvaluationError(
            f"`device_map` leaves weights on {' and '.join(found)}, and gradients need all of them at once: allow more "
            "with `max_memory`, or take more devices"
        )


def _read(path: Path) -> Mapping[str, str | int]:
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        read = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"`device_map` takes {', '.join(POLICIES)} or a JSON file; can't read {path}: {error.strerror or error}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON file for `device_map`: {first_line(error)}") from None
    if not (isinstance(read, dict) and read and all(_is_device(device) for device in read.values())):
        raise UsageError(
            f'{path} is no `device_map`: it takes an object, such as {{"model.layers.0": 0, "lm_head": "cpu"}}'
        )
    return read


def _is_device(device: Any) -> bool:
    if isinstance(device, bool) or not isinstance(device, int | str):
        return False
    if isinstance(device, int):
        return device >= 0
    try:
        return device == DISK or torch.device(device) is not None
    except RuntimeError:
        return False


def _limits(named: str | None) -> Mapping[str | int, str | int] | None:
    """The most memory of each device. Raises `UsageError`."""
    if named is None:
        return None
    wrong = UsageError(f"`max_memory` takes devices with sizes, as 0=10GiB,cpu=30GiB, not {named!r:.80}")
    try:
        given: Any = json.loads(named)
    except (ValueError, RecursionError):
        given = dict(part.partition("=")[::2] for part in named.split(","))
    if not isinstance(given, dict) or not given:
        raise wrong
    found: dict[str | int, str | int] = {}
    for device, size in given.items():
        name = device.strip()
        try:
            size = size.strip() if isinstance(size, str) else size
            least = int(size) if isinstance(size, str) and size.isdigit() else convert_file_size_to_int(size)
        except (ValueError, AttributeError):
            raise wrong from None
        if least < 0 or not (name.isdigit() or name in (CPU, "mps")):
            raise wrong
        found[int(name) if name.isdigit() else name] = least
    return found
