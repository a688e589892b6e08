"""What is known of a base model's table without having its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orientc.storage.safetensors_file import positive


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


def table_metadata(info: TableInfo) -> dict[str, str]:
    """A file's metadata that says which table it was made from; what is not known is ""."""
    values: dict[str, Any] = {
        "base_id": info.id,
        "base_revision": info.revision,
        "base_sha256": info.sha256,
        "base_dtype": info.dtype,
        "base_bytes": info.nbytes,
        "base_tied": "true" if info.tied else "false",
        "base_model_parameters": info.model_parameters,
        "base_model_bytes": info.model_bytes,
        "vocab": info.vocab,
        "dim": info.dim,
        "padding_idx": info.padding_idx,
        "embed_scale": repr(info.embed_scale),
    }
    return {key: "" if value is None else str(value) for key, value in values.items()}


def table_from_metadata(metadata: Mapping[str, str]) -> TableInfo:
    """The way back. Raises `KeyError` for an entry that is missing, `ValueError` for one that makes no sense."""
    embed_scale = float(metadata["embed_scale"])
    if not math.isfinite(embed_scale):
        raise ValueError("its metadata holds numbers that are not finite")
    return TableInfo(
        id=metadata["base_id"],
        revision=metadata["base_revision"] or None,
        sha256=metadata["base_sha256"],
        vocab=positive(metadata, "vocab"),
        dim=positive(metadata, "dim"),
        dtype=metadata["base_dtype"],
        nbytes=positive(metadata, "base_bytes"),
        padding_idx=int(metadata["padding_idx"]) if metadata["padding_idx"] else None,
        embed_scale=embed_scale,
        tied=metadata["base_tied"] == "true",
        model_parameters=positive(metadata, "base_model_parameters"),
        model_bytes=positive(metadata, "base_model_bytes"),
    )
