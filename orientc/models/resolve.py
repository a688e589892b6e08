"""A MODEL|ARTIFACT argument: the model it stands for, and the artifact to swap in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orientc.errors import ModelNotFoundError, UsageError
from orientc.storage import artifact as artifacts
from orientc.storage.artifact import Artifact

if TYPE_CHECKING:
    from orientc.models.source import ModelSource  # imports transformers, which an artifact does not need


@dataclass(frozen=True)
class Subject:
    """A model, and an artifact of its table where one was named.

    Attributes:
        source: The model; for an artifact its base model.
        path: The artifact's file; None for an artifact in memory.
        artifact: The artifact.
    """

    source: ModelSource
    path: Path | None = None
    artifact: Artifact | None = None


def is_artifact(argument: str) -> bool:
    """Whether an argument names an artifact's file rather than a model."""
    return argument.endswith(artifacts.SUFFIX)


def artifact(path: Path) -> str:
    """Return an argument that must be an artifact's file. Raises `UsageError` where it can't be one."""
    if not is_artifact(str(path)):
        raise UsageError(f"what is wanted here is an artifact, which ends in {artifacts.SUFFIX}, not {path}")
    return str(path)


def subject(
    argument: str | Path | ModelSource | Artifact,
    *,
    model: str | Path | ModelSource | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Subject:
    """Find the model that an argument stands for, and the artifact if it is one.

    Args:
        argument: A model, an artifact's file, or an artifact in memory.
        model: The base model of an artifact, where it is not the one that the artifact names.
        revision: Branch, tag or commit of the model on the hub; for an artifact the one it names, unless given.
        allow_pickle: Read `.bin` weights too (tensors only).
        trust_remote_code: Run Python code from the model's repository.

    Raises:
        UsageError: `model` is given for a model.
        ArtifactError: The artifact can't be read.
        ModelError: The model can't be found.
    """
    from orientc.models.source import ModelSource

    trust = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    path, found = None, argument
    if isinstance(argument, str | Path) and is_artifact(str(argument)):
        path = Path(argument)
        found = artifacts.load(path)
    if not isinstance(found, Artifact):
        if model is not None:
            raise UsageError("`model` names the base model of an artifact; here the argument is a model itself")
        return Subject(ModelSource.resolve(found, revision=revision, **trust))
    base = found.description.base
    try:
        if model is None:
            source = ModelSource.resolve(base.id, revision=revision or base.revision, **trust)
        else:
            source = ModelSource.resolve(model, revision=revision, **trust)
    except ModelNotFoundError as error:
        if model is None:
            named = path or "an artifact in memory"
            raise ModelNotFoundError(f"{error} (the base model of {named}): say where it is with `model`") from None
        raise
    return Subject(source, path, found)
