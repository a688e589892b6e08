"""Files of a sentence encoder that sentence-transformers keeps beside its model: module list, settings, modules."""

from __future__ import annotations

from pathlib import Path

from orientc.errors import ExportError
from orientc.models import sentence_transformers
from orientc.models.sentence_transformers import CONFIG, LENGTHS, LIST, PROMPTS
from orientc.models.source import ModelSource

KNOWN = {"Pooling", "Normalize", "Dense", "LayerNorm", "Dropout"}


def files_of(source: ModelSource) -> dict[str, Path]:
    """All files beside a sentence encoder's model, by their names in its folder; none for any other model.

    Raises `ExportError` for a module that can't be taken along, `ModelError` for a list that can't be read or a module
    that names code, and `TrustError` for one that is pickled.
    """
    names = [LIST, PROMPTS, *LENGTHS]
    for module in sentence_transformers.modules(source) or ():
        if module.is_model:
            continue
        if module.kind not in KNOWN or not module.place.parts:
            raise ExportError(f"{source.id} has a module orientc can't take along: {module}")
        if module.kind == "Dense":
            module.activation(source)
        names += [str(module.place / CONFIG), module.weights(source)]
    found = {name: path for name in names if (path := source.file(name))}
    return found if LIST in found else {}
