"""Tiny models with more tables than one."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from orientc.modeling.factors import Factors
from orientc.modeling.swap import keep_apart, module_of, table_of
from orientc.models.tables import tables_of
from support.architectures import ARCHITECTURES, OTHERS, VOCAB, WIDTH, build

ROWS = 10_000  # of Gemma 3n's embeddings for each layer: no fewer are a table
DECODER_ROWS = 61  # of Marian's decoder, which has a vocabulary of its own
_GEMMA3N: dict[str, Any] = {
    "vocab_size": VOCAB, "vocab_size_per_layer_input": ROWS, "hidden_size": WIDTH, "hidden_size_per_layer_input": 4,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "altup_num_inputs": 2, "laurel_rank": 4, "num_kv_shared_layers": 0, "max_position_embeddings": 64,
    "pad_token_id": 0, "layer_types": ["full_attention", "full_attention"], "activation_sparsity_pattern": [0.0, 0.0],
}  # fmt: skip
# Mamba reads the dtype of its head's weight at each step: a compressed one would be decoded for it
OWN_HEAD = [name for name in (*ARCHITECTURES, *OTHERS) if name.endswith("-untied") and name != "mamba2-untied"]
SPECIAL = ["mt5-two-tensors", "marian-two-tables", "gemma3n"]


def several(name: str) -> PreTrainedModel:
    """A model whose head has a table of its own, or that has embeddings for each layer; random, but for its kind."""
    torch.manual_seed(0)
    if name == "mt5-two-tensors":  # published so, and the class ties
        model = build("mt5")
        keep_apart(model, ["lm_head.weight"])
        nn.init.normal_(model.lm_head.weight)
        return model
    if name == "marian-two-tables":
        arguments = OTHERS["marian"][2] | {"decoder_vocab_size": DECODER_ROWS}
        arguments |= {"pad_token_id": 60, "decoder_start_token_id": 60, "eos_token_id": 0}
        config = transformers.MarianConfig(**arguments, share_encoder_decoder_embeddings=False)
        return _felt(transformers.MarianMTModel(config))
    if name == "gemma3n":
        return _felt(transformers.Gemma3nForCausalLM(transformers.Gemma3nTextConfig(**_GEMMA3N)))
    return build(name)


@torch.no_grad()
def _felt(model: PreTrainedModel) -> PreTrainedModel:
    """A model of numbers large enough that every table makes a difference to what it computes."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def lossless(model: PreTrainedModel) -> dict[str, Factors]:
    """All tables of a model as compressed tables that lose nothing."""
    return {name: Factors.plain(table_of(module_of(model, name)).detach().clone()) for name in tables_of(model)}
