from __future__ import annotations

import itertools
import random

import pytest

from orientc.methods.bit_allocation import Cell, allocate


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
