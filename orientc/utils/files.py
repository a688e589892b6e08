"""Atomic files, hashes, and JSON in a canonical form."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from orientc.errors import OutputError
from orientc.utils.messages import first_line

INFINITY = "Infinity"  # in JSON
_PART = ".part"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that appears complete and synced, or not at all; missing parent folders are made.

    Args:
        path: The file; one that is there is replaced.
        write: Writes the content into a stream.

    Raises:
        OutputError: The file system refuses.
    """
    with beside(path, _new_file) as temporary:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~umask())
        os.replace(temporary, path)


def stays_inside(name: str) -> bool:
    """Whether a relative path can't lead out of its folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the context errors of the file system become `OutputError`, whichever library raises them."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror or error}") from error
    except Exception as error:  # safetensors and tokenizers raise errors of their own, torch RuntimeErrors
        if not re.search(r"\(os error \d+\)|PytorchStreamWriter|inline_container", str(error)):
            raise
        raise OutputError(f"can't write {path}: {first_line(error)}") from error


def check_writable(folder: Path) -> None:
    """Raise `OutputError` before a long run where no file can be made in a folder; it is made if missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"can't write in {folder}: {error.strerror or error}") from error


def read_bytes(path: Path, most: int) -> bytes:
    """Read a whole file that must be a regular one.

    Args:
        path: The file.
        most: Bytes it may have.

    Raises:
        OSError: It can't be read, is a folder, pipe or device, which may have no end, or is larger.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or device, not a regular file", str(path))
    if found.st_size > most:
        raise OSError(errno.EFBIG, f"it has {_size(found.st_size)}, at most {_size(most)} are read", str(path))
    with path.open("rb") as stream:  # proc's files, of size 0, have content all the same
        content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {_size(most)}", str(path))
    return content


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; as `strict_json` has it."""
    content = json_bytes(value)
    write_atomically(path, lambda stream: stream.write(content))


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    return encoded(json.dumps(strict_json(value), indent=1, ensure_ascii=False) + "\n")


def encoded(text: str) -> bytes:
    r"""Text as UTF-8; a lone surrogate, which a file's name can hold, as an escape like \udce9, as in JSON."""
    return text.encode("utf-8", "backslashreplace")


def strict_json(value: Any) -> Any:
    """A value with keys as strings; JSON lacks words for infinity, which becomes "Infinity", and for NaN: None."""
    if isinstance(value, dict):
        return {str(key): strict_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [strict_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else INFINITY if value > 0 else f"-{INFINITY}"
    return value


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def short_hash(value: Any) -> str:
    """The first 8 hex digits of the sha256 of a value's canonical JSON."""
    return hashlib.sha256(encoded(canonical_json(value))).hexdigest()[:8]


def file_sha256(*paths: Path) -> str:
    """The sha256 of a file, or of the concatenated hashes of several in the order given."""
    if len(paths) == 1:
        with paths[0].open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    return hashlib.sha256("".join(map(file_sha256, paths)).encode()).hexdigest()


@contextlib.contextmanager
def beside(path: Path, make: Callable[..., str]) -> Iterator[Path]:
    """Make a temporary file or folder beside `path`, to be renamed; it is removed at the end if still there.

    Those that killed writers of `path` left are removed too; a living writer holds a lock on its own.
    """
    with contextlib.ExitStack() as at_the_end, writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(path)
        while True:
            temporary = Path(make(prefix=f".{path.name}.", suffix=_PART, dir=path.parent))
            at_the_end.callback(_remove, temporary)
            if at_the_end.enter_context(_locked(temporary)) is not False:
                break  # otherwise another writer removed it before it was locked
        yield temporary
        _sync_folder(path.parent)


def _new_file(prefix: str, suffix: str, dir: Path) -> str:
    descriptor, name = tempfile.mkstemp(suffix, prefix, dir)
    os.close(descriptor)
    return name


def _remove_left_over(path: Path) -> None:
    """Remove temporary files and folders that killed writers of `path` left."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}{re.escape(_PART)}")
    for found in [entry for entry in path.parent.iterdir() if name.fullmatch(entry.name)]:
        with _locked(found) as locked:
            if locked:
                _remove(found)


@contextlib.contextmanager
def _locked(temporary: Path) -> Iterator[bool | None]:
    """Lock a temporary file or folder. Yields False where it is locked or gone, None where there are no locks."""
    try:
        descriptor = os.open(temporary, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    except PermissionError:  # another user's; or a folder on Windows
        yield None
        return
    try:
        locked: bool | None = None
        with contextlib.suppress(OSError):  # some network file systems have no locks
            locked = _try_to_lock(descriptor) and temporary.exists()
        yield locked
    finally:
        os.close(descriptor)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)


def _try_to_lock(descriptor: int) -> bool:
    """Try to lock a file; return whether it was free. Raises `OSError` where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows, where a file that is open can't be renamed
        raise OSError("no locks") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def umask() -> int:
    """The permissions that new files and folders don't get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def copy_files(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files into `folder` by the names they are to have there."""
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
