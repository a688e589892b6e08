"""What a model argument stands for: a folder or `.gguf` file on this machine, the packaged demo, or a hub id."""

from __future__ import annotations

import os.path
from pathlib import Path

from orientc import demo
from orientc.errors import ModelError, ModelNotFoundError, UsageError
from orientc.storage.records import MODEL_CONFIG

DEMO = demo.NAME
ADAPTER = "adapter_config.json"
_MARKS = (MODEL_CONFIG, ADAPTER)  # of a folder that is a model, or part of one


def place_of(model: str) -> Path | None:
    """Find the folder or file on this machine that a model argument names; None for a hub id, which is not asked for.

    Raises:
        ModelNotFoundError: A path does not exist.
        ModelError: A path is neither a folder nor a `.gguf` file, or a folder that is no model has a hub id's name.
        UsageError: The name is empty or not UTF-8.
    """
    check_name(model)
    path = Path(os.path.expanduser(model))
    # os.path says no where pathlib raises: of a name that is too long, or below a folder that may not be read
    if model == DEMO:
        return demo.FOLDER
    if is_gguf(path) or os.path.isdir(path):
        if is_gguf(path) and not os.path.isfile(path):
            raise ModelNotFoundError(f"there is no file {model}")
        if _may_be_on_the_hub(model) and not any((path / name).is_file() for name in _MARKS):
            raise ModelError(
                f"the folder {model} has no {_MARKS[0]}: it is not a transformers model, and hides one of "
                "that name on the hub; rename it, or start elsewhere"
            )
        return path
    if os.path.exists(path):
        raise ModelError(f"{model} is neither a model folder nor a .gguf file")
    if not _may_be_on_the_hub(model):
        raise ModelNotFoundError(f"there is no folder {model}")
    return None


def check_name(model: str) -> None:
    """Raise `UsageError` for a name that no model can have: files that say where they come from could not hold it."""
    if not model.strip():
        raise UsageError("the name of the model is empty: name a hub id, a folder, a .gguf file, or demo")
    try:
        model.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{model} is not UTF-8, which the name of a model has to be: rename it") from None


def is_gguf(path: Path) -> bool:
    """Whether a path is that of a GGUF file, by its name."""
    return path.suffix.lower() == ".gguf"


def _may_be_on_the_hub(model: str) -> bool:
    """Whether a name without a folder of that name is taken for a hub id."""
    return not (model.startswith((".", "/", "~")) or model.count("/") > 1 or is_gguf(Path(model)))
