"""Whole numbers into the bytes of ggml's blocks: the inverse of `modeling/ggml_blocks.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from orientc.modeling.ggml_types import NONLINEAR, BlockType


def packed_codes(kind: BlockType, levels: Tensor, scales: Tensor | None, minimums: Tensor | None) -> Tensor:
    """The codes' bytes of rows of blocks.

    Args:
        kind: The block type.
        levels: Levels of the numbers, whole floats `[n, width]`.
        scales: Whole-number scales of sub-blocks, `[n, sub-blocks]`; None where there are none.
        minimums: Whole-number scales of their minimums, likewise.

    Returns:
        Uint8 `[n, blocks · code bytes]`.
    """
    if kind.zero is None:
        codes = torch.searchsorted(
            torch.tensor(NONLINEAR, device=levels.device, dtype=levels.dtype), levels.contiguous()
        )
    else:
        codes = levels.int() + kind.zero & 255
    low_bits = next(field.bits for field in kind.fields if field.name == "low")
    numbers = {"low": codes & (1 << low_bits) - 1, "high": codes >> low_bits}
    if scales is not None:
        numbers |= _packed_scales(kind, scales.int(), None if minimums is None else minimums.int())
    parts = []
    for field in kind.fields:
        count = 8 // field.bits
        strips = numbers[field.name].unflatten(1, (-1, field.nbytes // field.strip, count, field.strip))
        shifts = torch.arange(0, 8, field.bits, device=levels.device).unsqueeze(1)
        parts.append((strips << shifts).sum(-2).flatten(-2).to(torch.uint8))
    return torch.cat(parts, dim=-1).flatten(1)


def _packed_scales(kind: BlockType, scales: Tensor, minimums: Tensor | None) -> dict[str, Tensor]:
    """The fields of the sub-blocks' scales, as whole numbers `[n, blocks · codes of the field]`."""
    if any(field.name == "scales_low" for field in kind.fields):
        above = scales + 32
        return {"scales_low": above & 15, "scales_high": above >> 4}
    if minimums is None:
        return {"scales": scales & 255}
    if kind.sub_blocks == 16:
        return {"scales": scales | minimums << 4}
    first, last = scales.unflatten(1, (-1, 2, 4)).unbind(2)
    first_least, last_least = minimums.unflatten(1, (-1, 2, 4)).unbind(2)
    parts = [first | last >> 4 << 6, first_least | last_least >> 4 << 6, last & 15 | (last_least & 15) << 4]
    return {"scales": torch.cat(parts, dim=-1).flatten(1)}


def as_blocks(kind: BlockType, codes: Tensor, scales: Tensor) -> Tensor:
    """Rows of ggml's blocks as bytes.

    Args:
        kind: The block type.
        codes: Uint8 `[n, blocks · code bytes]`.
        scales: Float16 `[n, blocks · halves]`.

    Returns:
        Uint8 `[n, blocks · bytes]`.
    """
    halves = scales.contiguous().view(torch.uint8).unflatten(1, (-1, 2 * kind.halves))
    parts = [halves, codes.unflatten(1, (-1, kind.code_bytes))]
    return torch.cat(parts if kind.halves_first else parts[::-1], dim=-1).flatten(1)
