"""Which files below a folder are opened, by whatever code: the kernel tells (inotify, so on Linux alone)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_OPEN, _IS_FOLDER, _NONBLOCK = 0x20, 0x40000000, 0o4000


@contextlib.contextmanager
def opened_below(folder: Path) -> Iterator[set[str]]:
    """Afterwards the set has the names, relative to the folder, of the files that were opened within the context."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(_NONBLOCK)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    places: dict[int, Path] = {}
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        watch = libc.inotify_add_watch(descriptor, os.fsencode(place), _OPEN)
        assert watch >= 0, os.strerror(ctypes.get_errno())
        places[watch] = place
    found: set[str] = set()
    try:
        yield found
        with contextlib.suppress(BlockingIOError):
            while events := os.read(descriptor, 1 << 16):
                while events:
                    watch, mask, _, length = struct.unpack_from("iIII", events)
                    name = events[16 : 16 + length].rstrip(b"\0")
                    events = events[16 + length :]
                    if name and not mask & _IS_FOLDER:
                        found.add((places[watch] / os.fsdecode(name)).relative_to(folder).as_posix())
    finally:
        os.close(descriptor)
