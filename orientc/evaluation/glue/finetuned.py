"""A model that was fine-tuned for a task: its figures as it is, and with artifacts in the place of its table.

Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import datasets

from orientc.evaluation import finetuning
from orientc.evaluation.configs import FinetuningConfig
from orientc.evaluation.glue.data import Data
from orientc.evaluation.glue.task_benchmark import task_benchmark
from orientc.evaluation.glue.tasks import Task
from orientc.evaluation.setup import Setup
from orientc.models.resolve import Subject
from orientc.storage.records import Record


@dataclass(frozen=True)
class Rows:
    """Rows of a task with their labels.

    Attributes:
        task: The task.
        data: The rows, as what is scored; nothing to train on.
    """

    task: Task
    data: Data

    @classmethod
    def of(cls, task: Task, name: str, rows: datasets.Dataset) -> Rows:
        """One set of rows, by the name it goes by in records."""
        return cls(task, Data(name, None, {"": rows}, ()))

    @property
    def name(self) -> str:
        """The name they go by in records."""
        return self.data.name

    @property
    def sha256(self) -> str:
        """Hash of all of them."""
        return self.data.sha256

    @property
    def figure(self) -> str:
        """The task's first figure on the first of its sets, by its name in a record: "accuracy_matched" of MNLI."""
        return f"{self.task.metrics[0]}_{next(iter(self.data.evaluation))}".rstrip("_")

    @property
    def sentences(self) -> list[str]:
        """The first text of each row of the first set."""
        found: list[str] = next(iter(self.data.evaluation.values()))[self.task.texts[0]][:]
        return found

    def first(self, count: int | None) -> Rows:
        """The same rows, or the first of each set where there are more than `count`."""
        if count is None:
            return self
        chosen = {name: rows.select(range(min(count, len(rows)))) for name, rows in self.data.evaluation.items()}
        return replace(self, data=replace(self.data, evaluation=chosen))

    def __len__(self) -> int:
        return len(next(iter(self.data.evaluation.values())))


class FinetunedMeasurement:
    """Figures of one fine-tuned model on a task's rows, to be used for each of its artifacts in turn.

    Args:
        setup: The model, and how it is evaluated.
        rows: What it answers.
        limit: Only so many of them, the first.

    Raises:
        EvaluationError: The model is for another task.
    """

    def __init__(self, setup: Setup, rows: Rows, limit: int | None) -> None:
        self._setup, self._config = setup, FinetuningConfig(epochs=0)
        self.rows = rows.first(limit)
        limits = finetuning.limits(None, limit, 0)
        self._benchmark = task_benchmark(setup, rows.task, self.rows.data, self._config, limits=limits)

    def original(self) -> Record:
        """The record of the uncompressed model."""
        return self._record(Subject(self._setup.source))

    def compressed(self, subject: Subject, _head: str) -> Iterator[Record]:
        """The record of the subject's artifact; a model of a task has one head policy."""
        yield self._record(subject)

    def _record(self, subject: Subject) -> Record:
        return finetuning.run(self._setup, subject, self._benchmark, self._config).record
