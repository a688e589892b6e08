"""A MODEL|ARTIFACT argument: the model it stands for, and the artifacts to swap in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from orientc.errors import ArtifactMismatchError, ModelNotFoundError, UsageError
from orientc.modeling.table_names import INPUT
from orientc.storage import artifact as artifacts
from orientc.storage.artifact import Artifact

if TYPE_CHECKING:
    from orientc.models.source import ModelSource  # imports transformers, which an artifact does not need


Argument: TypeAlias = "str | Path | ModelSource | Artifact"


@dataclass(frozen=True)
class Subject:
    """A model, and an artifact of its table where one was named, or one of each of several tables.

    Attributes:
        source: The model; for an artifact its base model.
        path: The artifact's file; None for an artifact in memory.
        artifact: The artifact.
        others: Artifacts of the model's other tables, and their files.
    """

    source: ModelSource
    path: Path | None = None
    artifact: Artifact | None = None
    others: tuple[tuple[Path, Artifact], ...] = ()

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All artifacts, the input's table first."""
        return (*([self.artifact] if self.artifact else []), *(artifact for _, artifact in self.others))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the artifacts."""
        return (*([self.path] if self.path else []), *(path for path, _ in self.others))

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables that the artifacts are of."""
        return tuple(artifact.description.base.table for artifact in self.artifacts)


def is_artifact(argument: str) -> bool:
    """Whether an argument names an artifact's file rather than a model."""
    return argument.endswith(artifacts.SUFFIX)


def artifact(path: Path) -> str:
    """Return an argument that must be an artifact's file. Raises `UsageError` where it can't be one."""
    if not is_artifact(str(path)):
        raise UsageError(f"what is wanted here is an artifact, which ends in {artifacts.SUFFIX}, not {path}")
    return str(path)


def subject(
    argument: Argument | Sequence[str | Path],
    *,
    model: str | Path | ModelSource | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Subject:
    """Find the model that an argument stands for, and the artifact if it is one, or several.

    Args:
        argument: A model, an artifact's file, or an artifact in memory; or files of artifacts, one for each table.
        model: The base model of an artifact, where it is not the one that the artifact names.
        revision: Branch, tag or commit of the model on the hub; for an artifact the one it names, unless given.
        allow_pickle: Read `.bin` weights too (tensors only).
        trust_remote_code: Run Python code from the model's repository.

    Raises:
        UsageError: `model` is given for a model, or several arguments are not all artifacts.
        ArtifactError: An artifact can't be read.
        ArtifactMismatchError: Artifacts are of different models, or of one table.
        ModelError: The model can't be found.
    """
    from orientc.models.source import ModelSource

    trust = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    if isinstance(argument, Sequence) and not isinstance(argument, str):
        if len(argument) != 1:
            return _several([Path(artifact(Path(entry))) for entry in argument], model, revision, trust)
        argument = argument[0]
    path: Path | None = None
    found: Argument = argument
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


def _several(paths: Sequence[Path], model: Any, revision: str | None, trust: dict[str, Any]) -> Subject:
    """The model that artifacts of several of its tables are of, and these, the input's first."""
    if not paths:
        raise UsageError("name a model or an artifact")
    read = sorted(((path, artifacts.load(path)) for path in paths), key=lambda entry: _place(entry[1]))
    first, *others = read
    found = subject(first[1], model=model, revision=revision, **trust)
    base, tables = first[1].description.base, {first[1].description.base.table: first[0]}
    for path, other in others:
        own = other.description.base
        if (own.id, own.revision) != (base.id, base.revision) and model is None:
            raise ArtifactMismatchError(
                f"{first[0]} was made from {base.id}, {path} from {own.id}: name artifacts of one model, or the model "
                "that they are for with `model`"
            )
        if known := tables.get(own.table):
            raise ArtifactMismatchError(f"{known} and {path} are both of the {own.table} table: name one for each")
        tables[own.table] = path
    return replace(found, path=first[0], others=tuple(others))


def _place(artifact: Artifact) -> tuple[bool, str]:
    """Where an artifact stands among those of other tables."""
    table = artifact.description.base.table
    return table != INPUT, table
