"""Numbers out of ggml's blocks.

A table in blocks is held as two tensors, the codes and the float16 scales of each block: together they are ggml's
blocks byte for byte, and apart the scales are floats like any other, which a model moves, casts and trains.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orientc.modeling.ggml_types import BLOCK_TYPES, NONLINEAR, BlockType


def decode_blocks(block: str, codes: Tensor, scales: Tensor) -> Tensor:
    """The numbers of rows of blocks, computed in float32 as ggml does.

    Args:
        block: Name of the block type.
        codes: Uint8 `[n, blocks · code bytes]`.
        scales: Floats `[n, blocks · halves]`.

    Returns:
        `[n, width]`, of the scales' type.
    """
    kind = BLOCK_TYPES[block]
    fields = unpacked_fields(kind, codes)
    step, least = _steps(kind, fields, scales.float().unflatten(1, (-1, kind.halves)))
    numbers = _levels(kind, fields).unflatten(-1, (kind.sub_blocks, kind.sub_block)) * step
    if least is not None:
        numbers = numbers + least
    rows: Tensor = numbers.flatten(1).to(scales.dtype)
    return rows


def unpacked_fields(kind: BlockType, codes: Tensor) -> dict[str, Tensor]:
    """The fields of each block, unpacked: uint8 `[n, blocks, codes of the field]`, by name."""
    parts = codes.unflatten(1, (-1, kind.code_bytes)).split([field.nbytes for field in kind.fields], dim=-1)
    found = {}
    for field, part in zip(kind.fields, parts, strict=True):
        if field.bits == 8:
            found[field.name] = part
            continue
        shifts = torch.arange(0, 8, field.bits, dtype=torch.uint8, device=codes.device).unsqueeze(1)
        strips = part.unflatten(-1, (-1, 1, field.strip)) >> shifts
        found[field.name] = (strips & (1 << field.bits) - 1).flatten(-3)
    return found


def _levels(kind: BlockType, fields: dict[str, Tensor]) -> Tensor:
    """The levels of each block's numbers, float32 `[n, blocks, width]`."""
    codes, high = fields["low"], fields.get("high")
    if high is not None:
        low_bits = next(field.bits for field in kind.fields if field.name == "low")
        codes = codes | high << low_bits
    if kind.zero is None:
        levels = torch.tensor(NONLINEAR, dtype=torch.float32, device=codes.device)
        return levels.index_select(0, codes.flatten().int()).view(codes.shape)
    if kind.bits == 8:
        return _signed(codes)
    return codes.float() - kind.zero if kind.zero else codes.float()


def _steps(kind: BlockType, fields: dict[str, Tensor], halves: Tensor) -> tuple[Tensor, Tensor | None]:
    """What levels are multiplied by, and what is added then, float32 `[n, blocks, sub-blocks, 1]` each.

    Args:
        kind: The block type.
        fields: Its unpacked fields.
        halves: `[n, blocks, halves]`.
    """
    first, second = halves[..., :1], halves[..., 1:]
    if kind.sub_blocks == 1:
        return first.unsqueeze(-1), second.unsqueeze(-1) if kind.halves == 2 else None
    own, minimums = sub_scales(kind, fields)
    step = (first * own).unsqueeze(-1)
    return step, None if minimums is None else -(second * minimums).unsqueeze(-1)


def sub_scales(kind: BlockType, fields: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """The whole-number scales of sub-blocks, and of their minimums where there are any, float32 `[n, blocks, count]`.

    Args:
        kind: A block type with sub-blocks.
        fields: Its unpacked fields.
    """
    if "scales_low" in fields:
        return (fields["scales_low"] | fields["scales_high"] << 4).float() - 32, None
    packed = fields["scales"]
    if kind.halves == 1:
        return _signed(packed), None
    if kind.sub_blocks == 16:
        return (packed & 15).float(), (packed >> 4).float()
    first, second, rest = packed.split(4, dim=-1)
    scales = torch.cat([first & 63, rest & 15 | first >> 2 & 48], dim=-1)
    minimums = torch.cat([second & 63, rest >> 4 | second >> 2 & 48], dim=-1)
    return scales.float(), minimums.float()


def _signed(codes: Tensor) -> Tensor:
    """Bytes as signed whole numbers, float32."""
    numbers = codes.float()
    return torch.where(numbers > 127, numbers - 256, numbers)
