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
_OPT: dict[str, Any] = {name: value for name, value in _COMMON.items() if name != "intermediate_size"} | {
    "ffn_dim": 64,
    "word_embed_proj_dim": 16,
    "do_layer_norm_before": False,
}
_XLM: dict[str, Any] = _COMMON | {"n_words": VOCAB, "emb_dim": WIDTH, "n_layers": 2, "n_heads": 4, "mask_index": 5}
_MIXTURE: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
_MAMBA: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "state_size": 4,
    "num_heads": 8,
    "head_dim": 8,
    "n_groups": 1,
    "chunk_size": 8,
    "pad_token_id": 0,
}
_IMAGES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
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
    "modernbert": ("ModernBertForMaskedLM", "ModernBertConfig", _COMMON | {"pad_token_id": 0}),
    "mobilebert-encoder": (
        "MobileBertModel",
        "MobileBertConfig",
        _COMMON | {"embedding_size": 16, "intra_bottleneck_size": 32},
    ),
    "xlnet": (
        "XLNetLMHeadModel",
        "XLNetConfig",
        {"vocab_size": VOCAB, "d_model": WIDTH, "n_layer": 2, "n_head": 4, "d_inner": 64},
    ),
    "opt": ("OPTForCausalLM", "OPTConfig", _OPT),
    "gpt-neox-untied": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _COMMON | _UNTIED),
    "phi3-untied": ("Phi3ForCausalLM", "Phi3Config", _COMMON | _UNTIED | {"pad_token_id": 0}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", _DECODER | _TIED),
    "mt5": ("MT5ForConditionalGeneration", "MT5Config", _T5),
}

# More that substitution supports; most are like one of those above, and only their exported form is tested.
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "camembert": ("CamembertForMaskedLM", "CamembertConfig", _COMMON),
    "deberta": ("DebertaForMaskedLM", "DebertaConfig", _COMMON | {"legacy": True}),
    "ernie": ("ErnieForMaskedLM", "ErnieConfig", _COMMON),
    "esm": ("EsmForMaskedLM", "EsmConfig", _COMMON | {"pad_token_id": 1, "mask_token_id": 4}),
    "eurobert-untied": ("EuroBertForMaskedLM", "EuroBertConfig", _COMMON | {"pad_token_id": 0}),
    "flaubert": ("FlaubertWithLMHeadModel", "FlaubertConfig", _XLM),
    "fnet": ("FNetForMaskedLM", "FNetConfig", _COMMON),
    "longformer": ("LongformerForMaskedLM", "LongformerConfig", _COMMON | {"attention_window": 4}),
    "luke-untied": ("LukeForMaskedLM", "LukeConfig", _COMMON | {"entity_vocab_size": 20, "entity_emb_size": 8}),
    "nomic-bert": ("NomicBertForMaskedLM", "NomicBertConfig", _COMMON),
    "rembert-untied": ("RemBertForMaskedLM", "RemBertConfig", _COMMON | {"input_embedding_size": 16}),
    "roformer": ("RoFormerForMaskedLM", "RoFormerConfig", _COMMON | {"embedding_size": 16}),
    "xlm": ("XLMWithLMHeadModel", "XLMConfig", _XLM),
    "bloom": ("BloomForCausalLM", "BloomConfig", _COMMON | {"n_layer": 2, "n_head": 4}),
    "cohere": ("CohereForCausalLM", "CohereConfig", _COMMON | {"pad_token_id": 0}),
    "deepseek-v3-untied": (
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        _COMMON
        | _MIXTURE
        | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "pad_token_id": 0}
        | {"num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4}
        | {"qk_nope_head_dim": 4, "v_head_dim": 8},
    ),
    "falcon": ("FalconForCausalLM", "FalconConfig", _COMMON),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", _DECODER | _TIED),
    "gemma3-with-images": (
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        {"text_config": _DECODER | _TIED, "vision_config": _IMAGES, "mm_tokens_per_image": 4, "pad_token_id": 0},
    ),
    "gpt-neo": ("GPTNeoForCausalLM", "GPTNeoConfig", _COMMON | {"attention_types": [[["global", "local"], 1]]}),
    "gpt-oss-untied": ("GptOssForCausalLM", "GptOssConfig", _DECODER | _UNTIED | _MIXTURE),
    "gptj-untied": ("GPTJForCausalLM", "GPTJConfig", _COMMON | {"rotary_dim": 4}),
    "granite": ("GraniteForCausalLM", "GraniteConfig", _DECODER | _TIED | {"embedding_multiplier": 3.0}),
    "mamba2-untied": ("Mamba2ForCausalLM", "Mamba2Config", _MAMBA),
    "mistral-untied": ("MistralForCausalLM", "MistralConfig", _DECODER | _UNTIED),
    "mixtral-untied": ("MixtralForCausalLM", "MixtralConfig", _DECODER | _UNTIED | _MIXTURE),
    "olmo2-untied": ("Olmo2ForCausalLM", "Olmo2Config", _COMMON | {"pad_token_id": 0}),
    "phi-untied": ("PhiForCausalLM", "PhiConfig", _COMMON | _UNTIED),
    "qwen2-moe-untied": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        _DECODER | _UNTIED | _MIXTURE | {"shared_expert_intermediate_size": 16},
    ),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", _DECODER | _TIED),
    "marian": ("MarianMTModel", "MarianConfig", _BART | {"pad_token_id": 96, "decoder_start_token_id": 96}),
    "m2m-100": ("M2M100ForConditionalGeneration", "M2M100Config", _BART),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", _BART),
    "pegasus": ("PegasusForConditionalGeneration", "PegasusConfig", _BART),
    "t5-encoder": ("T5EncoderModel", "T5Config", _T5),
    "umt5": ("UMT5ForConditionalGeneration", "UMT5Config", _T5),
}


def build(name: str, *, untied: bool = False) -> PreTrainedModel:
    """A random model whose biases and norms are not the neutral values they start with.

    With `untied` its head has a table of its own, whatever the case says.
    """
    model_class, config_class, arguments = (ARCHITECTURES | OTHERS)[name]
    if untied:
        arguments = arguments | _UNTIED
        arguments |= {"text_config": arguments["text_config"] | _UNTIED} if "text_config" in arguments else {}
    torch.manual_seed(0)
    model: PreTrainedModel = getattr(transformers, model_class)(getattr(transformers, config_class)(**arguments))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def policies(name: str) -> tuple[str, ...]:
    """The head policies a case allows."""
    return ("input-only",) if name.endswith(("untied", "encoder", "classifier")) else ("input-only", "tied")


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
