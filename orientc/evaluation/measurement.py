"""Measure one model uncompressed and with artifacts in the places of its tables; every figure is kept as a record.

The model is loaded once, for the first figure that is not there yet, however many artifacts are measured.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from orientc.evaluation import figures
from orientc.evaluation.configs import not_default
from orientc.evaluation.setup import Setup
from orientc.models.resolve import Subject
from orientc.storage import records
from orientc.storage.artifact import Artifact
from orientc.storage.records import Record
from orientc.storage.sizes import BOTH
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

    Each record is written as soon as it is there, and its seconds are the time until then. One of the same evaluation
    by the same versions that lies in `setup.folder` is reused unless `setup.overwrite`.

    Args:
        setup: The model, and how it is evaluated.
        on: The text or data set.
        settings: The record's settings: nothing in them is left to a default.
        by_default: The same of an evaluation that nothing was asked of.
        is_default: Whether the text or data set is that of such an evaluation.
        head: The head policy in the uncompressed model's record.
    """

    kind: str
    names: tuple[str, ...]  # of the metrics that every record of the kind has

    def __init__(
        self,
        setup: Setup,
        on: Named,
        settings: dict[str, Any],
        head: str,
        *,
        by_default: dict[str, Any],
        is_default: bool,
    ) -> None:
        self.setup, self.full_settings = setup, settings
        self._chosen = not_default(settings, by_default) | ({} if is_default else {"text": on.name})
        self.measured = 0  # records that were not there already
        self._text, self._head = {"name": on.name, "sha256": on.sha256}, head
        check_writable(setup.folder)

    def original(self) -> Record:
        """The record of the uncompressed model. Raises `EvaluationError` where it can't be measured."""
        return next(self._kept([self._blank(self._head)], ()))

    def compressed(self, subject: Subject, head: str = BOTH) -> Iterator[Record]:
        """A record of the subject's artifacts for each head policy; none where it has no artifact.

        Args:
            subject: The artifact and its file, or several.
            head: A head policy; "both" for all that there are, which is one where the head does not share the table.

        Raises:
            ArtifactMismatchError: At once, for an artifact of another table, unless `setup.force`.
            EvaluationError: At once, for a policy the model does not have; while measuring, as `original` does.
        """
        return self._kept(self._blanks(subject, head), subject.artifacts)

    def all(self, subject: Subject, head: str = BOTH) -> tuple[Record, ...]:
        """The uncompressed model's record, then those of the subject's artifact where it has one."""
        return tuple(self._kept([self._blank(self._head), *self._blanks(subject, head)], subject.artifacts))

    def _blanks(self, subject: Subject, head: str) -> list[Record]:
        if subject.artifact is None:
            return []
        return [self._blank(policy, subject) for policy in self._policies(head, subject.tables)]

    def _blank(self, head: str, subject: Subject | None = None) -> Record:
        return self.setup.record(
            self.kind, subject, head=head, settings=self.full_settings, text=self._text, chosen=self._chosen
        )

    def _kept(self, blanks: Sequence[Record], artifacts: Sequence[Artifact]) -> Iterator[Record]:
        """Each record, from the folder where it is there; those that are not are measured together."""
        found = distributed.from_main(lambda: [self._found(blank) for blank in blanks])
        missing = [blank for blank, record in zip(blanks, found, strict=True) if record is None]
        start = time.perf_counter()
        measured = self._measured(missing, artifacts) if missing else iter(())
        for blank, there in zip(blanks, found, strict=True):
            record = there or self._written(blank, next(measured), start)
            if told := self._left_out(record.metrics):
                self.setup.progress.warn(told)
            yield record

    def _found(self, blank: Record) -> Record | None:
        found = None if self.setup.overwrite else records.reusable(blank, self.setup.folder)
        return found if found and found.metrics.keys() >= {*self._names(blank)} else None

    def _written(self, blank: Record, measured: tuple[dict[str, Any], Blocks], start: float) -> Record:
        metrics, blocks = measured
        self.measured += 1
        self.setup.check_unchanged()
        seconds = round(time.perf_counter() - start, 3)
        record = replace(blank, metrics=metrics, blocks=blocks, errors=figures.errors(metrics, blocks), seconds=seconds)
        if distributed.is_main():
            records.write(record, self.setup.folder)
        return record

    def _names(self, blank: Record) -> tuple[str, ...]:
        """The metrics that a record in the folder must have to serve."""
        return self.names

    @abstractmethod
    def _policies(self, head: str, tables: Sequence[str]) -> tuple[str, ...]:
        """The head policies that artifacts of some tables are measured under.

        Raises `EvaluationError` for one that the model has not.
        """

    @abstractmethod
    def _measured(
        self, blanks: Sequence[Record], artifacts: Sequence[Artifact]
    ) -> Iterator[tuple[dict[str, Any], Blocks]]:
        """The figures of each record and their blocks: of the uncompressed model, or of artifacts by head policy.

        Raises `EvaluationError` where one of them would be NaN.
        """

    @abstractmethod
    def _left_out(self, metrics: dict[str, Any]) -> str | None:
        """A line on what of the text or data a record's metrics leave out, by the counts among them; None for all."""
