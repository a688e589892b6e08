"""What is known of a base model's table without having its numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableInfo:
    """Where a token-embedding table came from, and what it is like there.

    `id` is the model argument it was read by; `revision` the hub's commit, None for a local model. `sha256`
    is taken over the values as little-endian float32, row-major, so a cast or another container of the same
    model can be told from another model. `dtype` and `nbytes` are the table's as the checkpoint stores it;
    `embed_scale` is what the model multiplies each looked-up row by. `model_parameters` counts shared
    parameters once; `model_bytes` is what the checkpoint's tensors weigh, shared ones once.
    """

    id: str
    revision: str | None
    sha256: str
    vocab: int
    dim: int
    dtype: str
    nbytes: int
    padding_idx: int | None
    embed_scale: float
    tied: bool
    model_parameters: int
    model_bytes: int
