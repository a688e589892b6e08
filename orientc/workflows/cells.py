"""The cells of a sweep: each is made, was there already, or fails alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orientc.utils.messages import first_line
from orientc.utils.progress import Progress

MADE, SKIPPED, FAILED = "made", "skipped", "failed"


@dataclass(frozen=True)
class Cell:
    """One thing that a sweep makes or measures.

    Attributes:
        name: What it is: "svd, ratio 5", "sst2 of svd-r37-b4837d37.safetensors".
        status: "made"; "skipped" where all of it was there already; "failed".
        seconds: How long it took.
        paths: Its files: an artifact, or records.
        error: Why it failed, in a line; None where it did not.
    """

    name: str
    status: str
    seconds: float
    paths: tuple[Path, ...] = ()
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"paths": [str(path) for path in self.paths]}


class Cells:
    """Does cells one after the other, and tells of each in a line.

    Args:
        progress: Told of each.
        total: How many there will be, as far as is known; may be set anew.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self.done: list[Cell] = []
        self.total = total
        self._progress = progress

    def do(self, name: str, work: Callable[[], tuple[Sequence[Path], bool]]) -> Cell:
        """Do a cell, whose failure is its own; being interrupted is not.

        Args:
            name: What it is.
            work: Gives its files, and whether any of them was made now.
        """
        start = time.perf_counter()
        try:
            paths, fresh = work()
            status, error = (MADE if fresh else SKIPPED), None
        except Exception as problem:  # whatever it is, the other cells can still be done
            paths, status, error = (), FAILED, first_line(problem)
        cell = Cell(name, status, round(time.perf_counter() - start, 3), tuple(paths), error)
        self.done.append(cell)
        told = {MADE: f"made in {cell.seconds:.1f} s", SKIPPED: "there already", FAILED: f"failed: {error}"}[status]
        self._progress.done(f"{len(self.done)}/{self.total} {name}: {told}")
        return cell
