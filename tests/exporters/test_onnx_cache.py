"""Caches as tensors: which models have one, and that a text in pieces gives what it gives as a whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from orientc.exporters import onnx_cache
from orientc.exporters.onnx_cache import CacheShape

BODY = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def gemma() -> Any:
    torch.manual_seed(0)
    config = transformers.Gemma3TextConfig(
        **BODY,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
    )
    return transformers.Gemma3ForCausalLM(config).eval()


def test_a_cache_of_keys_and_values_has_shapes() -> None:
    assert onnx_cache.shapes_of(gemma()) == (CacheShape(1, 8, 8),) * 2


@pytest.mark.parametrize(
    "model",
    [
        transformers.BertForMaskedLM(transformers.BertConfig(**BODY)),
        transformers.LlamaModel(transformers.LlamaConfig(**BODY)),
        transformers.MambaForCausalLM(
            transformers.MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4)
        ),
    ],
    ids=["no text", "no head", "states"],
)
def test_what_keeps_no_keys_and_values_has_none(model: Any) -> None:
    assert onnx_cache.shapes_of(model.eval()) == ()


@torch.no_grad()
def test_a_text_in_pieces_gives_what_it_gives_as_a_whole() -> None:
    """Beyond the window of a layer that looks back only so far."""
    model, ids = gemma(), torch.randint(50, (2, 14), generator=torch.Generator().manual_seed(1))
    found, past = [], onnx_cache.empty(onnx_cache.shapes_of(model), 2)
    for start, end in ((0, 6), (6, 13), (13, 14)):
        cache = onnx_cache.made_of(past)
        found.append(model(input_ids=ids[:, start:end], past_key_values=cache, use_cache=True).logits)
        past = onnx_cache.tensors_of(cache)
        assert {tensor.shape[2] for tensor in past} == {end}
    torch.testing.assert_close(torch.cat(found, 1), model(input_ids=ids).logits, atol=1e-5, rtol=0)
