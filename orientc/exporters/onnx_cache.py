"""A language model's cache as tensors: for each layer the keys and values that a graph takes in and gives out.

Names and shapes are those that ONNX runtimes' text generation knows: `past_key_values.0.key`, `present.0.key`, both
`[batch_size, heads, length, width]`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

PAST, PRESENT = "past_key_values", "present"
KINDS = ("key", "value")
_KNOWN = (DynamicLayer, DynamicSlidingWindowLayer)


class CacheShape(NamedTuple):
    """Heads and widths of one layer's keys and values."""

    heads: int
    key_width: int
    value_width: int


def names(prefix: str, layers: int) -> tuple[str, ...]:
    """Names of all keys and values in the order of layers."""
    return tuple(f"{prefix}.{layer}.{kind}" for layer in range(layers) for kind in KINDS)


@torch.no_grad()
def shapes_of(model: PreTrainedModel) -> tuple[CacheShape, ...]:
    """Shapes of a model's cache; none where it generates no text, or keeps something else than keys and values."""
    if not model.can_generate() or "past_key_values" not in inspect.signature(model.forward).parameters:
        return ()
    ids = torch.zeros((1, 2), dtype=torch.long)
    cache = getattr(model(input_ids=ids, use_cache=True, return_dict=True), "past_key_values", None)
    layers = cache.layers if isinstance(cache, Cache) else ()
    if not all(type(layer) in _KNOWN and layer.is_initialized for layer in layers):
        return ()
    return tuple(CacheShape(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]) for layer in layers)


def empty(shapes: Sequence[CacheShape], size: int) -> list[Tensor]:
    """Keys and values of a cache of length 0 for `size` rows."""
    widths = [(shape.heads, width) for shape in shapes for width in (shape.key_width, shape.value_width)]
    return [torch.zeros(size, heads, 0, width) for heads, width in widths]


def made_of(past: Sequence[Tensor]) -> DynamicCache:
    """A cache that holds these keys and values; layers that look back only so far keep all, and mask the rest."""
    cache = DynamicCache()
    cache.layers = [_Layer(*past[at : at + 2]) for at in range(0, len(past), 2)]
    return cache


def tensors_of(cache: DynamicCache) -> list[Tensor]:
    """The keys and values of a cache."""
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


class _Layer(DynamicLayer):
    """A layer that has its keys and values from the start, and counts them without looking whether there are any."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def get_seq_length(self) -> int:
        assert self.keys is not None
        return self.keys.shape[-2]
