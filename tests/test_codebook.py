from __future__ import annotations

import pytest
import torch
from test_quantize import cost, metric
from torch import Tensor

from orientc.factors import Factors
from orientc.methods import codebook, quantize

IDENTITY = torch.eye(16).double()


def table(rows: int = 1500) -> Tensor:
    """Near enough to Gaussian, of rows that are not all of one length."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, 16, generator=generator) * (0.5 + torch.rand(rows, 1, generator=generator))


def coded(given: Tensor, bits: float, own: Tensor = IDENTITY, weights: Tensor | None = None) -> Tensor:
    weights = torch.ones(len(given)).double() if weights is None else weights
    return codebook.fit(Factors.plain(given), bits, metric=own, weights=weights).dense()


@pytest.mark.parametrize("bits", [2.0, 3.0])
def test_codebooks_beat_rounding_to_as_many_bits(bits: float) -> None:
    wide, identity = table(4800).reshape(1200, 64), torch.eye(64).double()
    rounded = quantize.fit(Factors.plain(wide), [[int(bits)]], group=64, metric=identity)
    coded = codebook.fit(Factors.plain(wide), bits, metric=identity, weights=torch.ones(1200).double())
    own = sum(coded.tensors[f"latents.{name}"].nbytes for name in ("codes", "scales"))
    assert own < rounded.nbytes  # in a larger table the codebook itself is next to nothing
    assert cost(coded.dense(), wide, identity) < 0.9 * cost(rounded.dense(), wide, identity)


def test_more_bits_are_nearer() -> None:
    costs = [cost(coded(table(), bits), table(), IDENTITY) for bits in (2.0, 2.5, 3.0, 3.5)]
    assert costs == sorted(costs, reverse=True)


def test_in_a_metric_the_cost_there_is_less() -> None:
    own = metric(16)
    assert cost(coded(table(), 2.0, own), table(), own) < 0.8 * cost(coded(table(), 2.0), table(), own)


def test_weightier_rows_are_nearer() -> None:
    weights = torch.ones(1500).double()
    weights[:100] = 1e4
    part = slice(0, 100)
    weighted, plain = coded(table(), 2.0, weights=weights), coded(table(), 2.0)
    assert cost(weighted[part], table()[part], IDENTITY) < 0.9 * cost(plain[part], table()[part], IDENTITY)


def test_the_same_again_gives_the_same() -> None:
    one = codebook.fit(Factors.plain(table()), 2.5, metric=metric(16), weights=torch.ones(1500).double())
    torch.rand(3)
    other = codebook.fit(Factors.plain(table()), 2.5, metric=metric(16), weights=torch.ones(1500).double())
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize("bits", [2.0, 3.5])
def test_few_rows_and_odd_widths_have_codebooks_too(rows: int, width: int, bits: float) -> None:
    given = torch.randn(rows, width, generator=torch.Generator().manual_seed(2))
    found = codebook.fit(Factors.plain(given), bits, metric=torch.eye(width), weights=torch.ones(rows).double())
    assert found.dense().shape == given.shape
    if rows < 10:
        torch.testing.assert_close(found.dense(), given, atol=0.01, rtol=0.01)


def test_rows_of_zeros_and_a_metric_that_misses_directions_are_no_trouble() -> None:
    given = table(50)
    given[::3] = 0
    for own in (torch.zeros(16, 16), torch.ones(16, 16), torch.diag(torch.arange(16.0))):
        found = coded(given, 2.0, own.double())
        assert found.isfinite().all()
        assert found[::3].abs().max() < 1e-3
