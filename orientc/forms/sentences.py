"""What makes a sentence encoder of a folder: the modules sentence-transformers keeps beside the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath

from orientc.errors import ExportError
from orientc.models import ModelSource

LIST = "modules.json"
SETTINGS = (LIST, "config_sentence_transformers.json", "sentence_bert_config.json")
FILES = ("config.json", "model.safetensors")  # of a module
KNOWN = {"Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout"}


def copy_modules(source: ModelSource, folder: Path) -> None:
    """Copy a sentence encoder's modules and settings into `folder`; nothing for other models.

    Raises `ExportError` for a module that can't be taken along.
    """
    listed = source.file(LIST)
    if listed is None:
        return
    names = [*SETTINGS]
    try:
        for module in json.loads(listed.read_text(encoding="utf-8")):
            place, kind = PurePosixPath(module["path"]), module["type"].rpartition(".")[2]
            if kind not in KNOWN or place.is_absolute() or ".." in place.parts:
                raise ExportError(f"{source.id} has a module orientc can't take along: {module['type']}")
            if place.parts:
                names += [str(place / name) for name in FILES]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(f"{source.id} has a {LIST} that can't be read: {error}") from None
    for name in names:
        if file := source.file(name):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
