"""Files of a sentence encoder that sentence-transformers keeps beside its model: module list, settings, modules."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from orientc.errors import ExportError, TrustError
from orientc.models.source import ModelSource
from orientc.utils.files import stays_inside

LIST = "modules.json"
MODEL = "Transformer"
# `max_seq_length` and the like are in the first of these that is there, all but one of them of its first years
_KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
SETTINGS = ("config_sentence_transformers.json", *(f"sentence_{kind}_config.json" for kind in _KINDS))
CONFIG, WEIGHTS, PICKLE = "config.json", "model.safetensors", "pytorch_model.bin"  # of a module
ACTIVATIONS = "torch.nn."  # where a Dense module's activation is
KNOWN = {"Pooling", "Normalize", "Dense", "LayerNorm", "Dropout"}


def files_of(source: ModelSource) -> dict[str, Path]:
    """All files beside a sentence encoder's model, by their names in its folder; none for any other model.

    Raises `ExportError` for a module that can't be taken along, and `TrustError` for one that is pickled.
    """
    listed = source.file(LIST)
    if listed is None:
        return {}
    names = [LIST, *SETTINGS]
    try:
        for module in json.loads(listed.read_text(encoding="utf-8")):
            names += _files_of(source, module)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(f"{source.id} has a {LIST} that can't be read: {error}") from None
    return {name: path for name in names if (path := source.file(name))}


def copy(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files into `folder` by their names."""
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _files_of(source: ModelSource, module: Mapping[str, Any]) -> Iterator[str]:
    """The files of one module on the list; `type` is a path to its class, which the versions spell differently."""
    place = PurePosixPath(module["path"])
    package, _, kind = str(module["type"]).rpartition(".")
    ours = package.partition(".")[0] == "sentence_transformers" and stays_inside(module["path"])
    if ours and kind == MODEL and not place.parts:
        return
    if not (ours and kind in KNOWN and place.parts):
        where = f"{module['type']} in {place}" if place.parts else module["type"]
        raise ExportError(f"{source.id} has a module orientc can't take along: {where}")
    pickled = not source.has(str(place / WEIGHTS)) and source.has(str(place / PICKLE))
    if pickled and not source.allow_pickle:
        raise TrustError(f"{source.id} has no safetensors weights in {place}: allow .bin files with `allow_pickle`")
    if kind == "Dense" and (config := source.file(str(place / CONFIG))):
        activation = json.loads(config.read_text(encoding="utf-8")).get("activation_function", ACTIVATIONS)
        if not str(activation).startswith(ACTIVATIONS):  # loading imports it, whatever it is
            raise ExportError(f"{source.id} has a module in {place} that names code: {activation}")
    yield str(place / CONFIG)
    yield str(place / (PICKLE if pickled else WEIGHTS))
