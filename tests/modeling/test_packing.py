from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from orientc.modeling.layout import packed_bytes
from orientc.modeling.packing import code_positions, pack, unpack


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 13, 64, 65])
def test_packed_codes_are_the_bits_one_behind_the_other(bits: int, count: int) -> None:
    codes = torch.randint(1 << bits, (3, 2, count), generator=torch.Generator().manual_seed(bits))
    codes[0, 0] = (1 << bits) - 1
    packed = pack(codes, bits)
    assert (packed.dtype, packed.shape) == (torch.uint8, (3, 2, packed_bytes(count, bits)))
    flags = (codes.numpy()[..., None] >> np.arange(bits) & 1).reshape(3, 2, -1)
    assert np.array_equal(packed.numpy(), np.packbits(flags, axis=-1, bitorder="little"))


def test_no_codes_take_no_bytes() -> None:
    assert pack(torch.zeros(0, 5), 3).shape == (0, 2)


@pytest.mark.parametrize("widths", [[8], [8, 8], [1], [3, 8, 0, 5], [0, 7, 7], [2, 6, 4, 1, 0]])
def test_packed_columns_come_back(widths: list[int]) -> None:
    """Groups of 5 columns, each group on a byte; groups of 0 bits have no codes."""
    generator = torch.Generator().manual_seed(0)
    packed: list[Tensor] = []
    codes: list[Tensor] = []
    offsets, bits, bytes_before = [], [], 0
    for width in widths:
        group = torch.randint(1 << width, (9, 5), generator=generator)
        codes.append(group.to(torch.uint8))
        packed.append(pack(group, width) if width else torch.zeros(9, 0, dtype=torch.uint8))
        offsets += [8 * bytes_before + column * width for column in range(5)]
        bits += [width] * 5
        bytes_before += packed_bytes(5, width)
    rows = torch.cat(packed, dim=1)
    positions = code_positions(offsets, bits, torch.device("cpu"))
    assert positions.bytes_alone == ({*widths} == {8})
    assert torch.equal(unpack(rows, positions), torch.cat(codes, dim=1).T)
