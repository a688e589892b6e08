"""Reading the files of GLUE's own download: tab-separated, one header and one quirk per task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from orientc.errors import EvaluationError
from orientc.evaluation.glue.tasks import LARGEST_SCORE, Task

# what the files call a column where it is not the name in `nyu-mll/glue`
_TEXTS = {"mrpc": ("#1 String", "#2 String"), "mnli": ("sentence1", "sentence2")}
_LABEL = {"mrpc": "Quality", "qqp": "is_duplicate", "stsb": "score", "mnli": "gold_label"}
_INDEX = {"qqp": "id"}

_COLA = ["source", "label", "star", "sentence"]  # its train and dev files have no header
_LISTED = 10  # of a file's unusable lines, the numbers that are named


@dataclass(frozen=True)
class Rows:
    """The rows of a file, and a line for the user where some of it can't be used as it stands."""

    rows: list[dict[str, Any]]
    unusable: list[str]


def read(path: Path, task: Task, *, test: bool) -> Rows:
    """The rows of a task's TSV file, their keys those of `nyu-mll/glue`: the task's texts, `label` and `idx`.

    `label` is the class's id, or a float for STS-B; -1 in a test file, whose own index is `idx` (elsewhere the row's
    running number). MNLI's reader reads the diagnostic set (AX) as well. QQP's rows may be short, as they are in the
    original: such a row is left out, or in a test file kept with "" for what it lacks.

    Raises `EvaluationError` where the file can't be read, is not UTF-8, is another task's, has no rows, or has one
    that is short or whose label or index is none.
    """
    lines = _lines(path)
    header = _COLA if task.name == "cola" and not test else next(lines, (1, None))[1]
    if header is None:
        raise EvaluationError(f"{path} is empty")
    texts = [_column(path, task, header, name) for name in _TEXTS.get(task.name, task.texts)]
    key_name = _INDEX.get(task.name, "index") if test else _LABEL.get(task.name, "label")
    key_column = _column(path, task, header, key_name)
    needed = max(*texts, key_column) + 1

    rows: list[dict[str, Any]] = []
    short: list[int] = []
    for running, (number, cells) in enumerate(lines):
        if len(cells) < needed:
            if task.name != "qqp":
                found = f"{len(cells)} columns, where {task.folder} needs {needed}"
                raise EvaluationError(f"{path}, line {number}: {found}; is the file whole?")
            short.append(number)
            if not test:
                continue
            cells = cells + [""] * (needed - len(cells))
        row: dict[str, Any] = {name: cells[column] for name, column in zip(task.texts, texts, strict=True)}
        key = cells[key_column]
        if test:
            if not re.fullmatch("[0-9]{1,18}", key):
                raise EvaluationError(f"{path}, line {number}: {key_name} {key!r} is no number")
            rows.append(row | {"label": no_label(task), "idx": int(key)})
        else:
            label = parse_label(task, key)
            if label is None:
                raise EvaluationError(f"{path}, line {number}: label {key!r}, where {describe_labels(task)}")
            rows.append(row | {"label": label, "idx": running})
    if not rows:
        raise EvaluationError(f"{path} has no rows")
    return Rows(rows, [_short_rows(path, short, test)] if short else [])


def parse_label(task: Task, written: str) -> int | float | None:
    """A label's id, written as its word or as the id itself; for STS-B the score; None where it is neither."""
    if not task.regression:
        return _ids(task).get(written)
    try:
        score = float(written)
    except ValueError:
        return None
    return score if 0 <= score <= LARGEST_SCORE else None


def describe_labels(task: Task) -> str:
    """A clause that says which labels a task has, for a message."""
    if task.regression:
        return f"{task.folder} has scores from 0 to {LARGEST_SCORE:g}"
    return f"{task.folder} has {', '.join(f'{word} ({number})' for number, word in enumerate(task.labels))}"


def no_label(task: Task) -> int | float:
    """What stands for the label of a row whose label is not known."""
    return -1.0 if task.regression else -1


@cache
def _ids(task: Task) -> Mapping[str, int]:
    return {written: number for number, word in enumerate(task.labels) for written in (word, str(number))}


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not empty."""
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise EvaluationError(f"can't read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise EvaluationError(f"{path}, line {number} is not UTF-8 text") from None
    # not splitlines: the sentences have Unicode's other line breaks in them
    for number, line in enumerate(content.split("\n"), 1):
        if line := line.removesuffix("\r"):
            yield number, line.split("\t")


def _column(path: Path, task: Task, header: list[str], name: str) -> int:
    if name not in header:
        raise EvaluationError(f'{path} has no column "{name}", which {task.folder} has there; is it another task\'s?')
    return header.index(name)


def _short_rows(path: Path, numbers: list[int], test: bool) -> str:
    listed = ", ".join(map(str, numbers[:_LISTED]))
    more = f" and {len(numbers) - _LISTED} more" if len(numbers) > _LISTED else ""
    done = "kept with the missing sentence empty" if test else "left out"
    return f"{path}, line{'s' * (len(numbers) > 1)} {listed}{more}: too few columns, {done}"
