"""The weight files of a checkpoint: their names, and the index of a sharded one."""

from __future__ import annotations

import json
from pathlib import Path

from orientc.errors import ModelError
from orientc.utils.files import stays_inside
from orientc.utils.messages import first_line

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def read_index(path: Path) -> tuple[dict[str, str], int]:
    """Read the index of a sharded checkpoint.

    Returns:
        The shard of each tensor by name, and the bytes of all tensors (0 where the index does not say).

    Raises:
        ModelError: The file is not such an index, or names a shard outside its folder.
    """
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        shards = {str(key): str(shard) for key, shard in described["weight_map"].items()}
        total = int((described.get("metadata") or {}).get("total_size", 0))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not an index of a checkpoint's shards: {first_line(error)}") from error
    if outside := sorted({shard for shard in shards.values() if not stays_inside(shard)}):
        raise ModelError(f"{path} names {outside[0]}, which is not a file beside it")
    return shards, total


def shards_of(path: Path) -> list[str]:
    """The files that an index names; none for a checkpoint in one file. Raises as `read_index` does."""
    return sorted({*read_index(path)[0].values()}) if path.suffix == ".json" else []
