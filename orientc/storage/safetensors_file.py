"""Safetensors files with string metadata: written in a fixed order, checked before anything in them is used.

safetensors' own writer orders metadata at random; here the same content always gives the same bytes. Reading a header
checks its size, the type, shape and extent of every tensor, and that the extents fill the file. Which names, shapes and
metadata there have to be is up to the formats (artifact, calibration). Imports torch only to read or write tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from orientc.errors import OrientcError
from orientc.utils.files import encoded, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "U8": ("uint8", 1), "I8": ("int8", 1), "I32": ("int32", 4), "I64": ("int64", 8),
}  # fmt: skip
CODES = {name: code for code, (name, _) in DTYPES.items()}
CHUNK = 1 << 20  # numbers checked at a time for being finite
_LARGEST_HEADER = 1 << 20  # bytes; ours take some two thousand
_T = TypeVar("_T")
_Made = TypeVar("_Made")


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
    """The header of a file: string metadata, the tensors by name, and where they start, in bytes behind the header."""

    metadata: dict[str, str]
    tensors: dict[str, Stored]
    starts: dict[str, int]


@dataclass(frozen=True)
class Content:
    """All of a file: its header, its tensors, and the sha256 of the very bytes that both were read from."""

    header: Header
    tensors: dict[str, Tensor]
    sha256: str


@dataclass(frozen=True)
class FileFormat:
    """A format of safetensors files, marked in the metadata.

    Attributes:
        name: Value of `format`.
        version: The newest `format_version` this program reads, and the one it writes.
        called: What messages call such a file, with an article.
        error: What is raised where a file is not one.
        oldest: The oldest `format_version` this program reads.
        again: The command that makes such a file anew, for one that is too old.
    """

    name: str
    version: int
    called: str
    error: type[OrientcError]
    oldest: int = 1
    again: str = ""

    @property
    def marks(self) -> dict[str, str]:
        """The metadata that marks a file of this format."""
        return {"format": self.name, "format_version": str(self.version)}


def write(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Write a file atomically, metadata by key, tensors by item size (largest first, so that all are aligned) and name.

    Raises:
        OutputError: The file system refuses.
    """

    def fill(stream: BinaryIO) -> None:
        for piece in _pieces(metadata, tensors):
            stream.write(piece)

    write_atomically(path, fill)


