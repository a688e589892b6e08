"""Compact models: model folders whose weights hold compressed tables instead of the dense ones.

`config.json` is the architecture's own with three changes. `model_type` is "orientc_<its own>", so that a program that
does not know the form stops instead of drawing a new table at random. `orientc` holds `format_version`, `model_type`,
the head policy `head` (and `own_head`, see `Compact`) and the layouts of compressed tables by name, `tables`.
`auto_map` names the classes in the code file beside it, for transformers. In the weights an artifact's tensors take its
table's place, with "_" for ".": `<embedding>.latents`, `<embedding>.decoder_weight` and so on.

Version 1 knew one table: it has its `layout` in the place of `tables`, and "untied" for "input-only".
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
from orientc.modeling.swap import module_of, users_of
from orientc.modeling.table_names import INPUT
from orientc.models import compact_code
from orientc.models.tables import tables_of
from orientc.storage.sizes import INPUT_ONLY, POLICIES, UNTIED
from orientc.utils.logging import quietly

FORMAT_VERSION = 2
CONFIG = "config.json"
KEY = "orientc"
PARAMETERS = re.compile(r"latents(_\w+)?|decoder_(weight|bias)|kept_(ids|rows)")  # of a compressed module, by name


@dataclass(frozen=True)
class Compact:
    """The description of a compact model's compressed tables in its configuration.

    Attributes:
        model_type: The architecture's own `model_type`.
        head: Head policy.
        tables: Layouts of the compressed tables by name.
        own_head: Whether the model was saved with an output projection that has a table of its own, whatever its
            architecture ties.
    """

    model_type: str
    head: str
    tables: dict[str, Layout]
    own_head: bool = False

    @classmethod
    def of(cls, model: PreTrainedModel, head: str) -> Compact:
        """Describe a model with compressed tables, swapped in under a head policy."""
        layouts = {name: table.factors.layout for name, table in compressed_tables(model).items()}
        projection = model.get_output_embeddings()
        own_head = projection is not None and projection not in users_of(model).values()
        return cls(model.config.model_type, head, layouts, own_head)


def build(architecture: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Make the compact class of a model class, under the same name."""
    return type(architecture.__name__, (CompactModel, architecture), {"__module__": __name__})


def compressed_tables(model: PreTrainedModel) -> dict[str, CompressedTable]:
    """The compressed tables of a model by name, each as one of the modules that use it."""
    modules = {name: module_of(model, name) for name in tables_of(model)}
    return {name: module for name, module in modules.items() if isinstance(module, CompressedTable)}


def plain_config(model: PreTrainedModel) -> PreTrainedConfig:
    """A copy of a model's configuration without the description of a compressed table."""
    config: PreTrainedConfig = copy.deepcopy(model.config)
    for key in (KEY, compact_code.RESIDENT):
        vars(config).pop(key, None)
    return config


def save(model: PreTrainedModel, folder: Path, head: str) -> None:
    """Write a model's configuration and weights into a folder; with compressed tables as a compact model."""
    held = bool(compressed_tables(model))
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
        if version == 1:
            entries = _of_one_table(entries)
        tables = {str(name): Layout.from_dict(layout) for name, layout in entries["tables"].items()}
        compact = Compact(**entries | {"tables": tables})
        valid = {
            "model_type": values["model_type"] == f"{compact_code.PREFIX}{compact.model_type}",
            "head": compact.head in POLICIES,
            "own_head": isinstance(compact.own_head, bool),
            "tables": bool(tables),
        }
        if wrong := [name for name, fits in valid.items() if not fits]:
            raise ValueError(f"{wrong[0]} is {getattr(compact, wrong[0])!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{config} is damaged where it describes the compressed tables: {error}") from None
    values.pop("auto_map", None)  # orientc runs no code from the folder
    return compact, values | {"model_type": compact.model_type, KEY: asdict(compact)}


def _of_one_table(entries: dict[str, Any]) -> dict[str, Any]:
    """What version 1 says, in the words of this one."""
    found = {name: value for name, value in entries.items() if name != "layout"}
    if found["head"] == INPUT_ONLY:  # of a tied model: the head that is saved holds the original table
        found["own_head"] = True
    elif found["head"] == UNTIED:
        found["head"] = INPUT_ONLY
    return found | {"tables": {INPUT: entries["layout"]}}


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
