"""Facts of one of a base model's tables, and how files store them. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from orientc.modeling.table_names import INPUT
from orientc.storage.safetensors_file import as_strings, positive


@dataclass(frozen=True)
class TableInfo:
    """Facts of a table and its model.

    Attributes:
        id: The model argument it was read by.
        revision: The hub's commit; None for a local model.
        sha256: Hash of the values as little-endian float32, row-major, so that a cast or a GGUF copy of the same
            table can be told from another table.
        vocab: Rows.
        dim: Width.
        dtype: Type of its numbers in the checkpoint.
        nbytes: Bytes in the checkpoint.
        padding_idx: The model's padding token, if it has one.
        embed_scale: What the model multiplies looked-up rows by.
        tied: Whether the output projection shares the table that tokens are looked up in, and this is that one.
        model_parameters: Parameters of the model, shared ones counted once; those of a compressed table, or of weights
            in codes, as if they were dense.
        model_bytes: Bytes of the checkpoint's tensors, shared ones counted once.
        table: Which of the model's tables it is: "input", which tokens are looked up in; "head", the output
            projection's own; or the name of another embedding.
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
    table: str = INPUT


def table_metadata(info: TableInfo) -> dict[str, str]:
    """The metadata of a file that was made from a table."""
    values = {
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
    named = {} if info.table == INPUT else {"table": info.table}  # files of before have no such entry
    return as_strings(values | named)


def table_from_metadata(metadata: Mapping[str, str]) -> TableInfo:
    """Read the facts back from metadata. Raises `KeyError` for a missing entry, `ValueError` for one out of range."""
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
        table=metadata.get("table", INPUT),
    )
