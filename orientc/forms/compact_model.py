"""What turns a model class into one whose models hold a compressed table from the start.

This module imports nothing but torch, transformers and what goes along with it in the code of an exported model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.factors import Factors
from orientc.modules import table_of
from orientc.stand_ins import put_in, replacements


class CompactModel:
    """Mixed into a model class, in front of it: the table is there as factors, for `from_pretrained` to fill.

    `config.orientc` says what they are like: `rank`, `decoder`, `bias`, `activation`, and the head policy, `head`.
    """

    def __init__(self, config: Any, *inputs: Any, **options: Any) -> None:
        super().__init__(config, *inputs, **options)  # type: ignore[call-arg]  # the model class's, which comes next
        model: Any = self
        _share(model)
        put_in(model, replacements(model, _fresh(model), keep_head=config.orientc["head"] == "input-only"))

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *_: Any, **__: Any) -> nn.Module:
        """The lookup, where its size is the one asked for; a compressed table can't grow or shrink."""
        lookup: nn.Module = self.get_input_embeddings()  # type: ignore[attr-defined]
        if new_num_tokens not in (None, lookup.num_embeddings):
            raise NotImplementedError("a compressed table can't be resized: resize the original, then compress that")
        return lookup


def _share(model: PreTrainedModel) -> None:
    """Share what the architecture shares: `from_pretrained` puts that off, but the table's users are found by it."""
    for target, source in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        holder, _, name = target.rpartition(".")
        setattr(model.get_submodule(holder), name, model.get_parameter_or_buffer(source))


def _fresh(model: PreTrainedModel) -> Factors:
    """Factors as the configuration describes them, drawn at random as the architecture draws a new table."""
    held, table = model.config.orientc, table_of(model.get_input_embeddings())
    deviation = getattr(model.config, "initializer_range", None) or 0.02

    def draw(*shape: int) -> Tensor:
        return torch.empty(shape, device=table.device, dtype=table.dtype).normal_(std=deviation)

    (vocab, dim), rank = table.shape, held["rank"]
    return Factors(
        draw(vocab, rank),
        draw(dim, rank) if held["decoder"] else None,
        draw(dim) if held["bias"] else None,
        held["activation"],
    )
