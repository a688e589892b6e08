from __future__ import annotations

import itertools

import pytest
import torch

from orientc.methods import trellis_search
from orientc.methods.bit_rates import gaussian_levels
from orientc.methods.trellis_search import nearest_streams

BITS = (2, 0, 1, 3, 0, 2)


def test_no_stream_is_nearer_than_the_one_found() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(-100, 100, (2, 64), generator=generator, dtype=torch.int8)
    values, weights = 60 * torch.randn(5, 6, generator=generator), torch.rand(6, generator=generator)
    every = []
    for flags in itertools.product((0, 1), repeat=8):
        at, own = 0, []
        for width in BITS:
            at += width
            window = int("".join(map(str, (*[0] * 6, *flags[:at])))[-6:], 2)
            own.append(levels[min(width, 1), window])
        every.append(torch.stack(own))
    errors = ((torch.stack(every).unsqueeze(1) - values).square() * weights).sum(2)
    streams, found = nearest_streams(values, BITS, weights, levels)
    least = ((found - values).square() * weights).sum(1)
    torch.testing.assert_close(least, errors.amin(0))
    assert torch.equal(torch.stack(every)[streams.squeeze(1).long()], found)  # eight bits: the number of the stream


@pytest.mark.parametrize("rows", [0, 1, 37])
def test_torch_finds_the_same_as_the_compiled_search(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values, weights = 40 * torch.randn(rows, 11, generator=generator), torch.rand(11, generator=generator)
    bits = [0, 1, 0, 2, 3, 8, 4, 1, 0, 2, 5]
    streams, found = nearest_streams(values, bits, weights, gaussian_levels(8))
    assert streams.shape == (rows, 4)
    if rows:
        expected = trellis_search._searched(values, bits, weights, gaussian_levels(8))
        assert torch.equal(streams, expected[0])
        assert torch.equal(found, expected[1])
