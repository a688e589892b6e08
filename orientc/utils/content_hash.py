"""Hashes of files of any size, each computed once: a large file's is remembered by what the file system says of it.

A file counts as the same while its size, its inode and its times of modification and change, in nanoseconds, are. A
program can set the first time back, but not the second. Hashes are kept in memory and in `content-hashes.json` in a
cache folder: `$ORIENTC_CACHE`, else `$XDG_CACHE_HOME/orientc`, else `~/.cache/orientc`. Where that can't be written,
files are hashed once a process. Small files are hashed every time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orientc.errors import OutputError
from orientc.utils.files import write_json

FILE = "content-hashes.json"
SMALL = 1 << 20  # bytes
SETTLED = 2.0  # seconds: a file that changed just now may change again within one tick of its file system's clock
MOST = 4096  # files remembered
_BLOCK = 16 << 20  # bytes
_THREADS = min(8, os.cpu_count() or 1)  # beyond that a disk is the limit, not sha256

_Known = dict[str, list[int | str]]  # by path: size, mtime and ctime in nanoseconds, inode, hash
_known: dict[Path, _Known] = {}  # by the file that they are kept in


def content_hash(path: Path) -> str:
    """The hash of a file's bytes, 64 hex digits: the sha256 of the sha256 of each 16 MiB, computed in several threads.

    Raises:
        OSError: The file can't be read.
    """
    place, known = _remembered()
    key = str(path.resolve())
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        before = _state(descriptor)
        entry = known.get(key)
        if entry and entry[:-1] == before:
            return str(entry[-1])
        now = time.time()
        digest = hashlib.sha256(b"".join(_digests(descriptor, before[0]))).hexdigest()
        settled = now - max(before[1:3]) / 1e9 > SETTLED
        if before[0] >= SMALL and settled and _state(descriptor) == before:
            known.pop(key, None)
            known[key] = [*before, digest]
            _keep(place, known)
        return digest
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """Where orientc keeps what it can compute again."""
    if own := os.environ.get("ORIENTC_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path(os.path.expanduser("~"), ".cache"), "orientc")


def _state(descriptor: int) -> list[int]:
    found = os.fstat(descriptor)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _digests(descriptor: int, size: int) -> Iterator[bytes]:
    """The digest of each block, in order."""
    starts = range(0, size, _BLOCK)
    if len(starts) < 2 or not hasattr(os, "pread"):
        with open(descriptor, "rb", closefd=False) as stream:
            stream.seek(0)
            while block := stream.read(_BLOCK):
                yield hashlib.sha256(block).digest()
        return
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from threads.map(lambda start: hashlib.sha256(os.pread(descriptor, _BLOCK, start)).digest(), starts)


def _remembered() -> tuple[Path, _Known]:
    """The file that hashes are kept in, and what is known of it; a damaged one is as good as none."""
    place = cache_folder() / FILE
    if place not in _known:
        _known[place] = _read(place)
    return place, _known[place]


def _read(place: Path) -> _Known:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {path: entry for path, entry in entries if isinstance(entry, list) and _sound(entry)}


def _sound(entry: list[object]) -> bool:
    return len(entry) == 5 and isinstance(entry[-1], str) and len(entry[-1]) == 64


def _keep(place: Path, known: _Known) -> None:
    """Write down what is known, with what other processes have written meanwhile; the latest `MOST` of all."""
    merged = {path: entry for path, entry in _read(place).items() if path not in known} | known
    known.clear()
    known |= dict(list(merged.items())[-MOST:])
    try:
        write_json(place, known)
    except OutputError:
        return
