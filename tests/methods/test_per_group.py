from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orientc.methods import per_group
from orientc.modeling.factors import Factors


def table(rows: int = 300, dim: int = 20) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(0))


def importance(dim: int = 20) -> Tensor:
    """Some directions matter a hundred times as much as others, none of them a column."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    return directions * torch.logspace(0, 2, dim, dtype=torch.float64) @ directions.T


def rounded(given: Tensor, bits: int, own: Tensor, group_size: int = 8) -> Tensor:
    return per_group.quantize_per_group(
        Factors.plain(given), [[bits] * -(-given.shape[1] // group_size)], group_size=group_size, importance=own
    ).dense()


def cost(found: Tensor, given: Tensor, own: Tensor) -> float:
    errors = (found - given).double()
    return float(((errors @ own) * errors).sum())


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_errors_fed_back_cost_less_in_the_metric_than_plain_rounding(bits: int) -> None:
    given, own = table(), importance()
    plain = rounded(given, bits, torch.eye(20).double())
    fed_back = rounded(given, bits, own)
    assert cost(fed_back, given, own) < 0.8 * cost(plain, given, own)
    assert cost(fed_back, given, torch.eye(20).double()) > cost(plain, given, torch.eye(20).double())


def test_where_all_directions_are_alike_nothing_is_fed_back() -> None:
    given = table()
    plain = rounded(given, 3, torch.eye(20).double())
    assert torch.equal(rounded(given, 3, 1e-7 * torch.eye(20).double()), plain)
    assert torch.equal(rounded(given, 3, 1e7 * torch.eye(20)), plain)
    assert per_group.error_feedback(torch.zeros(4, 4)) is None


@pytest.mark.parametrize("dim", [2, 20])
def test_the_feedback_is_the_upper_factor_of_the_inverse_of_the_damped_matrix(dim: int) -> None:
    own = importance(dim)
    damped = own + 0.01 * own.diagonal().mean() * torch.eye(dim).double()
    expected = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    found = per_group.error_feedback(own)
    assert found is not None
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-7)


def test_rows_of_a_table_are_rounded_as_latents_are_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given = table().bfloat16()
    expected = per_group.quantize_per_group(
        Factors.plain(given.float()), [[4, 2, 0]], group_size=8, importance=torch.eye(20)
    )
    monkeypatch.setattr(per_group, "_NUMBERS", 7 * 20)
    found = per_group.quantize_table(given, [[4, 2, 0]], group_size=8, importance=None)
    assert found.layout == expected.layout
    assert all(torch.equal(tensor, expected.tensors[name]) for name, tensor in found.tensors.items())


def test_each_number_is_rounded_to_the_nearest_of_its_group() -> None:
    factors = per_group.quantize_per_group(Factors.plain(table()), [[4, 4, 4]], group_size=8, importance=torch.eye(20))
    scales, offsets = (factors.tensors[f"latents.0.{part}"].float() for part in ("scales", "offsets"))
    levels = offsets[:, :, None] + scales[:, :, None] * torch.arange(16)
    group = torch.arange(20) // 8
    nearest = (levels[:, group] - table()[:, :, None]).abs().amin(-1)
    torch.testing.assert_close((factors.dense() - table()).abs(), nearest)


def test_more_bits_are_nearer() -> None:
    errors = [float((rounded(table(), bits, torch.eye(20)) - table()).square().mean()) for bits in range(1, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[7] < 1e-4


def test_groups_without_bits_are_zeros_whose_errors_are_fed_back() -> None:
    given, own = table(), importance()
    bits = [[4, 0, 4]]
    plain = per_group.quantize_per_group(Factors.plain(given), bits, group_size=8, importance=torch.eye(20))
    fed_back = per_group.quantize_per_group(Factors.plain(given), bits, group_size=8, importance=own)
    for factors in (plain, fed_back):
        assert factors.dense()[:, 8:16].abs().max() == 0
        assert factors.tensors["latents.0.scales"].shape == (300, 2)
    assert cost(fed_back.dense(), given, own) < 0.95 * cost(plain.dense(), given, own)


def test_rows_of_each_tier_have_its_bits() -> None:
    third = torch.arange(300) % 3 == 0
    row_groups = [(~third).nonzero().squeeze(1), third.nonzero().squeeze(1)]
    factors = per_group.quantize_per_group(
        Factors.plain(table()), [[2] * 3, [8] * 3], group_size=8, importance=torch.eye(20), row_groups=row_groups
    )
    assert factors.layout.row_group_sizes == (200, 100)
    errors = (factors.dense() - table()).abs().amax(1)
    assert errors[third].max() < 0.02 < errors[~third].min()


@pytest.mark.parametrize(
    "given", [torch.zeros(5, 7), torch.full((5, 7), -3.25), torch.eye(5, 7), torch.full((1, 1), 2.0)]
)
@pytest.mark.parametrize("bits", [8, 2, 1])
def test_numbers_that_are_all_the_same_come_back_as_they_are(given: Tensor, bits: int) -> None:
    torch.testing.assert_close(
        rounded(given, bits, torch.eye(given.shape[1]), group_size=64), given, atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("given", [torch.full((3, 4), 1e6), torch.full((3, 4), -1e6), torch.eye(3, 4) * 1e30])
def test_numbers_beyond_float16_leave_a_scale_that_is_not_finite(given: Tensor) -> None:
    scale, offset = per_group.scale_and_offset(given.T, 4)
    assert not (scale.isfinite() & offset.isfinite()).all()
