"""Measure one model uncompressed and with artifacts in the place of its table; every figure is kept as a record.

The model is loaded once, for the first figure that is not there yet, however many artifacts are measured.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

from orientc.evaluation.option_values import BOTH
from orientc.evaluation.setup import Setup
from orientc.models.resolve import Subject
from orientc.storage import records
from orientc.storage.artifact import Artifact
from orientc.storage.records import Record
from orientc.utils import distributed
from orientc.utils.files import check_writable

Blocks = dict[str, list[float]] | None  # as a record has them


class Named(Protocol):
    """A text or data set: its name in records, and a hash of its content."""

    @property
    def name(self) -> str:
        """What it is called in records."""

    @property
    def sha256(self) -> str:
        """Hash of all of it."""


class Measurement(ABC):
    """One evaluation of one model, to be used for each of its artifacts in turn.

    Each record is written as soon as it is there. One of the same evaluation by the same versions that lies in
    `setup.folder` is reused unless `setup.overwrite`.

    Args:
        setup: The model, and how it is evaluated.
        on: The text or data set.
        settings: The record's settings: nothing in them is left to a default.
        head: The head policy in the uncompressed model's record.
    """

    kind: str
    names: tuple[str, ...]  # of the metrics that every record of the kind has

    def __init__(self, setup: Setup, on: Named, settings: dict[str, Any], head: str) -> None:
        self.setup, self.full_settings = setup, settings
        self._text, self._head = {"name": on.name, "sha256": on.sha256}, head
        check_writable(setup.folder)

    def original(self) -> Record:
        """The record of the uncompressed model. Raises `EvaluationError` where it can't be measured."""
        return self._kept(self._blank(self._head), None)

    def compressed(self, subject: Subject, head: str = BOTH) -> Iterator[Record]:
        """A record of the subject's artifact for each head policy; none where it has no artifact.

        Args:
            subject: The artifact and its file.
            head: "input-only", "tied" or "both"; where the model has one policy, "both" is that alone.

        Raises:
            ArtifactMismatchError: At once, for an artifact of another table, unless `setup.force`.
            EvaluationError: At once, for a policy the model does not have; while measuring, as `original` does.
        """
        if subject.artifact is None:
            return iter(())
        blanks = [self._blank(policy, subject) for policy in self._policies(head)]
        return (self._kept(blank, subject.artifact) for blank in blanks)

    def all(self, subject: Subject, head: str = BOTH) -> tuple[Record, ...]:
        """The uncompressed model's record, then those of the subject's artifact where it has one."""
        compressed = self.compressed(subject, head)
        return self.original(), *compressed

    def _blank(self, head: str, subject: Subject | None = None) -> Record:
        return self.setup.record(self.kind, subject, head=head, settings=self.full_settings, text=self._text)

    def _kept(self, record: Record, artifact: Artifact | None) -> Record:
        folder, overwrite = self.setup.folder, self.setup.overwrite
        found = distributed.from_main(lambda: None if overwrite else records.reusable(record, folder))
        if found and found.metrics.keys() >= {*self.names}:
            record = found
        else:
            start = time.perf_counter()
            metrics, blocks = self._measured(record, artifact)
            self.setup.check_unchanged()
            record = replace(record, metrics=metrics, blocks=blocks, seconds=round(time.perf_counter() - start, 3))
            if distributed.is_main():
                records.write(record, folder)
        if told := self._left_out(record.metrics):
            self.setup.progress.warn(told)
        return record

    @abstractmethod
    def _policies(self, head: str) -> tuple[str, ...]:
        """The head policies an artifact is measured under. Raises `EvaluationError` for one the model has not."""

    @abstractmethod
    def _measured(self, record: Record, artifact: Artifact | None) -> tuple[dict[str, Any], Blocks]:
        """The figures of the uncompressed model, or of an artifact under the record's head policy, and their blocks.

        Raises `EvaluationError` where one of them would be NaN.
        """

    @abstractmethod
    def _left_out(self, metrics: dict[str, Any]) -> str | None:
        """A line on what of the text or data a record's metrics leave out, by the counts among them; None for all."""
