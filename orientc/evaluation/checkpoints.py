"""Checkpoints of a fine-tuning run: find the last complete one of this run, and remove them when it is done.

A checkpoint is complete once it holds the mark, written last: a JSON file that says which run it belongs to. The folder
holds a mark from the start: without one, checkpoints in it that have none are somebody else's, and are left alone.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orientc.errors import OutputError
from orientc.utils.files import write_json

MARK = "orientc-run.json"
SUFFIX = ".checkpoints"


@dataclass(frozen=True)
class Checkpoints:
    """The folder with the checkpoints of one run; `run` is all its figures depend on, as JSON values."""

    folder: Path
    run: dict[str, Any]

    def begin(self) -> None:
        """Say that what comes into the folder from here on is ours. Raises `OutputError`."""
        write_json(self.folder / MARK, self.run)

    def mark_whole(self, step: int) -> None:
        """Say that the checkpoint of this step is complete. Raises `OutputError`."""
        write_json(self._path(step) / MARK, self.run)

    def last(self, *, resume: bool, overwrite: bool) -> Path | None:
        """The last whole checkpoint to go on from; None where the run starts afresh.

        Raises `OutputError` where the folder holds checkpoints that orientc did not write, some of another run, or some
        of this one that neither `resume` nor `overwrite` says what to do with.
        """
        if foreign := [step for step in self._steps() if not self._is_ours(step)]:
            raise OutputError(
                f"{self.folder} holds {self._path(foreign[0]).name}, which orientc did not write: name another "
                "folder as `checkpoint_dir`"
            )
        whole = [step for step in self._steps() if (self._path(step) / MARK).is_file()]
        if overwrite or not whole:
            return None
        last = self._path(whole[-1])
        if _read(last / MARK) != self.run:
            raise OutputError(f"{self.folder} holds checkpoints of another run: start over with `overwrite`")
        if not resume:
            raise OutputError(
                f"an interrupted run has left checkpoints in {self.folder}: go on from step {whole[-1]} with `resume`, "
                "or start over with `overwrite`"
            )
        return last

    def clear(self, *, others: bool = False) -> None:
        """Remove this run's checkpoints, with `others` all, and half-written ones; the folder if nothing is left."""
        for path in map(self._path, filter(self._is_ours, self._steps())):
            if others or not (path / MARK).is_file() or _read(path / MARK) == self.run:
                shutil.rmtree(path, ignore_errors=True)
        if not self._steps():
            (self.folder / MARK).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _is_ours(self, step: int) -> bool:
        return any((folder / MARK).is_file() for folder in (self.folder, self._path(step)))

    def _steps(self) -> list[int]:
        found = (re.fullmatch(r"checkpoint-(\d+)", path.name) for path in self.folder.glob("checkpoint-*"))
        return sorted(int(name[1]) for name in found if name)

    def _path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
