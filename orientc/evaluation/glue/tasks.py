"""The nine GLUE tasks as facts: columns, labels, splits and figures, named as in `nyu-mll/glue`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ALL = "all"  # in the place of a task: all nine
LARGEST_SCORE = 5.0  # of STS-B, whose scores start at 0


@dataclass(frozen=True)
class Task:
    """One task.

    `folder` is its name in the benchmark's download and on its submission file; `texts` are the columns with its one
    or two sentences; `labels` are its classes, in the order of their ids (none for STS-B, whose label is a score).
    """

    name: str
    folder: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def regression(self) -> bool:
        """Whether the label is a score rather than a class."""
        return not self.labels

    @property
    def splits(self) -> tuple[str, ...]:
        """What tells its evaluation sets apart: nothing, or "matched" and "mismatched" for MNLI."""
        return ("matched", "mismatched") if self.name == "mnli" else ("",)

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of its figures in a record: each metric, for each evaluation set."""
        return tuple(f"{metric}_{split}".rstrip("_") for metric in self.metrics for split in self.splits)

    def score(self, metrics: Mapping[str, float]) -> float:
        """The task's share in GLUE's average: its figure, or the mean of its two."""
        return sum(metrics[name] for name in self.figures) / len(self.figures)


_ENTAILMENT = ("entailment", "not_entailment")
_PAIR = ("sentence1", "sentence2")

TASKS = {
    task.name: task
    for task in (
        Task("cola", "CoLA", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
        Task("sst2", "SST-2", ("sentence",), ("negative", "positive"), ("accuracy",)),
        Task("mrpc", "MRPC", _PAIR, ("not_equivalent", "equivalent"), ("accuracy", "f1")),
        Task("stsb", "STS-B", _PAIR, (), ("pearson", "spearman")),
        Task("qqp", "QQP", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
        Task("mnli", "MNLI", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), ("accuracy",)),
        Task("qnli", "QNLI", ("question", "sentence"), _ENTAILMENT, ("accuracy",)),
        Task("rte", "RTE", _PAIR, _ENTAILMENT, ("accuracy",)),
        Task("wnli", "WNLI", _PAIR, _ENTAILMENT[::-1], ("accuracy",)),
    )
}
