"""What is evaluated, as a record names it; every evaluation begins here."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from orientc.errors import ArtifactMismatchError
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage.artifact import Artifact
from orientc.storage.table_info import TableInfo
from orientc.utils.files import file_sha256
from orientc.utils.progress import Progress


def base_table(source: ModelSource, artifact: Artifact | None, *, force: bool, progress: Progress) -> TableInfo:
    """What the model's table is like.

    Raises `ArtifactMismatchError` where `artifact` was made from another one; `force` turns that into a warning.
    """
    info = read_table(source).info
    if artifact:
        check_base(artifact, info, force=force, progress=progress)
    return info


def check_base(artifact: Artifact, info: TableInfo, *, force: bool, progress: Progress) -> None:
    """Raise `ArtifactMismatchError` for an artifact that was not made from this table; `force` warns instead."""
    try:
        artifact.check_base(info.sha256)
    except ArtifactMismatchError:
        if not force:
            raise
        progress.warn("--force: going on with an artifact of another table")


def described_model(source: ModelSource, info: TableInfo) -> dict[str, Any]:
    """A record's `model`."""
    return {
        "id": source.id,
        "revision": source.commit,
        "table_sha256": info.sha256,
        "weights_sha256": source.weights_sha256(),
        "table": asdict(info),
    }


def described_artifact(path: Path, artifact: Artifact) -> dict[str, Any]:
    """A record's `artifact`."""
    description = artifact.description
    return {
        "path": str(path),
        "sha256": file_sha256(path),
        "method": description.method,
        "rank": description.rank,
        "bits_per_weight": round(description.bits_per_weight, 4),
    }
