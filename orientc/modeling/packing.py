"""Pack integers of 1 to 8 bits into bytes, lowest bit first, and unpack the columns of a row again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from orientc.modeling.layout import packed_bytes


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes of `bits` bits each into bytes, the lowest bit of the first code in the lowest bit of the first byte.

    Args:
        codes: `[..., count]`, whole numbers from 0 to `2**bits - 1`.
        bits: Bits of a code, 1 to 8.

    Returns:
        Bytes `[..., packed_bytes(count, bits)]`, uint8; bits behind the last code are 0.
    """
    count, words = codes.shape[-1], torch.int64 if bits > 3 else torch.int32
    eights = torch.nn.functional.pad(codes, (0, -count % 8)).unflatten(-1, (-1, 8)).to(words)
    shifts = torch.arange(8, device=codes.device, dtype=words)
    whole = (eights << shifts * bits).sum(-1, keepdim=True, dtype=words)
    packed = (whole >> shifts[:bits] * 8) & 255  # eight codes of b bits are b bytes; a code of 8 bits is its own byte
    stream: Tensor = (packed if bits < 8 else eights).flatten(-2)[..., : packed_bytes(count, bits)].to(torch.uint8)
    return stream


class CodePositions(NamedTuple):
    """Where the code of each column lies in the bytes of a row, as `unpack` uses it.

    A code is `(byte[low] >> right | byte[high] << left) & mask`.

    Attributes:
        low: The byte a code begins in, int64 `[columns]`.
        high: The byte behind it, int64 `[columns]`; None where no code reaches into a second byte.
        right: Bits of `low` in front of the code, uint8 `[columns, 1]`.
        left: Bits of the code that lie in `low`, uint8 `[columns, 1]`; 8, which leaves nothing of `high`, where a code
            lies in one byte.
        mask: The code's bits, uint8 `[columns, 1]`; 0 for a column without bits, whose code is 0.
        bytes_alone: Whether the codes are the bytes themselves, in order.
    """

    low: Tensor
    high: Tensor | None
    right: Tensor
    left: Tensor
    mask: Tensor
    bytes_alone: bool


def code_positions(offsets: Sequence[int], bits: Sequence[int], device: torch.device) -> CodePositions:
    """Prepare to unpack rows of codes.

    Args:
        offsets: For each column the bit of a row that its code begins at.
        bits: For each column the bits of its code, 0 to 8.
        device: Where the bytes are.
    """
    low = [offset // 8 if own else 0 for offset, own in zip(offsets, bits, strict=True)]
    right = [offset % 8 if own else 0 for offset, own in zip(offsets, bits, strict=True)]
    left = [8 - before if before + own > 8 else 8 for before, own in zip(right, bits, strict=True)]
    high = [byte + (reach < 8) for byte, reach in zip(low, left, strict=True)]
    mask = [(1 << own) - 1 for own in bits]

    def column(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.uint8, device=device).unsqueeze(1)

    return CodePositions(
        low=torch.tensor(low, device=device),
        high=torch.tensor(high, device=device) if min(left) < 8 else None,
        right=column(right),
        left=column(left),
        mask=column(mask),
        bytes_alone=min(mask) == 255 and low == list(range(len(low))),
    )


def unpack(packed: Tensor, positions: CodePositions) -> Tensor:
    """Unpack rows of bytes `[n, bytes]` into codes `[columns, n]`, both uint8.

    Columns come first, so that each step passes over all rows at once.
    """
    if positions.bytes_alone:
        return packed.T
    stacked = packed.new_empty(packed.shape[1], packed.shape[0])
    stacked.T.copy_(packed)  # a third of the time of `packed.T.contiguous()`
    codes = stacked.index_select(0, positions.low) >> positions.right
    if positions.high is not None:
        codes = codes | (stacked.index_select(0, positions.high) << positions.left)
    return codes & positions.mask
