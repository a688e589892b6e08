"""The dense form: a model of the original architecture, with the table decoded from its factors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from orientc.errors import ExportError
from orientc.modeling.compact_model import CompactModel
from orientc.modeling.modules import CompressedTable, table_of
from orientc.modeling.swap import head_ties, keep_apart, users_of
from orientc.models import compact, foreign_code
from orientc.models.source import ModelSource
from orientc.models.stored import Checkpoint
from orientc.models.substitute import compressed_modules
from orientc.storage.artifact import Artifact
from orientc.storage.sizes import INPUT_ONLY
from orientc.utils.logging import quietly


def check(head: str) -> None:
    """Raise `ExportError` for an input-only head: it keeps the original table, and a tied architecture holds one."""
    if head == INPUT_ONLY:
        raise ExportError("input-only has two tables, the dense form of this architecture one: export it as tied")


@torch.no_grad()
def decode_into(model: PreTrainedModel, artifact: Artifact, head: str) -> None:
    """Write a decoded table over the model's own, in place: the way for a quantized body, which can't be rebuilt.

    Args:
        model: The model, whose table is dense; where its head shares the table, so it does afterwards.
        artifact: The compressed table.
        head: Head policy.

    Raises:
        ExportError: The policy is input-only.
        SubstitutionError: As `substitute`.
    """
    check(head)
    compressed_modules(model, artifact, head)
    table = table_of(model.get_input_embeddings())
    table.copy_(artifact.factors.dense())


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write a model as a plain one of its architecture; a compressed table, its head not input-only, is decoded.

    Code of the model's own repository goes along; an architecture of transformers needs none.
    """
    if not isinstance(model.get_input_embeddings(), CompressedTable):
        with quietly():  # a package's tensors have no way back to the names and kinds that they were read by
            model.save_pretrained(folder, save_original_format=False)
        return
    plain = rebuilt(model)
    kind, places = type(plain), vars(plain.config).get("auto_map") or {}
    if foreign_code.is_foreign(kind):
        for auto_name in (name for name, place in places.items() if str(place).rpartition(".")[2] == kind.__name__):
            kind.register_for_auto_class(auto_name)
    with quietly():
        plain.save_pretrained(folder)
    _check_keys(plain, folder)


def _check_keys(model: PreTrainedModel, folder: Path) -> None:
    """Raise `ExportError` where loading a folder again would draw weights at random, or leave some aside."""
    written = Checkpoint(ModelSource.resolve(folder), model)
    lacking = model.state_dict().keys() - written.keys_of.keys() - model.all_tied_weights_keys.keys()
    if wrong := sorted(lacking) + sorted(written.unknown):
        raise ExportError(
            f"{type(model).__name__} can't be written as a plain model: {wrong[0]} would be lost on loading"
        )


@torch.no_grad()
def rebuilt(model: PreTrainedModel) -> PreTrainedModel:
    """A plain model of the same architecture, with the decoded table in all places that used the compressed one."""
    architecture: Any = next(kind for kind in type(model).__mro__ if not issubclass(kind, CompactModel))
    plain: PreTrainedModel = architecture(compact.plain_config(model)).to(model.dtype).eval()
    head = model.get_output_embeddings()
    if head is not None and not isinstance(head, CompressedTable):  # it has a table of its own, whatever the class ties
        keep_apart(plain, head_ties(plain))
        if not plain.all_tied_weights_keys:  # BERT ties a bias too, T5 two lookups: for them it means something else
            plain.config.tie_word_embeddings = plain.config.get_text_config().tie_word_embeddings = False
    if getattr(model, "pooler", plain) is None:  # the checkpoint had none
        plain.pooler = None
    table = {f"{name}.{key}" for name, user in users_of(plain).items() for key, _ in user.named_parameters()}
    found = plain.load_state_dict(model.state_dict(), strict=False)
    if wrong := sorted({*found.missing_keys} - table) + sorted({*found.unexpected_keys} - _factors(model)):
        raise ExportError(
            f"{architecture.__name__} can't be rebuilt as a plain model: {wrong[0]} is not in one of the two"
        )
    table_of(plain.get_input_embeddings()).copy_(compact.compressed_table(model).factors.dense())
    if model.can_generate():
        plain.generation_config = model.generation_config
    return plain


def _factors(model: PreTrainedModel) -> set[str]:
    """Names of the compressed tensors, in all places that use them."""
    return {
        f"{name}.{key}"
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, CompressedTable)
        for key in module.state_dict()
    }
