from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orientc.methods import per_channel
from orientc.methods.row_groups import row_groups_of
from orientc.modeling.factors import Factors
from orientc.modeling.layout import MOST_BITS, PER_CHANNEL

# Mean squared error of the best evenly spaced levels for a Gaussian of unit variance, by bits: Max 1960, table II.
GAUSSIAN = {1: 0.3634, 2: 0.1188, 3: 0.03744, 4: 0.01154, 5: 0.003495}


def drawn(rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def test_a_gaussian_column_costs_what_the_best_even_levels_cost() -> None:
    rows = torch.arange(2000)
    latents = drawn(2000, 40) * 3 + 5
    scales = per_channel.channel_scales(latents, rows, torch.ones(2000))
    variances = (latents - latents.mean(0)).square().mean(0)
    for bits, expected in GAUSSIAN.items():
        found = (scales.costs[bits] / 2000 / variances).mean()
        assert float(found) == pytest.approx(expected, rel=0.06)
    assert float(scales.costs[0].sum()) == pytest.approx(float(latents.square().sum()), rel=1e-5)
    assert (scales.costs.diff(dim=0) < 0).all()


def test_costs_are_the_weighted_squared_errors_of_what_is_made() -> None:
    """Also where most of a row group's rows were not in the sample."""
    latents, weights = drawn(9000, 16) * torch.logspace(0, -2, 16), 1000 / torch.arange(1, 9001).double()
    row_groups = row_groups_of(weights)
    scales = [per_channel.channel_scales(latents, rows, weights) for rows in row_groups]
    bits = [[4, 2], [3, 0]] * 3
    assert [len(rows) for rows in row_groups] == [281, 281, 563, 1125, 2250, 4500]
    made = per_channel.quantize_per_channel(Factors.plain(latents), bits, scales, group_size=8, row_groups=row_groups)
    assert made.layout.codec == PER_CHANNEL
    made.layout.check()
    errors = weights.unsqueeze(1) * (made.dense() - latents).square()
    for rows, own, widths in zip(row_groups, scales, bits, strict=True):
        for group, width in enumerate(widths):
            part = slice(8 * group, 8 * group + 8)
            expected = float(own.costs[width, part].sum())
            assert float(errors[rows, part].sum()) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("bits", range(1, MOST_BITS + 1))
def test_a_number_within_the_levels_goes_to_the_nearest(bits: int) -> None:
    latents, rows = drawn(300, 8), torch.arange(300)
    scales = per_channel.channel_scales(latents, rows, torch.ones(300))
    made = per_channel.quantize_per_channel(Factors.plain(latents), [[bits]], [scales], group_size=8, row_groups=[rows])
    steps, offsets = scales.scales[bits - 1].float(), scales.offsets[bits - 1].float()
    levels = offsets + steps * torch.arange(2**bits).unsqueeze(1)
    nearest = (latents.unsqueeze(0) - levels.unsqueeze(1)).abs().amin(0)
    torch.testing.assert_close((made.dense() - latents).abs(), nearest, atol=1e-5, rtol=1e-4)


def test_outliers_widen_a_range_as_far_as_that_pays() -> None:
    latents, rows = drawn(2000, 1), torch.arange(2000)
    plain = per_channel.channel_scales(latents, rows, torch.ones(2000))
    latents[::100] *= 20
    tailed = per_channel.channel_scales(latents, rows, torch.ones(2000))
    for bits in (2, 8):
        assert tailed.scales[bits - 1] > plain.scales[bits - 1]
    assert tailed.scales[7] * 255 > 0.5 * latents.abs().max()
    assert tailed.costs[8] < 3e-3 * tailed.costs[0]


@pytest.mark.parametrize("column", [torch.zeros(50), torch.full((50,), 3.0), torch.full((50,), 1e-7)])
def test_columns_that_do_not_vary_are_as_near_as_float16_allows(column: Tensor) -> None:
    latents, rows = column.unsqueeze(1), torch.arange(50)
    scales = per_channel.channel_scales(latents, rows, torch.ones(50))
    assert scales.costs.isfinite().all()
    made = per_channel.quantize_per_channel(Factors.plain(latents), [[2]], [scales], group_size=1, row_groups=[rows])
    assert (made.dense() - latents).abs().max() <= 2e-3 * column.abs().max() + 1e-4