def sha256_of(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of the file that `write` would write."""
    digest = hashlib.sha256()
    for piece in _pieces(metadata, tensors):
        digest.update(piece)
    return digest.hexdigest()


def read_header(path: Path) -> Header:
    """Read and check the header of a file.

    Raises:
        DamagedError: It is no safetensors file, or a damaged one.
        OSError: It can't be read.
    """
    with _open(path) as stream:
        return _header(_encoded_header(stream), stream)


def read(path: Path) -> Content:
    """Read and check a file of any format, once: what comes is of one file, also where another takes its place.

    Raises:
        DamagedError: It is no safetensors file, or a damaged one; or a number is not finite.
        OSError: It can't be read.
    """
    with _open(path) as stream:
        encoded = _encoded_header(stream)
        header = _header(encoded, stream)
        return _content(encoded, header, stream)


def read_described(path: Path, form: FileFormat, build: Callable[[Header], _T]) -> _T:
    """Build a description from the header of a file that must be of a format.

    Args:
        path: The file.
        form: The format.
        build: Makes the description; may raise `KeyError` for what is missing, `ValueError` for what makes no sense.

    Raises:
        OrientcError: The format's own error, where the file is damaged, foreign, too new or can't be read.
    """
    with _opened(path, form) as stream:
        return _described(path, form, build, stream)[2]


def hash_described(path: Path, form: FileFormat, build: Callable[[Header], _T]) -> tuple[_T, str]:
    """Build a description as `read_described` does, and hash the same file; returns both."""
    with _opened(path, form) as stream:
        encoded, _, described = _described(path, form, build, stream)
        digest = hashlib.sha256(encoded)
        while block := stream.read(CHUNK):
            digest.update(block)
        return described, digest.hexdigest()


def read_all(
    path: Path, form: FileFormat, build: Callable[[Header], _T], make: Callable[[_T, dict[str, Tensor]], _Made]
) -> tuple[_Made, str]:
    """Read all of a file that must be of a format, once.

    Args:
        path: The file.
        form: The format.
        build: As in `read_described`.
        make: Makes what is wanted of the description and the tensors; may raise `DamagedError`.

    Returns:
        What `make` makes, and the sha256 of the bytes that it was made from.

    Raises:
        OrientcError: As `read_described` does.
    """
    with _opened(path, form) as stream:
        encoded, header, described = _described(path, form, build, stream)
        try:
            content = _content(encoded, header, stream)
            return make(described, content.tensors), content.sha256
        except DamagedError as error:
            raise form.error(f"{path} is damaged: {error}") from None


def _open(path: Path) -> BinaryIO:
    if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe is to wait for somebody who writes
        raise DamagedError("it is no regular file")
    return path.open("rb")


@contextmanager
def _opened(path: Path, form: FileFormat) -> Iterator[BinaryIO]:
    """A file that is read; within the context an `OSError` becomes the format's error."""
    try:
        stream = _open(path)
    except DamagedError as error:
        raise form.error(f"{path} is not {form.called}, or is damaged: {error}") from None
    except OSError as error:
        raise form.error(f"can't read {path}: {error.strerror or error}") from error
    try:
        with stream:
            yield stream
    except OSError as error:
        raise form.error(f"can't read {path}: {error.strerror or error}") from error


def _described(
    path: Path, form: FileFormat, build: Callable[[Header], _T], stream: BinaryIO
) -> tuple[bytes, Header, _T]:
    """The header as it stands in the file, as it was read, and the description that it makes."""
    try:
        encoded = _encoded_header(stream)
        header = _header(encoded, stream)
    except DamagedError as error:
        raise form.error(f"{path} is not {form.called}, or is damaged: {error}") from None
    if header.metadata.get("format") != form.name:
        raise form.error(f"{path} is a safetensors file, but not {form.called}")
    try:
        if (version := positive(header.metadata, "format_version")) > form.version:
            raise form.error(f"{path} has format version {version}, newer than {form.version}: update orientc")
        if version < form.oldest:
            raise form.error(f"{path} has format version {version}, older than {form.oldest}: {form.again}")
        return encoded, header, build(header)
    except KeyError as error:
        raise form.error(f"{path} is damaged: {error.args[0]} is missing") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise form.error(f"{path} is damaged: {error!s:.200}") from None


def _encoded_header(stream: BinaryIO) -> bytes:
    """The header's length and the header itself as they stand in the file. Raises `DamagedError`."""
    size = os.fstat(stream.fileno()).st_size
    start = stream.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
    if length > size - 8:
        raise DamagedError("it is no safetensors file, or is cut short: its header does not fit the file")
    if length > _LARGEST_HEADER:
        raise DamagedError(f"its header takes {length} bytes")
    return start + stream.read(length)


def _header(encoded: bytes, stream: BinaryIO) -> Header:
    """Check a header, also against the size of its file. Raises `DamagedError`."""
    try:
        header = json.loads(encoded[8:])
    except (ValueError, RecursionError):
        raise DamagedError("its header is not JSON") from None
    if not isinstance(header, dict):
        raise DamagedError("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DamagedError("its metadata holds something else than strings")
    tensors = _tensors(header, os.fstat(stream.fileno()).st_size - len(encoded))
    return Header(metadata, tensors, {name: header[name]["data_offsets"][0] for name in tensors})


def _content(encoded: bytes, header: Header, stream: BinaryIO) -> Content:
    """Read the tensors, which lie where the header says, into memory that they share. Raises `DamagedError`."""
    import torch

    data = bytearray(sum(stored.nbytes for stored in header.tensors.values()))
    if stream.readinto(data) != len(data):  # type: ignore[attr-defined]
        raise DamagedError("it was cut short while it was read")
    digest = hashlib.sha256(encoded)
    digest.update(data)
    tensors: dict[str, Tensor] = {}
    for name, stored in header.tensors.items():
        dtype, start = getattr(torch, DTYPES[stored.dtype][0]), header.starts[name]
        if not stored.numbers:
            tensors[name] = torch.empty(stored.shape, dtype=dtype)
            continue
        aligned = start % dtype.itemsize == 0  # another program's file may be laid out in any way
        whole = data if aligned else bytearray(data[start : start + stored.nbytes])
        flat = torch.frombuffer(whole, dtype=dtype, count=stored.numbers, offset=start if aligned else 0)
        tensors[name] = flat.reshape(stored.shape)
        if dtype.is_floating_point and not all(part.isfinite().all() for part in flat.split(CHUNK)):
            raise DamagedError(f"{name!r:.60} holds numbers that are not finite")
    return Content(header, tensors, digest.hexdigest())


def _pieces(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Iterator[Any]:
    """The bytes of a file in their order."""
    import torch

    ordered = dict(sorted(tensors.items(), key=lambda entry: (-entry[1].itemsize, entry[0])))
    # a lone surrogate, in a path, would be JSON that safetensors can't read
    strings = {key: encoded(value).decode() for key, value in sorted(metadata.items())}
    header: dict[str, Any] = {"__metadata__": strings}
    offset = 0
    for name, tensor in ordered.items():
        header[name] = {
            "dtype": CODES[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    start = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    start += b" " * (-len(start) % 8)
    yield struct.pack("<Q", len(start)) + start
    for tensor in ordered.values():
        yield tensor.contiguous().flatten().view(torch.uint8).numpy().data


def is_ours(path: Path) -> bool:
    """Whether a file is one of orientc's by its header, damaged or not, or holds nothing but a part of a header.

    Raises `OSError`.
    """
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(8 + _LARGEST_HEADER)
    if not start:
        return True
    if not re.match(rb'\s*\{\s*"__metadata__"\s*:\s*\{', start[8:]):  # the metadata come first
        return False
    cut = struct.unpack("<Q", start[:8])[0] > path.stat().st_size - 8
    return cut or re.search(rb'"format"\s*:\s*"orientc', start) is not None  # in a string its quotes would be escaped


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
