from __future__ import annotations

import itertools
import random

import pytest
import torch
from torch import Tensor

from orientc.factors import Factors
from orientc.methods import quantize, transform
from orientc.methods.columns import numbered
from orientc.methods.metric import Metric
from orientc.methods.transform import Cell, allocate


def convex(draw: random.Random, size: int, bits: int = 4) -> Cell:
    """A cell whose costs fall ever less with its bits."""
    steps = sorted((draw.random() for _ in range(bits)), reverse=True)
    costs = [sum(steps[own:]) for own in range(bits + 1)]
    return Cell([size * own for own in range(bits + 1)], costs)


def best(cells: list[Cell], budget: int) -> float:
    """The least cost of all ways to give bits."""
    ways = itertools.product(*(range(len(cell.sizes)) for cell in cells))
    sums = (
        (sum(cell.sizes[own] for cell, own in zip(cells, way, strict=True)),
         sum(cell.costs[own] for cell, own in zip(cells, way, strict=True)))
        for way in ways
    )  # fmt: skip
    return min(cost for size, cost in sums if size <= budget)


@pytest.mark.parametrize("seed", range(20))
def test_bits_are_given_at_the_least_cost_there_is(seed: int) -> None:
    """Of cells of one size in every budget; of others in the budget that is used up."""
    draw = random.Random(seed)
    alike = [convex(draw, 3) for _ in range(4)]
    for budget in range(0, 50, 7):
        bits = allocate(alike, budget)
        assert sum(cell.sizes[own] for cell, own in zip(alike, bits, strict=True)) <= budget
        found = sum(cell.costs[own] for cell, own in zip(alike, bits, strict=True))
        assert found == pytest.approx(best(alike, budget))
    several = [convex(draw, size) for size in (1, 2, 3, 5)]
    whole = sum(cell.sizes[-1] for cell in several)
    assert allocate(several, whole) == [4, 4, 4, 4]
    assert allocate(several, 10**9, [1, 1, 1, 1]) == [4, 4, 4, 4]


def test_a_step_that_pays_only_with_the_next_is_taken_with_it() -> None:
    cell = Cell([0, 1, 2, 3], [10.0, 10.0, 1.0, 0.9])
    assert allocate([cell], 1) == [0]
    assert allocate([cell], 2) == [2]
    assert allocate([cell, Cell([0, 1], [5.0, 5.0])], 9) == [3, 0]


def test_more_bits_in_the_same_bytes_are_free() -> None:
    cell = Cell([0, 5, 5, 5, 6], [4.0, 3.0, 2.0, 2.0, 1.0])
    assert allocate([cell], 5) == [2]
    assert allocate([cell], 6) == [4]
    assert allocate([Cell([0, 5, 5], [4.0, 3.0, 3.0])], 9, [1]) == [1]


def test_what_is_the_least_is_never_taken_back() -> None:
    assert allocate([Cell([0, 1, 2], [1.0, 0.5, 0.4]), Cell([0, 1, 2], [9.0, 1.0, 0.0])], 2, [1, 0]) == [1, 1]


def test_tiers_halve_from_the_lightest_rows_on() -> None:
    weights = torch.rand(2500, generator=torch.Generator().manual_seed(0))
    tiers = transform.tiers_of(weights)
    assert [len(tier) for tier in tiers] == [312, 313, 625, 1250]
    assert torch.cat(tiers).sort().values.tolist() == list(range(2500))
    assert all(tier.diff().min() > 0 for tier in tiers)
    assert all(weights[one].min() >= weights[other].max() for one, other in itertools.pairwise(tiers))
    assert [len(tier) for tier in transform.tiers_of(torch.ones(2500))] == [2500]
    assert numbered(tiers, 2500)[tiers[2]].unique().tolist() == [2]


def skewed() -> tuple[Tensor, Metric]:
    """A table that varies less in some directions, a metric that has others, rows more and less frequent."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(2000, 24, generator=generator) * torch.logspace(0, -1, 24)
    root = torch.randn(24, 24, generator=generator, dtype=torch.float64)
    return table, Metric(root @ root.T + 0.1 * torch.eye(24), 1000 / torch.arange(1, 2001).double())


@pytest.mark.parametrize("nbytes", [16_500, 20_500, 30_000])
def test_it_takes_no_more_than_its_bytes_and_costs_less_than_the_same_bits_for_all(nbytes: int) -> None:
    table, metric = skewed()
    factors = transform.fit(table, nbytes, metric, dtype=torch.float16, group=8)
    assert factors is not None
    factors = factors.to(torch.float16)
    assert factors.nbytes <= nbytes
    assert all(any(tier) for tier in factors.layout.bits)
    flat = [quantize.fit(Factors.plain(table), [[bits]], group=24, metric=metric.matrix) for bits in range(1, 9)]
    costs = [metric.cost(entry, table) for entry in flat if entry.nbytes <= factors.nbytes]
    assert costs
    assert metric.cost(factors, table) < 0.7 * min(costs)


def test_columns_without_bits_in_any_tier_are_not_stored() -> None:
    table, metric = skewed()
    factors = transform.fit(table, 16_000, metric, dtype=torch.float16, group=4)
    assert factors is not None
    assert factors.rank < 24
    assert any(tier[-1] for tier in factors.layout.bits)
    assert factors.weight is not None
    assert factors.weight.shape == (24, factors.rank)


def test_a_budget_below_one_bit_for_the_first_columns_has_no_such_form() -> None:
    table, metric = skewed()
    assert transform.fit(table, 4_000, metric, dtype=torch.float16) is None
