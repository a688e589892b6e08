"""Checkpoints whose configuration ties what is stored with numbers of its own."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from support.architectures import build

# a tied architecture of each kind → the key its head's own table is stored under
HEADS = {
    "bert": "cls.predictions.decoder.weight",  # its head has a tied bias too
    "gpt2": "lm_head.weight",
    "llama": "lm_head.weight",
    "t5": "lm_head.weight",
    "mt5": "lm_head.weight",  # its class says tied, and no checkpoint of its first years is
    "bart": "lm_head.weight",
    "albert": "predictions.decoder.weight",
    "modernbert": "decoder.weight",
}


def save_apart(name: str, folder: Path, *, form: str = "safetensors", equal: bool = False) -> PreTrainedModel:
    """Save an architecture with a head of its own, and load it as transformers does.

    Args:
        name: One of `HEADS`.
        folder: Where to.
        form: "safetensors", "shards" (lookup and head in two files) or "bin".
        equal: Store the table's own numbers as the head's.
    """
    model = build(name)
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    table: Tensor = model.get_input_embeddings().weight.detach()
    tensors[HEADS[name]] = table.clone() if equal else 0.1 * torch.randn(table.shape)
    (folder / "model.safetensors").unlink()
    if form == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    elif form == "shards":
        parts = {"head.safetensors": {HEADS[name]}, "body.safetensors": tensors.keys() - {HEADS[name]}}
        for file, keys in parts.items():
            save_file({key: tensors[key] for key in keys}, folder / file, metadata={"format": "pt"})
        index = {
            "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
            "weight_map": {key: file for file, keys in parts.items() for key in keys},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    loaded: PreTrainedModel = type(model).from_pretrained(folder).eval()
    return loaded
