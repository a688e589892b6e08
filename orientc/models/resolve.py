"""What a MODEL|ARTIFACT argument stands for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orientc.errors import ModelNotFoundError, UsageError
from orientc.storage import artifact as artifacts
from orientc.storage.artifact import Artifact

if TYPE_CHECKING:
    from orientc.models.source import ModelSource  # brings transformers along, which an artifact can do without


@dataclass(frozen=True)
class Subject:
    """A model, and the artifact to put into it where one was named."""

    source: ModelSource
    path: Path | None = None
    artifact: Artifact | None = None


def is_artifact(argument: str) -> bool:
    """Whether an argument names an artifact file rather than a model."""
    return argument.endswith(artifacts.SUFFIX)


def artifact(path: Path) -> str:
    """An argument that can only be an artifact. Raises `UsageError` for anything else."""
    if not is_artifact(str(path)):
        raise UsageError(f"what is wanted here is an artifact, which ends in {artifacts.SUFFIX}, not {path}")
    return str(path)


def subject(argument: str, *, model: str | None = None, revision: str | None = None, **trust: bool) -> Subject:
    """The model an argument names; for an artifact the base model in its metadata, or `model` in its place."""
    from orientc.models.source import ModelSource

    if not is_artifact(argument):
        if model is not None:
            raise UsageError("--model names the base model of an artifact; here the argument is a model itself")
        return Subject(ModelSource.resolve(argument, revision=revision, **trust))
    path = Path(argument)
    artifact = artifacts.load(path)
    base = artifact.description.base
    try:
        source = ModelSource.resolve(model or base.id, revision=revision or (None if model else base.revision), **trust)
    except ModelNotFoundError as error:
        if model is None:
            raise ModelNotFoundError(f"{error} (the base model of {path}): say where it is with --model") from None
        raise
    return Subject(source, path, artifact)
