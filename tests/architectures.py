"""Tiny random instances of every architecture orientc promises to substitute."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

VOCAB, WIDTH = 97, 32
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
_DECODER = _COMMON | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
_T5: dict[str, Any] = {"vocab_size": VOCAB, "d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_BART: dict[str, Any] = {"vocab_size": VOCAB, "d_model": WIDTH, "max_position_embeddings": 64} | {
    f"{part}_{name}": value
    for part in ("encoder", "decoder")
    for name, value in {"layers": 1, "attention_heads": 4, "ffn_dim": 64}.items()
}
_TIED: dict[str, Any] = {"tie_word_embeddings": True}
_UNTIED: dict[str, Any] = {"tie_word_embeddings": False}

# name of the case → (model class, configuration class, its arguments)
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", "BertConfig", _COMMON),
    "bert-untied": ("BertForMaskedLM", "BertConfig", _COMMON | _UNTIED),
    "bert-encoder": ("BertModel", "BertConfig", _COMMON),
    "bert-classifier": ("BertForSequenceClassification", "BertConfig", _COMMON),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", _COMMON),
    "xlm-roberta": ("XLMRobertaForMaskedLM", "XLMRobertaConfig", _COMMON),
    "distilbert": (
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {"vocab_size": VOCAB, "dim": WIDTH, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
    "electra": ("ElectraForMaskedLM", "ElectraConfig", _COMMON | {"embedding_size": 16}),
    "albert": ("AlbertForMaskedLM", "AlbertConfig", _COMMON | {"embedding_size": 16}),
    "deberta-v2": (
        "DebertaV2ForMaskedLM",
        "DebertaV2Config",
        _COMMON | {"legacy": True, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "deberta-v2-encoder": ("DebertaV2Model", "DebertaV2Config", _COMMON | {"legacy": False}),
    "mpnet": ("MPNetForMaskedLM", "MPNetConfig", _COMMON),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", _DECODER | _TIED),
    "llama-untied": ("LlamaForCausalLM", "LlamaConfig", _DECODER | _UNTIED),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", _DECODER | _TIED),
    "qwen2-untied": ("Qwen2ForCausalLM", "Qwen2Config", _DECODER | _UNTIED),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", _DECODER | _TIED),
    "qwen3-untied": ("Qwen3ForCausalLM", "Qwen3Config", _DECODER | _UNTIED),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", _DECODER | _TIED),
    "gemma3-untied": ("Gemma3ForCausalLM", "Gemma3TextConfig", _DECODER | _UNTIED),
    "t5": ("T5ForConditionalGeneration", "T5Config", _T5),
    "t5-unscaled": ("T5ForConditionalGeneration", "T5Config", _T5 | _UNTIED),  # = scale_decoder_outputs off
    "bart": ("BartForConditionalGeneration", "BartConfig", _BART),
    "bart-scaled": ("BartForConditionalGeneration", "BartConfig", _BART | {"scale_embedding": True}),
}


def build(name: str) -> PreTrainedModel:
    """A random model whose biases and norms are not the neutral values they start with."""
    model_class, config_class, arguments = ARCHITECTURES[name]
    torch.manual_seed(0)
    model: PreTrainedModel = getattr(transformers, model_class)(getattr(transformers, config_class)(**arguments))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def policies(name: str) -> tuple[str, ...]:
    """The head policies a case allows."""
    return ("untied",) if name.endswith(("untied", "encoder", "classifier")) else ("input-only", "tied")


def inputs_of(model: PreTrainedModel, *, padded: bool = True) -> dict[str, Tensor]:
    """A batch of token ids, the padding index among them if `padded`."""
    ids = torch.arange(3, 21).reshape(2, 9) % VOCAB
    if padded:
        ids[0, -2:] = model.config.pad_token_id or 0
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids.flip(1)
    return inputs


def outputs_of(model: PreTrainedModel, *, padded: bool = True) -> Tensor:
    """What the model computes: logits, or states where it has no head."""
    result = model(**inputs_of(model, padded=padded))
    return result.logits if "logits" in result else result.last_hidden_state
