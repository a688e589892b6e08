from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orientc.methods import per_group, transform_coding
from orientc.methods.importance import Importance
from orientc.modeling.factors import Factors


def skewed() -> tuple[Tensor, Importance]:
    """A table that varies less in some directions, a importance that has others, rows more and less frequent."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(2000, 24, generator=generator) * torch.logspace(0, -1, 24)
    root = torch.randn(24, 24, generator=generator, dtype=torch.float64)
    return table, Importance(root @ root.T + 0.1 * torch.eye(24), 1000 / torch.arange(1, 2001).double())


@pytest.mark.parametrize("nbytes", [16_500, 20_500, 30_000])
def test_it_takes_no_more_than_its_bytes_and_costs_less_than_the_same_bits_for_all(nbytes: int) -> None:
    table, importance = skewed()
    factors = transform_coding.transform_code(table, nbytes, importance, dtype=torch.float16, group_size=8)
    assert factors is not None
    factors = factors.to(torch.float16)
    assert factors.nbytes <= nbytes
    assert all(any(row_group) for row_group in factors.layout.bits)
    flat = [
        per_group.quantize_per_group(Factors.plain(table), [[bits]], group_size=24, importance=importance.matrix)
        for bits in range(1, 9)
    ]
    costs = [importance.cost(entry, table) for entry in flat if entry.nbytes <= factors.nbytes]
    assert costs
    assert importance.cost(factors, table) < 0.7 * min(costs)


def test_columns_without_bits_in_any_tier_are_not_stored() -> None:
    table, importance = skewed()
    factors = transform_coding.transform_code(table, 16_000, importance, dtype=torch.float16, group_size=4)
    assert factors is not None
    assert factors.rank < 24
    assert any(row_group[-1] for row_group in factors.layout.bits)
    assert factors.weight is not None
    assert factors.weight.shape == (24, factors.rank)


def test_a_budget_below_one_bit_for_the_first_columns_has_no_such_form() -> None:
    table, importance = skewed()
    assert transform_coding.transform_code(table, 4_000, importance, dtype=torch.float16) is None
