"""Links among a model's files: an export takes along what is in the model's folder, not what a link leads to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orientc.errors import ExportError
from orientc.models.source import ModelSource

# What of a folder can end up in another as it stands, tokenizers, templates, settings and code. Weights are read as
# tensors and written anew.
COPIED = {".json", ".jinja", ".txt", ".model", ".tiktoken", ".py"}
TEMPLATES = "additional_chat_templates"


def check(source: ModelSource, beside: Iterable[Path]) -> None:
    """Raise `ExportError` for a file that would be taken along and is a link out of a local model's folder.

    The hub's cache keeps a model as a folder of links into its `blobs`, which are the model's own files.

    Args:
        source: The model.
        beside: Files of it that are copied whatever they are named.
    """
    if (folder := source.local) is None or source.gguf:
        return
    found = [*folder.iterdir(), *(folder / TEMPLATES).glob("*")]
    taken = [path for path in found if path.suffix in COPIED and path.is_file()]
    for path in sorted({*taken, *beside}):
        if not _belongs(path.resolve(), folder.resolve()):
            raise ExportError(
                f"{path} is a link out of {source.id}, and what it leads to would be copied: put the file itself there"
            )


def _belongs(path: Path, folder: Path) -> bool:
    """Whether a file is in a folder or, for a snapshot in the hub's cache, in its repository's blobs."""
    snapshot = folder.parent.name == "snapshots"
    return path.is_relative_to(folder) or (snapshot and path.parent == folder.parent.with_name("blobs"))
