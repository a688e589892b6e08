"""Weights that a checkpoint lacks, which transformers would draw at random without an error."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import PreTrainedModel

from orientc.modeling.swap import execution_device


def unfilled(model: PreTrainedModel, info: dict[str, Any], *, new_head: bool, pooler: bool) -> set[str]:
    """Find the parameters that a checkpoint did not fill and should have.

    Args:
        model: The model as it was loaded; a pooler that is not wanted and was not filled is taken out.
        info: What `from_pretrained` says of loading (`output_loading_info`).
        new_head: Whether what a task's class adds to the encoder or decoder may be drawn at random.
        pooler: Whether a pooler is wanted even where the checkpoint has none.
    """
    lacking = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    lacking |= {key for key, parameter in model.named_parameters() if parameter.is_meta and not _is_away(model, key)}
    if not pooler and any(key.startswith("pooler.") for key in lacking):
        model.pooler = None
        lacking = {key for key in lacking if not key.startswith("pooler.")}
    return {key for key in lacking if not _on_top(model, key)} if new_head else lacking


def _is_away(model: PreTrainedModel, key: str) -> bool:
    """Whether a parameter has no numbers because it is kept elsewhere until its module runs."""
    return execution_device(model.get_submodule(key.rpartition(".")[0])) is not None


def _on_top(model: PreTrainedModel, key: str) -> bool:
    """Whether a parameter is of what a task's class adds to the encoder or decoder, BERT's pooler included."""
    bare = isinstance(model, transformers.AutoModel._model_mapping.get(type(model.config), ()))
    table = model.get_input_embeddings()
    parts = {name for name, module in model.named_children() if isinstance(module, PreTrainedModel) or module is table}
    return (not bare and key.partition(".")[0] not in parts | {model.base_model_prefix}) or "pooler." in key
