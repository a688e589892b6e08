"""Safetensors files with string metadata: written in a fixed order, checked before anything in them is used.

safetensors' own writer orders metadata at random; here the same content always gives the same bytes. Reading a header
checks its size, the type, shape and extent of every tensor, and that the extents fill the file. Which names, shapes and
metadata there have to be is up to the formats (artifact, calibration). Imports torch only to read or write tensors.
"""

from __future__ import annotations

import json
import math
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from orientc.errors import OrientcError
from orientc.utils.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "U8": ("uint8", 1), "I32": ("int32", 4), "I64": ("int64", 8),
}  # fmt: skip
CODES = {name: code for code, (name, _) in DTYPES.items()}
CHUNK = 1 << 20  # numbers checked at a time for being finite
_LARGEST_HEADER = 1 << 20  # bytes; ours take some two thousand
_T = TypeVar("_T")


class DamagedError(Exception):
    """A file is damaged; the message says how, and does not name the file."""


@dataclass(frozen=True)
class Stored:
    """A tensor as a header describes it; `dtype` is safetensors' code of the type, as "F32"."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Count of numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.numbers * DTYPES[self.dtype][1]


@dataclass(frozen=True)
class Header:
    """The header of a file: string metadata, and the tensors by name."""

    metadata: dict[str, str]
    tensors: dict[str, Stored]


@dataclass(frozen=True)
class FileFormat:
    """A format of safetensors files, marked in the metadata.

    Attributes:
        name: Value of `format`.
        version: The newest `format_version` this program reads, and the one it writes.
        called: What messages call such a file, with an article.
        error: What is raised where a file is not one.
    """

    name: str
    version: int
    called: str
    error: type[OrientcError]

    @property
    def marks(self) -> dict[str, str]:
        """The metadata that marks a file of this format."""
        return {"format": self.name, "format_version": str(self.version)}


def write(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Write a file atomically, metadata by key, tensors by item size (largest first, so that all are aligned) and name.

    Raises:
        OutputError: The file system refuses.
    """
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
    """Read and check the header of a file.

    Raises:
        DamagedError: It is no safetensors file, or a damaged one.
        OSError: It can't be read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # to open a pipe is to wait for somebody who writes
        raise DamagedError("it is no regular file")
    size = found.st_size
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


def read_described(path: Path, form: FileFormat, build: Callable[[Header], _T]) -> _T:
    """Build a description from the header of a file that must be of a format.

    Args:
        path: The file.
        form: The format.
        build: Makes the description; may raise `KeyError` for what is missing, `ValueError` for what makes no sense.

    Raises:
        OrientcError: The format's own error, where the file is damaged, foreign, too new or can't be read.
    """
    try:
        header = read_header(path)
    except OSError as error:
        raise form.error(f"can't read {path}: {error.strerror or error}") from error
    except DamagedError as error:
        raise form.error(f"{path} is not {form.called}, or is damaged: {error}") from None
    if header.metadata.get("format") != form.name:
        raise form.error(f"{path} is a safetensors file, but not {form.called}")
    try:
        if (version := positive(header.metadata, "format_version")) > form.version:
            raise form.error(f"{path} has format version {version}, newer than {form.version}: update orientc")
        return build(header)
    except KeyError as error:
        raise form.error(f"{path} is damaged: {error.args[0]} is missing") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise form.error(f"{path} is damaged: {error!s:.200}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file whose header has been checked.

    Raises:
        DamagedError: A number is not finite, or the file changed meanwhile.
    """
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


def as_strings(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as metadata; None, for what is not known, becomes ""."""
    return {key: "" if value is None else str(value) for key, value in values.items()}


def positive(metadata: Mapping[str, str], key: str) -> int:
    """Read a metadata entry that is a whole number of at least 1. Raises `KeyError` or `ValueError`."""
    value = int(metadata[key])
    if not 1 <= value < 1 << 63:
        raise ValueError(f"{key} is {value}")
    return value


def flat(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """Read a metadata entry that is a flat JSON object. Raises `KeyError` or `ValueError`."""
    values = json.loads(metadata[key])
    if not isinstance(values, dict) or any(isinstance(value, dict | list) for value in values.values()):
        raise ValueError(f"{key} are not a flat JSON object")
    return values


def _tensors(entries: dict[str, Any], data_bytes: int) -> dict[str, Stored]:
    """The tensors of a header for a file with so many bytes of data. Raises `DamagedError`."""
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
