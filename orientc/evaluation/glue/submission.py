"""The files that GLUE's server scores: one per test set, a prediction for each of its rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from orientc.errors import EvaluationError
from orientc.evaluation.glue.tasks import LARGEST_SCORE, TASKS, Task
from orientc.utils.files import file_sha256, write_atomically

DIAGNOSTIC = "AX"  # answered by MNLI's model

_SUFFIXES = {"": "", "matched": "-m", "mismatched": "-mm"}
_IN_WORDS = {"mnli", "qnli", "rte"}  # the others' classes are submitted as ids


def stem(task: Task, split: str) -> str:
    """The name, without `.tsv`, of the file for a task's test set; `split` is one of `task.splits`."""
    return task.folder + _SUFFIXES[split]


_TASKS = {stem(task, split): task for task in TASKS.values() for split in task.splits} | {DIAGNOSTIC: TASKS["mnli"]}


def write(folder: Path, answers: Mapping[str, tuple[Iterable[int], Iterable[float]]]) -> list[Path]:
    """Write a file for each test set and return their paths, in the order of `answers`.

    `answers` has, by stem ("SST-2", "MNLI-mm", "AX"), the rows' indices and the predictions: class ids, or scores for
    STS-B, which are cut to its range. Raises `EvaluationError` for a score that is not a number, and `OutputError`
    where the file system refuses.
    """
    for name, (indices, predictions) in answers.items():
        rows = [f"{index}\t{_spelled(name, value)}\n" for index, value in zip(indices, predictions, strict=True)]
        _write(_path(folder, name), "".join(["index\tprediction\n", *rows]))
    return [_path(folder, name) for name in answers]


def sha256s(folder: Path, stems: Iterable[str]) -> dict[str, str | None]:
    """The sha256 of each file by its stem; None for one that is not there."""
    paths = {name: _path(folder, name) for name in stems}
    return {name: file_sha256(path) if path.is_file() else None for name, path in paths.items()}


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.tsv"


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda stream: stream.write(text.encode()))


def _spelled(name: str, prediction: float) -> str:
    task = _TASKS[name]
    if task.regression:
        if math.isnan(prediction):
            raise EvaluationError(f"{name} can't be submitted: the model gives a score that is not a number")
        return f"{min(max(0.0, prediction), LARGEST_SCORE):.3f}"
    return task.labels[int(prediction)] if task.name in _IN_WORDS else str(int(prediction))
