"""Small causal language models whose bodies are quantized; the packages of the extra `clients` are used by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

BLOCK = 16  # numbers, each way, that share a scale in fp8
_PARTS = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"} | {
    f"{name}_proj": f"ffn_{name}" for name in ("gate", "up", "down")
}


def llama(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    dtype: torch.dtype = torch.bfloat16,
    *,
    width: int = 32,
    spread: float = 0.3,
) -> Path:
    """A tied model that is not quantized, with its tokenizer."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=spread,
    )
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def declare(folder: Path, values: Any) -> None:
    """Write a `quantization_config` into a model's configuration; None takes it out."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"quantization_config": values}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def fp8(folder: Path) -> Path:
    """Quantize the body of a folder's model to 8-bit floats with a scale for each block, in place."""

    def codes(name: str, weight: Tensor) -> dict[str, Tensor]:
        blocks = weight.float().unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK))
        scales = blocks.abs().amax((1, 3)) / 448
        coded = (blocks / scales[:, None, :, None]).flatten(0, 1).flatten(1).to(torch.float8_e4m3fn)
        return {name: coded, name.replace("weight", "weight_scale_inv"): scales}

    _replace(folder, codes)
    declare(folder, {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]})
    return folder


def bitnet(folder: Path) -> Path:
    """Quantize the body of a folder's model to -1, 0 and 1, four in a byte, in place."""

    def codes(name: str, weight: Tensor) -> dict[str, Tensor]:
        scale = weight.float().abs().mean()
        whole = (weight.float() / scale).round().clamp(-1, 1).to(torch.int8) + 1
        first, second, third, fourth = whole.to(torch.uint8).chunk(4)
        packed = first | second << 2 | third << 4 | fourth << 6
        return {name: packed, name.replace("weight", "weight_scale"): (1 / scale).reshape(1).to(weight.dtype)}

    _replace(folder, codes)
    declare(folder, {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]})
    return folder


def bitsandbytes(folder: Path, bits: int) -> Path:
    """Quantize the body of a folder's model with bitsandbytes, in place: to int8, or to NF4."""
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    return _resaved(folder, transformers.BitsAndBytesConfig(**four if bits == 4 else {"load_in_8bit": True}))


def torchao(folder: Path) -> Path:
    """Quantize the body of a folder's model to int8 with torchao, in place."""
    from torchao.quantization import Int8WeightOnlyConfig

    return _resaved(folder, transformers.TorchAoConfig(Int8WeightOnlyConfig()))


def compressed_tensors(folder: Path) -> Path:
    """Quantize the body of a folder's model to 8 bits in groups (W8A16), as llm-compressor saves it; in place."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config, preset_name_to_scheme
    from compressed_tensors.quantization.utils import calculate_qparams

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    scheme = preset_name_to_scheme("W8A16", ["Linear"])
    groups = {"config_groups": {"body": scheme}, "quantization_status": "initialized", "ignore": ["lm_head"]}
    apply_quantization_config(model, QuantizationConfig(**groups), show_progress=False)
    for module in model.modules():
        if hasattr(module, "quantization_scheme"):
            groups = module.weight.detach().unflatten(1, (module.weight_scale.shape[1], -1))
            scale, _ = calculate_qparams(groups.amin(2), groups.amax(2), scheme.weights)
            module.weight_scale.data.copy_(scale)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    return folder


def _resaved(folder: Path, how: Any) -> Path:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, quantization_config=how)
    model.save_pretrained(folder)
    return folder


def _replace(folder: Path, codes: Callable[[str, Tensor], dict[str, Tensor]]) -> None:
    """Replace each projection of a checkpoint by its codes."""
    path, made = folder / "model.safetensors", {}
    for name, weight in load_file(path).items():
        made |= codes(name, weight) if "_proj." in name else {name: weight}
    save_file(made, path, metadata={"format": "pt"})


def gguf_file(folder: Path, path: Path, kind: str = "Q8_0", *, parts: int | None = None) -> Path:
    """Write a folder's model as a GGUF file with projections of a type; `parts` is what it says of its being split."""
    import gguf

    state = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(tokenizer["vocab"], key=tokenizer["vocab"].__getitem__))
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    if parts is not None:
        writer.add_uint16("split.count", parts)
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    for name, tensor in state.items():
        values = tensor.float().numpy()
        if "_proj." in name:
            layer, part = name.split(".")[2], name.split(".")[-2]
            quantization = gguf.GGMLQuantizationType[kind]
            coded = gguf.quantize(values, quantization)
            writer.add_tensor(f"blk.{layer}.{_PARTS[part]}.weight", coded, raw_dtype=quantization)
            continue
        layer = name.split(".")[2] if ".layers." in name else ""
        norm = "attn_norm" if "input_layernorm" in name else "ffn_norm"
        writer.add_tensor(names.get(name, f"blk.{layer}.{norm}.weight"), values.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
