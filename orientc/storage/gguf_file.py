"""Copies of GGUF files with tensors exchanged; every other byte of tensors and keys stays. Needs the extra `gguf`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from orientc.errors import ModelError
from orientc.utils.files import write_atomically
from orientc.utils.messages import first_line

OWN = "orientc."  # what orientc's own keys begin with
_FIXED = 24  # bytes of magic, version and two counts
_STRING = 8  # GGUF's number of the type of a key's value
_TYPE_AND_OFFSET = 12  # bytes at the end of what is said of a tensor


@dataclass(frozen=True)
class NewTensor:
    """What takes a tensor's place: ggml's number of its type, and its bytes; its shape stays."""

    kind: int
    content: bytes


def reader(path: Path) -> Any:
    """gguf-py's reader of a file. Raises `ModelError` where it can't be read."""
    try:
        import gguf
    except ImportError:
        raise ModelError("reading .gguf files needs the extra: pip install 'orientc[gguf]'") from None
    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError, NotImplementedError) as error:
        raise ModelError(f"{path} is not a GGUF file that can be read: {first_line(error)}") from error


def copy_with(base: Path, to: Path, tensors: Mapping[str, NewTensor], keys: Mapping[str, str]) -> None:
    """Copy a GGUF file atomically, some of its tensors exchanged; without any, and no keys, the copy is the same file.

    Args:
        base: The file.
        to: The copy; a file that is there is replaced.
        tensors: Tensors to exchange, by name.
        keys: Keys with texts to add, their names without "orientc." in front; those an earlier copy has are dropped.

    Raises:
        ModelError: The file can't be read, or a tensor is not in it.
        OutputError: The file system refuses.
    """
    found = reader(base)
    if found.byte_order != "I":
        raise ModelError(f"{base} is in the other byte order: only little-endian GGUF files can be copied")
    if missing := sorted(tensors.keys() - {tensor.name for tensor in found.tensors}):
        raise ModelError(f"{base} has no tensor {missing[0]}")
    write_atomically(to, lambda stream: _write(stream, found, tensors, keys))


def _write(stream: BinaryIO, found: Any, tensors: Mapping[str, NewTensor], keys: Mapping[str, str]) -> None:
    content, first = found.data, found.tensors[0].field.offset
    head = _keys(found, content[_FIXED:first].tobytes(), keys) if keys else (None, content[_FIXED:first].tobytes())
    start = content[:_FIXED].tobytes()
    if head[0] is not None:
        start = start[:16] + struct.pack("<Q", head[0])
    offsets, sizes = _placed(found, tensors)
    infos = b""
    for tensor, end in zip(found.tensors, [*(entry.field.offset for entry in found.tensors[1:]), None], strict=True):
        info = content[tensor.field.offset : end or _end_of_info(tensor)].tobytes()
        kind = tensors[tensor.name].kind if tensor.name in tensors else int(tensor.tensor_type)
        infos += info[:-_TYPE_AND_OFFSET] + struct.pack("<IQ", kind, offsets[tensor.name])
    header = start + head[1] + infos
    stream.write(header + bytes(-len(header) % int(found.alignment)))
    for tensor in sorted(found.tensors, key=lambda tensor: tensor.data_offset):
        if tensor.name not in tensors:
            span = content[tensor.data_offset : tensor.data_offset + sizes[tensor.name]]
            stream.write(memoryview(span))
            continue
        new = tensors[tensor.name].content
        stream.write(new + bytes(sizes[tensor.name] - len(new)))


def _placed(found: Any, tensors: Mapping[str, NewTensor]) -> tuple[dict[str, int], dict[str, int]]:
    """Where each tensor begins behind the header, and the bytes up to the next one, what fills the gap included."""
    ordered = sorted(found.tensors, key=lambda tensor: tensor.data_offset)
    ends = [*(tensor.data_offset for tensor in ordered[1:]), len(found.data)]
    offsets, sizes, place = {}, {}, 0
    for tensor, end in zip(ordered, ends, strict=True):
        size = end - tensor.data_offset
        if tensor.name in tensors:
            size = len(tensors[tensor.name].content)
            size += -size % int(found.alignment)
        offsets[tensor.name], sizes[tensor.name] = place, size
        place += size
    return offsets, sizes


def _end_of_info(tensor: Any) -> int:
    return int(tensor.field.offset) + sum(int(part.nbytes) for part in tensor.field.parts)


def _keys(found: Any, before: bytes, keys: Mapping[str, str]) -> tuple[int, bytes]:
    """The number of keys and their bytes, with ours anew behind the others."""
    fields = sorted((field.offset, name) for name, field in found.fields.items() if field.offset >= _FIXED)
    ends = [*(offset for offset, _ in fields[1:]), _FIXED + len(before)]
    kept = [
        before[offset - _FIXED : end - _FIXED]
        for (offset, name), end in zip(fields, ends, strict=True)
        if not name.startswith(OWN)
    ]
    added = [_text(f"{OWN}{name}") + struct.pack("<I", _STRING) + _text(value) for name, value in keys.items()]
    return len(kept) + len(added), b"".join([*kept, *added])


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded
