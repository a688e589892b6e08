"""Compact models: model folders whose weights hold a compressed table instead of the dense one.

`config.json` is the architecture's own with three changes. `model_type` is "orientc_<its own>", so that a program that
does not know the form stops instead of drawing a new table at random. `orientc` holds `format_version`, `model_type`,
the head policy `head` (and `own_head`, see `Compact`) and the table's `layout`. `auto_map` names the classes in the
code file beside it, for transformers. In the weights the artifact's tensors take the table's place, with "_" for ".":
`<embedding>.latents`, `<embedding>.decoder_weight` and so on.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from orientc.errors import ModelError
from orientc.modeling.compact_model import CompactModel
from orientc.modeling.layout import Layout
from orientc.modeling.modules import CompressedTable
from orientc.models import compact_code
from orientc.storage.sizes import INPUT_ONLY, TIED, UNTIED
from orientc.utils.logging import quietly

FORMAT_VERSION = 1
CONFIG = "config.json"
KEY = "orientc"
PARAMETERS = re.compile(r"latents(_\w+)?|decoder_(weight|bias)|kept_(ids|rows)")  # of a compressed module, by name


@dataclass(frozen=True)
class Compact:
    """The description of a compact model's table in its configuration.

    Attributes:
        model_type: The architecture's own `model_type`.
        head: Head policy.
        layout: Layout of the compressed table.
        own_head: Whether the model was saved with an output projection that has a table of its own, whatever its
            architecture ties.
    """

    model_type: str
    head: str
    layout: Layout
    own_head: bool = False

    @classmethod
    def of(cls, model: PreTrainedModel, head: str) -> Compact:
        """Describe a model with a compressed table, swapped in under a head policy."""
        own_head = head == UNTIED and model.get_output_embeddings() is not None
        return cls(model.config.model_type, head, compressed_table(model).factors.layout, own_head)


def build(architecture: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Make the compact class of a model class, under the same name."""
    return type(architecture.__name__, (CompactModel, architecture), {"__module__": __name__})


def compressed_table(model: PreTrainedModel) -> CompressedTable:
    """The compressed embedding of a model. Raises `TypeError` where it has none."""
    found = model.get_input_embeddings()
    if not isinstance(found, CompressedTable):
        raise TypeError(f"{type(model).__name__} has no compressed table")
    return found


def plain_config(model: PreTrainedModel) -> PreTrainedConfig:
    """A copy of a model's configuration without the description of a compressed table."""
    config: PreTrainedConfig = copy.deepcopy(model.config)
    for key in (KEY, compact_code.RESIDENT):
        vars(config).pop(key, None)
    return config


def save(model: PreTrainedModel, folder: Path, head: str) -> None:
    """Write a model's configuration and weights into a folder; with a compressed table as a compact model."""
    held = isinstance(model.get_input_embeddings(), CompressedTable)
    with quietly():
        # transformers renames weights on loading for its own classes alone: here they keep the modules' names
        model.save_pretrained(folder, save_original_format=not held)
    if not held:
        return
    compact, config = asdict(Compact.of(model, head)), type(model.config)
    path = folder / CONFIG
    values = json.loads(path.read_text(encoding="utf-8"))
    values |= {
        "model_type": compact_code.PREFIX + compact["model_type"],
        KEY: {"format_version": FORMAT_VERSION} | compact,
    }
    if config.__module__.startswith("transformers."):
        values["auto_map"] = compact_code.auto_map(config)
        (folder / compact_code.FILE).write_text(compact_code.source(config), encoding="utf-8")
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read(config: Path) -> tuple[Compact, dict[str, Any]] | None:
    """Read the `config.json` of a model.

    Returns:
        The description of a compact model's table and the architecture's own configuration; None for other models.

    Raises:
        ModelError: The file is damaged or of a newer version.
    """
    try:
        values = json.loads(config.read_text(encoding="utf-8"), object_hook=_decoded)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{config} can't be read as a model's configuration: {error}") from None
    if not isinstance(values, dict) or not str(values.get("model_type", "")).startswith(compact_code.PREFIX):
        return None
    try:
        entries = dict(values[KEY])
        if (version := entries.pop("format_version")) > FORMAT_VERSION:
            raise ModelError(f"{config} has compact format {version}, newer than {FORMAT_VERSION}: update orientc")
        compact = Compact(**entries | {"layout": Layout.from_dict(entries["layout"])})
        valid = {
            "model_type": values["model_type"] == f"{compact_code.PREFIX}{compact.model_type}",
            "head": compact.head in (INPUT_ONLY, TIED, UNTIED),
            "own_head": isinstance(compact.own_head, bool),
        }
        if wrong := [name for name, fits in valid.items() if not fits]:
            raise ValueError(f"{wrong[0]} is {getattr(compact, wrong[0])!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{config} is damaged where it describes the compressed table: {error}") from None
    values.pop("auto_map", None)  # orientc runs no code from the folder
    return compact, values | {"model_type": compact.model_type}


def _decoded(entry: dict[str, Any]) -> Any:
    """Decode an object of a configuration; transformers writes infinity as `{"__float__": "Infinity"}`."""
    return float(entry["__float__"]) if entry.keys() == {"__float__"} else entry


def check_left_over(id: str, keys: Iterable[str]) -> None:
    """Raise `ModelError` where unused tensors of a checkpoint are part of a compressed table.

    transformers would go on with a random table.
    """
    if parts := sorted(key for key in keys if PARAMETERS.fullmatch(key.rpartition(".")[2])):
        raise ModelError(
            f"{id} holds {parts[0]}, part of a compressed table, but its {CONFIG} does not say so: "
            "it was saved by something other than orientc"
        )
