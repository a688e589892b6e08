"""What every evaluation begins with: the model and artifacts, a device, and the folder that records go into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from orientc.errors import ArtifactMismatchError, EvaluationError, UsageError
from orientc.modeling.table_names import INPUT
from orientc.models import resolve
from orientc.models.device_map import DeviceMap
from orientc.models.fingerprint import check_unchanged, fingerprint
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import table_info
from orientc.storage.artifact import Artifact
from orientc.storage.records import Record, sha256_of
from orientc.storage.runs import records_folder
from orientc.storage.table_info import TableInfo
from orientc.utils import distributed
from orientc.utils.devices import pick_device
from orientc.utils.progress import Progress
from orientc.utils.versions import versions


@dataclass(frozen=True)
class Setup:
    """One model to evaluate, and how: uncompressed, and with artifacts in the places of its tables.

    Args:
        source: The model.
        folder: Where its records go.
        device: What it runs on.
        overwrite: Measure again what a record in the folder has already.
        force: Take artifacts of another table, with a warning.
        progress: Whom to tell how it goes.
        device_map: How a model larger than one device is spread over several; `device` is where its inputs go.
    """

    source: ModelSource
    folder: Path
    device: torch.device
    overwrite: bool = False
    force: bool = False
    progress: Progress = field(default_factory=Progress)
    device_map: DeviceMap | None = None

    @property
    def place(self) -> torch.device | DeviceMap:
        """Where the model goes."""
        return self.device_map or self.device

    @cached_property
    def table(self) -> TableInfo:
        """Facts of the table that tokens are looked up in; it is read once, and a body that is dequantized said."""
        found = table_info(self.source)
        say_dequantized(self.source, self.progress)
        return found

    @cached_property
    def _others(self) -> dict[str, TableInfo]:
        """Facts of other tables, each since it was first asked for."""
        return {}

    def facts_of(self, table: str) -> TableInfo:
        """Facts of a table by its name. Raises `NoTableError` where the model has none."""
        if table == INPUT:
            return self.table
        if table not in self._others:
            self._others[table] = table_info(self.source, table)
        return self._others[table]

    @cached_property
    def fingerprint(self) -> str:
        """The model's fingerprint when it was first asked for, which is before the model is loaded."""
        with distributed.main_first():
            return fingerprint(self.source)

    def check_unchanged(self) -> None:
        """Raise `ModelError` where the model is not what it was when `fingerprint` was taken."""
        with distributed.main_first():
            check_unchanged(self.source, self.fingerprint)

    @cached_property
    def _model(self) -> dict[str, Any]:
        return {
            "id": self.source.id,
            "revision": self.source.commit,
            "fingerprint": self.fingerprint,
            "table_sha256": self.table.sha256,
            "table": asdict(self.table),
        }

    @property
    def _environment(self) -> dict[str, Any]:
        """What figures can depend on by the order that numbers are added up in."""
        return {"device": self.device.type, "threads": torch.get_num_threads(), "processes": distributed.count()}

    def record(self, kind: str, artifact: Subject | None = None, **values: Any) -> Record:
        """A record without figures.

        Args:
            kind: The evaluation: "perplexity", "similarity", "glue" or "squad".
            artifact: The artifact put in, with its file, or several; None, or a subject without one, for the
                uncompressed model.
            values: The record's `head`, `settings`, `chosen`, and `text` or `data`.

        Raises:
            ArtifactMismatchError: For an artifact of another table, unless `force`.
        """
        described = None
        if artifact and artifact.path and artifact.artifact:
            for table, each in zip(artifact.tables, artifact.artifacts, strict=True):
                check_base(each, self.facts_of(table), force=self.force, progress=self.progress)
            described = _described(artifact)
        return Record(
            kind=kind,
            model=self._model,
            artifact=described,
            metrics={},
            seconds=0.0,
            environment=self._environment,
            versions=versions(),
            **values,
        )


