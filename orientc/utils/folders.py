"""Folders that appear complete, with a list of their files: only what is on its list, unchanged, is ever replaced."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from orientc.errors import OutputError
from orientc.utils.documents import document, marks
from orientc.utils.files import beside, file_sha256, umask, write_atomically, write_json, writing

LIST = "orientc_files.json"  # in each folder: the names of all its other files, with their sha256


def write_folder(path: Path, fill: Callable[[Path], object], *, overwrite: bool) -> None:
    """Write a folder that appears complete, with the list of its files, or not at all; missing parents are made.

    Args:
        path: The folder.
        fill: Writes the content into a folder.
        overwrite: Replace a folder that is there, if all in it is on its list and unchanged.

    Raises:
        OutputError: Something else is there by now, or the file system refuses.
    """
    with beside(path, tempfile.mkdtemp) as temporary:
        temporary.chmod(0o777 & ~umask())
        fill(temporary)
        _write_list(temporary, {name: file_sha256(temporary / name) for name in _entries(temporary)})
        for file in filter(Path.is_file, temporary.rglob("*")):  # safetensors writes files for the owner alone
            file.chmod(0o666 & ~umask())
        while True:
            try:
                os.replace(temporary, path)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            with contextlib.suppress(FileNotFoundError):  # another writer has replaced it this moment
                _take_away(path, overwrite=overwrite)


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` where `write_folder` would not write; an empty folder is no obstacle."""
    if path.is_symlink():
        raise OutputError(f"{path} is a link: name the place it leads to")
    with writing(path):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            _check_replaceable(path, overwrite=overwrite)


def files_of(folder: Path) -> list[str]:
    """Names of the files that are on a folder's list, and of the list itself; none where there is no list."""
    known = _listed(folder)
    return [] if known is None else sorted([*known, LIST])


def add_file(folder: Path, name: str, content: bytes) -> None:
    """Write a file into a folder of ours, or a new one, and put it on the list; one of ours is replaced.

    Raises:
        OutputError: Another file of that name is there, or the file system refuses.
    """
    path = folder / name
    with writing(path):
        if os.path.lexists(path) and (foreign := _foreign(folder, [name])):
            raise OutputError(f"{folder} holds {foreign}: move it")
        path.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        # the list first: a file that is listed and not there is in nobody's way
        _write_list(folder, (_listed(folder) or {}) | {name: hashlib.sha256(content).hexdigest()})
        write_atomically(path, lambda stream: stream.write(content))


def remove_others(folder: Path, kept: Iterable[str]) -> None:
    """Remove all files of a folder's list but some; nothing where any file is not as we wrote it.

    Raises:
        OutputError: The file system refuses.
    """
    known = _listed(folder) or {}
    with writing(folder):
        if _foreign(folder):
            return
        staying = {name: sha256 for name, sha256 in known.items() if name in {*kept}}
        for name in known.keys() - staying.keys():
            (folder / name).unlink(missing_ok=True)
        _write_list(folder, staying)


def _write_list(folder: Path, files: dict[str, str]) -> None:
    write_json(folder / LIST, document("files", {"files": dict(sorted(files.items()))}))


def _check_replaceable(path: Path, *, overwrite: bool) -> None:
    if not (overwrite and path.is_dir()):
        raise OutputError(f"{path} is there already: name another place, or replace a folder with `overwrite`")
    if foreign := _foreign(path):
        raise OutputError(f"{path} holds {foreign}: `overwrite` would lose it; move it, or name another place")


def _take_away(path: Path, *, overwrite: bool) -> None:
    """Remove a folder as a whole, so that nobody sees it half deleted; it stays where anything in it is foreign.

    Nothing is done where another writer replaces it meanwhile. Raises `OutputError` where it stays.
    """
    which, state = _which(path), _state(path)
    try:
        _check_replaceable(path, overwrite=overwrite)
    except OutputError:
        if overwrite and _which(path) != which:
            return
        raise
    with beside(path, tempfile.mkdtemp) as aside:
        moved = aside / path.name
        try:
            os.replace(path, moved)
        except FileNotFoundError:
            return
        if _state(moved) != state and (foreign := _foreign(moved)):  # it came between the look and the move
            raise OutputError(f"{_put_back(moved, path)} holds {foreign}, and was left as it is")


def _put_back(moved: Path, path: Path) -> Path:
    """Move a folder back to its place, or beside it where the place is taken; where it is now."""
    try:
        os.replace(moved, path)
        return path
    except OSError:
        kept = Path(tempfile.mkdtemp(prefix=f"{path.name}.", dir=path.parent))
        os.replace(moved, kept)
        return kept


def _entries(path: Path) -> Iterator[str]:
    """All in a folder but folders: names in it, in order; links are not followed."""

    def fail(error: OSError) -> None:
        raise error

    found = []
    for place, folders, names in os.walk(path, onerror=fail):
        links = [name for name in folders if Path(place, name).is_symlink()]
        found += [Path(place, name).relative_to(path).as_posix() for name in (*names, *links)]
    yield from sorted(found)


def _listed(folder: Path) -> dict[str, str] | None:
    """The sha256 of each file on a folder's list, by its name in the folder; None where there is no such list."""
    try:
        values: Any = json.loads((folder / LIST).read_text(encoding="utf-8"))
        if values["format"] != marks("files")["format"]:
            return None
        return {str(name): str(sha256) for name, sha256 in values["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _foreign(path: Path, names: Iterable[str] | None = None) -> str | None:
    """The first entry of a folder, or of `names`, that is not as on its list, in words; None where there is none."""
    known = _listed(path)
    for name in _entries(path) if names is None else names:
        file = path / name
        if known is None or name not in (*known, LIST):
            return f"{name}, which orientc did not write"
        if file.is_symlink() or not file.is_file() or (name != LIST and file_sha256(file) != known[name]):
            return f"{name}, which was changed since orientc wrote it"
    return None


def _which(path: Path) -> tuple[int, ...] | None:
    """Tells a folder from another that is put in its place: each has its own list."""
    try:
        found = os.stat(path / LIST)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, os.stat(path).st_ino


def _state(path: Path) -> dict[str, tuple[int, ...]]:
    """What tells whether anything in a folder was changed, without reading it."""
    found = {name: os.lstat(path / name) for name in _entries(path)}
    return {name: (entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns) for name, entry in found.items()}
