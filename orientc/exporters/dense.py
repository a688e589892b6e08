"""The dense form: a model of the original architecture, with the table decoded from its factors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from orientc.errors import ExportError
from orientc.modeling.compact_model import CompactModel
from orientc.modeling.factors import Factors
from orientc.modeling.modules import table_of
from orientc.modeling.swap import compressed_keys, head_ties, keep_apart, module_of, users_of
from orientc.models import compact, foreign_code
from orientc.models.source import ModelSource
from orientc.models.stored import Checkpoint
from orientc.models.substitute import compressed_modules, head_policies
from orientc.models.towers import reach_table
from orientc.storage.artifact import Artifact
from orientc.storage.sizes import INPUT_ONLY, TIED
from orientc.utils.logging import quietly


def check(head: str, *, tied: bool) -> None:
    """Raise `ExportError` for an input-only head of a tied model: it keeps the original, and the model holds one."""
    if head == INPUT_ONLY and tied:
        raise ExportError("input-only has two tables, the dense form of this architecture one: export it as tied")


@torch.no_grad()
def decode_into(model: PreTrainedModel, artifacts: Sequence[Artifact], head: str) -> None:
    """Write decoded tables over the model's own, in place: the way for a quantized body, which can't be rebuilt.

    Args:
        model: The model, whose tables are dense; where its head shares the lookup's, so it does afterwards.
        artifacts: The compressed tables.
        head: Head policy.

    Raises:
        ExportError: The policy is input-only, of a head that shares the table.
        SubstitutionError: As `substitute`.
    """
    check(head, tied=TIED in head_policies(model, [artifact.description.base.table for artifact in artifacts]))
    compressed_modules(model, artifacts, head)
    for artifact in artifacts:
        _fill(model, artifact.description.base.table, artifact.factors)


def _fill(model: PreTrainedModel, name: str, factors: Factors) -> None:
    """Write a decoded table over one of a model's."""
    anchor = module_of(model, name)
    assert anchor is not None
    table_of(anchor).copy_(factors.dense())


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write a model as a plain one of its architecture; compressed tables are decoded.

    Code of the model's own repository goes along; an architecture of transformers needs none.
    """
    if not compact.compressed_tables(model):
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
    lacking -= {*(model._keys_to_ignore_on_save or ())}  # Marian's sinusoids are computed
    if wrong := sorted(lacking) + sorted(written.unknown):
        raise ExportError(
            f"{type(model).__name__} can't be written as a plain model: {wrong[0]} would be lost on loading"
        )


@torch.no_grad()
def rebuilt(model: PreTrainedModel) -> PreTrainedModel:
    """A plain model of the same architecture, with decoded tables in all places that used the compressed ones."""
    architecture: Any = next(kind for kind in type(model).__mro__ if not issubclass(kind, CompactModel))
    plain: PreTrainedModel = architecture(compact.plain_config(model)).to(model.dtype).eval()
    reach_table(plain)
    head = model.get_output_embeddings()
    if head is not None and head not in users_of(model).values():  # it has a table of its own, whatever the class ties
        keep_apart(plain, head_ties(plain))
        if not plain.all_tied_weights_keys:  # BERT ties a bias too, T5 two lookups: for them it means something else
            plain.config.tie_word_embeddings = plain.config.get_text_config().tie_word_embeddings = False
    if getattr(model, "pooler", plain) is None:  # the checkpoint had none
        plain.pooler = None
    tables = compact.compressed_tables(model)
    dense = {f"{user}.weight" for name in tables for user in users_of(plain, name)}
    found = plain.load_state_dict(model.state_dict(), strict=False)
    if wrong := sorted({*found.missing_keys} - dense) + sorted({*found.unexpected_keys} - compressed_keys(model)):
        raise ExportError(
            f"{architecture.__name__} can't be rebuilt as a plain model: {wrong[0]} is not in one of the two"
        )
    for name, table in tables.items():
        _fill(plain, name, table.factors)
    if model.can_generate():
        plain.generation_config = model.generation_config
    return plain