def prepare(
    subject: str | Path | ModelSource | Sequence[str | Path],
    *,
    model: str | Path | ModelSource | None,
    force: bool,
    device: str | None,
    out: str | Path | None,
    overwrite: bool,
    revision: str | None,
    allow_pickle: bool,
    trust_remote_code: bool,
    progress: Progress | None,
    device_map: str | Path | None = None,
    max_memory: str | None = None,
) -> tuple[Setup, Subject]:
    """Find the model, and the artifacts where some are named; pick a device and the folder for records.

    Args:
        subject: A model argument, or the path of an artifact, or of several of one model's tables.
        model: Base model of the artifact, where it is not the one it names.
        force, overwrite, progress: As in `Setup`.
        device: Name of a device; accelerate picks one for None.
        device_map, max_memory: As in `DeviceMap.read`.
        out: Runs folder for records; those of an artifact go beside it for None.
        revision, allow_pickle, trust_remote_code: As in `ModelSource.resolve`.

    Raises:
        UsageError: For arguments that do not go together.
        ModelError, ArtifactError, DeviceError: Where one of them can't be had.
    """
    spread = DeviceMap.read(device_map, max_memory, device)
    trust = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    found = resolve.subject(subject, model=model, revision=revision, **trust)
    if found.artifact and not found.path:
        raise UsageError("an artifact is evaluated from its file, which records name: write it with orientc.save")
    if force and not found.artifact:
        raise UsageError("`force` is for an artifact of another table; here the argument is a model itself")
    folder = records_folder(found.source.id, found.path, None if out is None else Path(out))
    chosen = pick_device(device)
    return Setup(found.source, folder, chosen, overwrite, force, progress or Progress(), spread), found


def tokenizer_for(source: ModelSource) -> PreTrainedTokenizerBase:
    """The model's tokenizer, padding on the right, and with the end of text where it has no token for that.

    Raises `ModelError` or `EvaluationError` where there is none that can be used.
    """
    tokenizer = source.tokenizer
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise EvaluationError(f"the tokenizer of {source.id} has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def say_dequantized(source: ModelSource, progress: Progress) -> None:
    """Warn where what runs is not what is stored: the body is quantized, and dequantized on loading."""
    if kinds := source.dequantized_from:
        progress.warn(f"{source.id} is quantized ({kinds}): its body is dequantized to run")


def check_base(artifact: Artifact, info: TableInfo, *, force: bool, progress: Progress) -> None:
    """Raise `ArtifactMismatchError` for an artifact that was not made from this table; `force` warns instead."""
    try:
        artifact.check_base(info.sha256)
    except ArtifactMismatchError:
        if not force:
            raise
        progress.warn("`force`: going on with an artifact of another table")


def _described(found: Subject) -> dict[str, Any]:
    """A record's `artifact`: of several what they are together, with each in `parts`."""
    parts = [_part(path, artifact) for path, artifact in zip(found.paths, found.artifacts, strict=True)]
    if len(parts) == 1:
        return parts[0]
    described = [artifact.description for artifact in found.artifacts]
    numbers = sum(each.base.vocab * each.base.dim for each in described)
    return {
        "path": parts[0]["path"],
        "sha256": sha256_of([part["sha256"] for part in parts]),
        "method": "+".join(dict.fromkeys(each.method for each in described)),
        "rank": described[0].rank,
        "bits_per_weight": round(8 * sum(each.nbytes for each in described) / numbers, 4),
        "parts": parts,
    }


def _part(path: Path, artifact: Artifact) -> dict[str, Any]:
    description = artifact.description
    base = description.base
    return {
        "path": str(path),
        "sha256": artifact.sha256,
        "method": description.method,
        "rank": description.rank,
        "bits_per_weight": round(description.bits_per_weight, 4),
        **({} if base.table == INPUT else {"table": base.table, "table_sha256": base.sha256}),
    }
