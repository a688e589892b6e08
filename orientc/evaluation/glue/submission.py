"""The files that GLUE's server scores: one per test set, a prediction for each of its rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orientc.errors import EvaluationError
from orientc.evaluation.glue.tasks import LARGEST_SCORE, TASKS, Task
from orientc.utils.files import write_atomically, write_json

DIAGNOSTIC = "AX"  # answered by MNLI's model
MADE_OF = "made-of.json"  # beside the files: what each was made of

_SUFFIXES = {"": "", "matched": "-m", "mismatched": "-mm"}
_IN_WORDS = {"mnli", "qnli", "rte"}  # the others' classes are submitted as ids


def stem(task: Task, split: str) -> str:
    """The name, without `.tsv`, of the file for a task's test set; `split` is one of `task.splits`."""
    return task.folder + _SUFFIXES[split]


_TASKS = {stem(task, split): task for task in TASKS.values() for split in task.splits} | {DIAGNOSTIC: TASKS["mnli"]}


def write(
    folder: Path, answers: Mapping[str, tuple[Iterable[int], Iterable[float]]], made_of: Mapping[str, str]
) -> list[Path]:
    """Write a file for each test set and return their paths, in the order of `answers`.

    `answers` has, by stem ("SST-2", "MNLI-mm", "AX"), the rows' indices and the predictions: class ids, or scores for
    STS-B, which are cut to its range; `made_of` has, by stem, the hash of all that they depend on. Raises
    `EvaluationError` for a score that is not a number, and `OutputError` where the file system refuses.
    """
    others = {name: sha256 for name, sha256 in _made_of(folder).items() if name not in answers}
    if others != _made_of(folder):  # first: a file that is half way to another must not count as what it was
        write_json(folder / MADE_OF, others)
    for name, (indices, predictions) in answers.items():
        rows = [f"{index}\t{_spelled(name, value)}\n" for index, value in zip(indices, predictions, strict=True)]
        _write(_path(folder, name), "".join(["index\tprediction\n", *rows]))
    write_json(folder / MADE_OF, others | dict(made_of))
    return [_path(folder, name) for name in answers]


def written(folder: Path, made_of: Mapping[str, str]) -> bool:
    """Whether a folder has the file of each test set, made of what `made_of` says by stem."""
    there = _made_of(folder)
    return all(there.get(name) == sha256 and _path(folder, name).is_file() for name, sha256 in made_of.items())


def _made_of(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MADE_OF).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


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
