"""Small compressed tables of random numbers in every form that an artifact can have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from orientc.modeling.factors import Factors
from orientc.modeling.layout import CODED, CODES, FLOAT, HALF, PER_GROUP, PLAIN, TRELLIS, WHOLE, Layout
from orientc.storage.artifact import Artifact
from orientc.storage.description import Description
from orientc.storage.table_info import TableInfo
from support.pairwise import pairwise

VOCAB, DIM, RANK, KEPT = 29, 10, 7, 4
# How latents of width 10, and those of width 7, are coded: the last group is shorter, groups have no bits.
CODINGS: dict[str, dict[str, Any]] = {
    "plain": {"codec": PLAIN},
    "one row group": {"codec": PER_GROUP, "group_size": 3, "bits": ((4, 3, 0, 2),)},
    "row groups": {"codec": PER_GROUP, "group_size": 4, "bits": ((8, 5, 1), (0, 7, 0), (2, 0, 6))},
    "trellis": {
        "codec": TRELLIS,
        "group_size": 1,
        "window": 8,
        "bits": ((0, 1, 0, 0, 8, 5, 2, 0, 3, 1), (2, 0, 0, 0, 0, 0, 0, 0, 0, 0), (7, 2, 1, 0, 3, 0, 0, 1, 2, 8)),
    },  # its decoder is in 8 bits
}
SHAPES: dict[str, dict[str, Any]] = {
    "bare": {"decoder": False},
    "linear": {},
    "bias": {"bias": True},
    "elu": {"bias": True, "activation": "elu"},
}


def layout(coding: str, shape: str, *, kept: int = 0, vocab: int = VOCAB, dim: int = DIM) -> Layout:
    """A layout by the names of its parts."""
    entries = {"decoder": True} | SHAPES[shape] | CODINGS[coding]
    rank = RANK if entries["decoder"] else dim
    if entries["codec"] in CODED:
        groups = -(-rank // entries["group_size"])
        entries["bits"] = tuple(row_group[-groups:] for row_group in entries["bits"])
    if entries["codec"] != PLAIN:
        rows, row_groups = vocab - kept, len(entries["bits"])
        entries["row_group_sizes"] = (
            rows - (row_groups - 1) * (rows // 4),
            *(rows // 4 for _ in range(row_groups - 1)),
        )
    if entries["codec"] == TRELLIS:
        entries["rounded"] = entries["decoder"]
    found = Layout(vocab, dim, rank, kept=kept, **entries)
    found.check()
    return found


def filled(shape: Layout, seed: int = 0) -> Factors:
    """Random numbers in a layout; every byte is a code."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, (kind, size) in shape.shapes.items():
        if name == "latents.row_groups":
            row_groups = torch.arange(len(shape.row_group_sizes)).repeat_interleave(torch.tensor(shape.row_group_sizes))
            tensors[name] = row_groups[torch.randperm(shape.rows, generator=generator)].to(torch.uint8)
        elif kind == WHOLE:
            tensors[name] = torch.randint(-127, 128, size, generator=generator, dtype=torch.int8)
        elif kind == CODES:
            tensors[name] = torch.randint(256, size, generator=generator, dtype=torch.uint8)
        elif kind in (FLOAT, HALF):
            size_of_scales = 0.1 if shape.codec != TRELLIS else 0.005  # levels are larger than codes
            numbers = torch.randn(size, generator=generator) * (size_of_scales if name.endswith("scales") else 0.5)
            tensors[name] = numbers.half() if kind == HALF else numbers
        else:
            tensors[name] = torch.randperm(shape.vocab, generator=generator)[: shape.kept].sort().values.int()
    return Factors(shape, tensors)


def made(coding: str, shape: str, **options: Any) -> Factors:
    """Random numbers in a layout by the names of its parts, floats of one type, as a model's modules hold them."""
    return filled(layout(coding, shape, **options)).map(lambda tensor: wide(tensor))


def wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def stored(factors: Factors) -> Artifact:
    """An artifact of factors that no method has made."""
    layout = factors.layout
    floats = [str(tensor.dtype) for name, tensor in factors.tensors.items() if layout.shapes[name][0] == FLOAT]
    base = TableInfo(
        id="some/model", revision=None, sha256="0" * 64, vocab=layout.vocab, dim=layout.dim, dtype="float32",
        nbytes=layout.vocab * layout.dim * 4, padding_idx=None, embed_scale=1.0, tied=True, model_parameters=1000,
        model_bytes=4000,
    )  # fmt: skip
    dtype = floats[0].removeprefix("torch.") if floats else "float16"
    return Artifact(Description(base, "made", layout, {}, None, {"cosine": 0.1, "rmse": 0.2}, dtype), factors)


CASES = [(coding, shape, {"kept": kept}) for coding, shape, kept in pairwise(CODINGS, SHAPES, (0, KEPT))]
