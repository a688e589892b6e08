"""The files of a model, on this machine or on the hub.

Nothing is downloaded before it is needed; of the hub's files only those that are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from huggingface_hub import resolve_revision

from orientc.models import hub
from orientc.models.argument import is_gguf


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's files are.

    Attributes:
        id: The model argument.
        local: The folder or `.gguf` file of a model on this machine; None for a hub id.
        revision: Branch, tag or commit asked for on the hub; `commit` is the one found.
        allow_pickle: Whether `.bin` weights may be read (tensors only).
        trust_remote_code: Whether Python code from the model's repository may run.
    """

    id: str
    local: Path | None
    revision: str | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False

    @property
    def gguf(self) -> Path | None:
        """The `.gguf` file where the model is one, else None."""
        return self.local if self.local is not None and is_gguf(self.local) else None

    def file(self, name: str) -> Path | None:
        """Find a file of the model, downloading it if need be; None where the model has no such file.

        Raises:
            ModelNotFoundError: The hub does not know the model or can't be reached.
        """
        if self.local is not None:
            path = self.local / name
            return path if path.is_file() else None
        return hub.model_file(self.id, name, revision=self.revision, commit=self.commit)

    def has(self, name: str) -> bool:
        """Whether the model has a file; nothing is downloaded. Raises as `file` does."""
        if self.local is not None:
            return self.file(name) is not None
        found = hub.model_file(self.id, name, revision=self.revision, commit=self.commit, look_up=True)
        return found is not None

    @cached_property
    def commit(self) -> str | None:
        """The hub commit that all files come from; None for a local model."""
        if self.local is not None:
            return None
        with hub.errors(self.id, self.revision):
            return resolve_revision(self.id, revision=self.revision).resolved
