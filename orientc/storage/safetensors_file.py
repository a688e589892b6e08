"""Safetensors files with string metadata, always written as the same bytes, and read with suspicion.

`safetensors`' own writer orders metadata at random; here keys are sorted and tensors lie in the order of their names.
Reading a header checks its size, every entry's type, shape and extent, and that the extents fill the file, before a
tensor is touched. What the names, shapes and metadata have to be is the business of the format that uses this.
This module imports torch only where tensors are read or written.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from orientc.utils.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "U8": ("uint8", 1), "I32": ("int32", 4), "I64": ("int64", 8),
}  # fmt: skip
CODES = {name: code for code, (name, _) in DTYPES.items()}
CHUNK = 1 << 20  # numbers looked at together where all have to be finite
_LARGEST_HEADER = 1 << 20  # ours take some two thousand bytes


class DamagedError(Exception):
    """The file is not what it should be; the message says in which way, and does not name the file."""


@dataclass(frozen=True)
class Stored:
    """A tensor as a header describes it; `dtype` is safetensors' name of the type."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """What they take."""
        return self.numbers * DTYPES[self.dtype][1]


@dataclass(frozen=True)
class Header:
    """Metadata and tensors of a file, checked against its size."""

    metadata: dict[str, str]
    tensors: dict[str, Stored]


def write(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Write a file atomically; the same content gives the same bytes. Raises `OutputError`."""
    import torch

    ordered = dict(sorted(tensors.items(), key=lambda entry: (-entry[1].itemsize, entry[0])))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name, tensor in ordered.items():
        header[name] = {
            "dtype": CODES[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)

    def fill(stream: BinaryIO) -> None:
        stream.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in ordered.values():
            stream.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)

    write_atomically(path, fill)


def read_header(path: Path) -> Header:
    """What a file holds, from its header alone. Raises `DamagedError`, and `OSError` where it can't be read."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise DamagedError("it is no safetensors file, or is cut short: its header does not fit the file")
        if length > _LARGEST_HEADER:
            raise DamagedError(f"its header takes {length} bytes")
        encoded = stream.read(length)
    try:
        header = json.loads(encoded)
    except (ValueError, RecursionError):
        raise DamagedError("its header is not JSON") from None
    if not isinstance(header, dict):
        raise DamagedError("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DamagedError("its metadata holds something else than strings")
    return Header(metadata, _tensors(header, size - 8 - length))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file whose header has been checked. Raises `DamagedError` where a number is not finite."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamagedError(" ".join(str(error).split())[:200]) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not all(part.isfinite().all() for part in tensor.flatten().split(CHUNK)):
            raise DamagedError(f"{name!r:.60} holds numbers that are not finite")
    return tensors


def positive(metadata: Mapping[str, str], key: str) -> int:
    """A metadata entry that is a whole number of at least 1. Raises `KeyError` or `ValueError`."""
    value = int(metadata[key])
    if not 1 <= value < 1 << 63:
        raise ValueError(f"{key} is {value}")
    return value


def flat(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """A metadata entry that is a flat JSON object. Raises `KeyError` or `ValueError`."""
    values = json.loads(metadata[key])
    if not isinstance(values, dict) or any(isinstance(value, dict | list) for value in values.values()):
        raise ValueError(f"{key} are not a flat JSON object")
    return values


def _tensors(entries: dict[str, Any], data_bytes: int) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    ranges = []
    try:
        for name, entry in entries.items():
            if entry["dtype"] not in DTYPES:
                raise DamagedError(f"{name!r:.60} has type {entry['dtype']!r:.60}, not one of {', '.join(DTYPES)}")
            shape = tuple(entry["shape"])
            if not all(type(length) is int and 0 <= length < 1 << 63 for length in shape):
                raise DamagedError(f"{name!r:.60} has shape {entry['shape']!r:.60}")
            found[name] = Stored(entry["dtype"], shape)
            start, end = entry["data_offsets"]
            if type(start) is not int or type(end) is not int or end - start != found[name].nbytes:
                raise DamagedError(f"{name!r:.60} has an extent that does not fit its shape")
            ranges.append((start, end))
    except (KeyError, ValueError, TypeError, OverflowError):
        raise DamagedError("its header describes a tensor in a way that makes no sense") from None
    ends = [0, *(end for _, end in sorted(ranges))]
    if [start for start, _ in sorted(ranges)] != ends[:-1] or ends[-1] != data_bytes:
        raise DamagedError(f"its tensors should take {ends[-1]} bytes, the file has {data_bytes}")
    return found
