from __future__ import annotations

import math

import pytest
import torch

from orientc.methods.bit_rates import STEP, gaussian_errors, rates_within, widths


@pytest.mark.parametrize(("window", "most"), [(8, 0.25), (10, 0.18), (12, 0.15)])
@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0, 3.0])
def test_errors_are_near_the_rate_distortion_bound(window: int, most: float, rate: float) -> None:
    error = float(gaussian_errors(window)[round(rate / STEP)])
    assert 0 < 0.5 * math.log2(error) + rate < most


def test_rates_of_any_fraction_become_whole_bits_that_keep_their_sum() -> None:
    assert widths(torch.full((8,), 0.5)) == [1, 0, 1, 0, 1, 0, 1, 0]
    rates = torch.rand(100, generator=torch.Generator().manual_seed(0)) * 4
    found = torch.tensor(widths(rates)).cumsum(0)
    assert (found - rates.cumsum(0)).abs().max() <= 0.51


def test_what_costs_four_times_as_much_has_a_bit_more() -> None:
    costs = torch.tensor([[4.0**place for place in range(8)]], dtype=torch.float64)
    rates = rates_within(costs, torch.tensor([1.0]), 20.0, 10).squeeze(0)
    assert float(rates.sum()) <= 20
    assert float(rates.sum()) > 19
    steps = rates.diff()[rates[:-1] > 0.5]
    assert len(steps) > 2
    assert (steps - 1).abs().max() < 0.3
