"""Codes as bytes; `coding` says how they lie, and is the way back."""

from __future__ import annotations

import torch
from torch import Tensor

from orientc.modeling.layout import packed_bytes


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes `[..., count]`, whole numbers below `2**bits`, as bytes `[..., packed_bytes(count, bits)]` (uint8)."""
    count, words = codes.shape[-1], torch.int64 if bits > 3 else torch.int32
    eights = torch.nn.functional.pad(codes, (0, -count % 8)).unflatten(-1, (-1, 8)).to(words)
    shifts = torch.arange(8, device=codes.device, dtype=words)
    whole = (eights << shifts * bits).sum(-1, keepdim=True, dtype=words)
    packed = (whole >> shifts[:bits] * 8) & 255  # of the eight codes' bytes; those of 8 bits are their own
    stream: Tensor = (packed if bits < 8 else eights).flatten(-2)[..., : packed_bytes(count, bits)].to(torch.uint8)
    return stream
