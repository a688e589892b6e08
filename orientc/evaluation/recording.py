"""What measurements of one model have in common, whatever is measured: artifacts put in, records kept and reused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from orientc.evaluation.subjects import check_base, described_artifact, described_model
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import records
from orientc.storage.artifact import Artifact
from orientc.storage.records import Record
from orientc.storage.table_info import TableInfo
from orientc.utils import distributed
from orientc.utils.progress import Progress
from orientc.utils.versions import versions


class Named(Protocol):
    """What a model is measured on: a name, and a hash of the content."""

    @property
    def name(self) -> str:
        """What it is called in records."""

    @property
    def sha256(self) -> str:
        """Hash of all of it."""


class RecordedMeasurement(ABC):
    """One model, uncompressed and with artifacts put in; each record is written as soon as it is there.

    A record of the same evaluation by the same versions that lies in `folder` is reused unless `again`; `force` lets
    artifacts of another table in. `settings` are the record's.
    """

    kind: str

    def __init__(
        self,
        source: ModelSource,
        on: Named,
        settings: dict[str, Any],
        *,
        folder: Path,
        device: torch.device,
        again: bool,
        force: bool,
        progress: Progress | None,
    ) -> None:
        self.source, self.full_settings = source, settings
        self.folder, self.device, self.again, self.force = folder, device, again, force
        self.progress = progress or Progress()
        self._info = read_table(source).info
        self._blank = Record(
            kind=self.kind,
            model=described_model(source, self._info),
            artifact=None,
            head=self._original_head(self._info),
            text={"name": on.name, "sha256": on.sha256},
            settings=settings,
            metrics={},
            seconds=0.0,
            versions=versions(),
        )

    def original(self) -> Record:
        """The record of the uncompressed model. Raises `EvaluationError` where it can't be measured."""
        return self._taken(self._blank, None)

    def compressed(self, path: Path, artifact: Artifact, heads: str = "both") -> Iterator[Record]:
        """A record for each head policy: "input-only", "tied" or "both"; where there is one policy, that alone.

        Raises at once `ArtifactMismatchError` for an artifact of another table and `EvaluationError` for a policy the
        model does not have; while it measures, as `original` does.
        """
        check_base(artifact, self._info, force=self.force, progress=self.progress)
        described = described_artifact(path, artifact)
        wanted = self._heads(heads)
        return (self._taken(replace(self._blank, artifact=described, head=head), artifact) for head in wanted)

    def _taken(self, record: Record, artifact: Artifact | None) -> Record:
        found = distributed.from_main(lambda: None if self.again else records.reusable(record, self.folder))
        if found:
            return found
        metrics, seconds = self._measured(record, artifact)
        record = replace(record, metrics=metrics, seconds=round(seconds, 3))
        if distributed.is_main():
            records.write(record, self.folder)
        return record

    @abstractmethod
    def _original_head(self, info: TableInfo) -> str:
        """The head policy in the uncompressed model's record."""

    @abstractmethod
    def _heads(self, heads: str) -> tuple[str, ...]:
        """The head policies an artifact is measured under."""

    @abstractmethod
    def _measured(self, record: Record, artifact: Artifact | None) -> tuple[dict[str, Any], float]:
        """The metrics of the uncompressed model or of an artifact, and the seconds they took."""
