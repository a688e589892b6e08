"""Artifacts: a compressed table as one plain `.safetensors` file, format version 1; `README.md` describes its bytes.

The same artifact is always written as the same bytes. Imports torch only where tensors are read or written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orientc.errors import ArtifactError, ArtifactMismatchError
from orientc.storage import safetensors_file
from orientc.storage.description import Description, from_header, to_metadata
from orientc.storage.safetensors_file import DamagedError, FileFormat

if TYPE_CHECKING:
    from torch import Tensor

    from orientc.modeling.factors import Factors

FLOAT_DTYPES = ("float32", "float16", "bfloat16")  # types that an artifact's floats can have, by torch's names
SUFFIX = ".safetensors"
_FORMAT = FileFormat("orientc", version=1, called="an orientc artifact", error=ArtifactError)


@dataclass(frozen=True)
class Artifact:
    """A compressed table: its description and its tensors.

    `read_sha256` is the sha256 of the bytes it was read from; None for one that was made.
    """

    description: Description
    factors: Factors
    read_sha256: str | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """The sha256 of its file: of the one it was read from, or of the one it would be written to."""
        return self.read_sha256 or safetensors_file.sha256_of(_metadata(self), self.factors.tensors)

    def dense(self) -> Tensor:
        """The whole reconstructed table, float32 `[vocab, dim]`."""
        return self.factors.dense()

    def check_base(self, sha256: str) -> None:
        """Raise `ArtifactMismatchError` unless `sha256` is the hash of the table this was made from."""
        if sha256 != self.description.base.sha256:
            raise ArtifactMismatchError(
                f"the artifact was made from the table of {self.description.base.id} "
                f"({self.description.base.sha256[:12]}…), this model's table is another ({sha256[:12]}…): name "
                "its base model with `model`, or go on with `force`"
            )


def save(artifact: Artifact, path: str | Path) -> None:
    """Write an artifact atomically.

    Raises:
        OutputError: The file system refuses.
    """
    safetensors_file.write(Path(path), _metadata(artifact), artifact.factors.tensors)


def read_description(path: str | Path) -> Description:
    """Read the description of an artifact, from its header alone.

    Raises:
        ArtifactError: The file is damaged, foreign, too new or can't be read.
    """
    return safetensors_file.read_described(Path(path), _FORMAT, from_header)


def read_hashed_description(path: str | Path) -> tuple[Description, str]:
    """Read the description of an artifact, and the sha256 of the same file; returns both. Raises as the above does."""
    return safetensors_file.hash_described(Path(path), _FORMAT, from_header)


def load(path: str | Path) -> Artifact:
    """Read an artifact, once, checking everything before it is handed out.

    Raises:
        ArtifactError: The file is damaged, foreign, too new or can't be read.
    """
    artifact, sha256 = safetensors_file.read_all(Path(path), _FORMAT, from_header, _checked)
    object.__setattr__(artifact, "read_sha256", sha256)  # only here, so that no changed copy has it
    return artifact


def _metadata(artifact: Artifact) -> dict[str, str]:
    return _FORMAT.marks | to_metadata(artifact.description)


def _checked(description: Description, tensors: dict[str, Tensor]) -> Artifact:
    """The artifact of a file. Raises `DamagedError`."""
    from orientc.modeling.factors import Factors

    factors = Factors(description.layout, tensors)
    check_ids(factors)
    return Artifact(description, factors)


def check_ids(factors: Factors) -> None:
    """Raise `DamagedError` where the ids of kept rows, or the row groups of rows, contradict the layout."""
    layout, tensors = factors.layout, factors.tensors
    if layout.kept:
        ids = tensors["kept.ids"]
        if ids[0] < 0 or ids[-1] >= layout.vocab or (ids.long().diff() <= 0).any():
            raise DamagedError("kept.ids are not ids of the table in ascending order")
    if "latents.row_groups" in tensors:
        counts = tensors["latents.row_groups"].long().bincount(minlength=len(layout.row_group_sizes))
        if tuple(counts.tolist()) != layout.row_group_sizes:
            raise DamagedError("latents.row_groups do not have the rows that its header says")
