"""Model arguments that are no whole model: adapters of PEFT, and one file of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orientc.errors import ModelError, ModelNotFoundError
from orientc.models.argument import ADAPTER

if TYPE_CHECKING:
    from orientc.models.files import ModelFiles

_PARTS = "split.count"  # in a GGUF file's metadata


def check_whole(source: ModelFiles) -> None:
    """Raise `ModelError` for an adapter, or a model with one, and for one file of several.

    transformers puts an adapter onto a model where the package peft is installed, and passes it over where it is not.
    """
    if _has_adapter(source):
        raise ModelError(
            f"{source.id} holds an adapter ({ADAPTER}), which counts or not by what is installed: merge it into its "
            "base model (PEFT: merge_and_unload) and name the folder that is saved, or take the adapter out"
        )
    if source.gguf and (parts := _parts(source)) > 1:
        raise ModelError(
            f"{source.id} is one of {parts} files that make one model: join them first (llama-gguf-split --merge)"
        )


def _has_adapter(source: ModelFiles) -> bool:
    if source.local is not None:
        folder = source.local.parent if source.gguf else source.local
        return (folder / ADAPTER).is_file()
    try:
        return source.has(ADAPTER)
    except ModelNotFoundError:  # without the hub; transformers finds none in the cache either
        return False


def _parts(source: ModelFiles) -> int:
    """Of how many files a GGUF file is one, by what it says itself."""
    from transformers.integrations.gguf import read_gguf_metadata

    try:
        count = read_gguf_metadata(str(source.gguf))[0].get(_PARTS, 1)
    except Exception:  # damaged in any way: whoever reads it next says so
        return 1
    return count if isinstance(count, int) else 1
