"""How long a model's input may be, in tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import PreTrainedModel

UNLIMITED = 2**31 - 1  # tokens


def usable_positions(model: PreTrainedModel) -> int | None:
    """The longest input of a model in tokens, by its positions; None where it has no limit.

    RoBERTa-like models number positions from `padding_idx + 1` on, so that not all rows of their position table count.
    """
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            reserved = 0 if module.padding_idx is None else module.padding_idx + 1
            limit = module.num_embeddings - reserved
    return int(limit) if limit and limit > 0 else None


def is_limit(value: Any) -> bool:
    """Whether a tokenizer's limit in tokens is a number of them, and not text, negative or NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < math.inf
