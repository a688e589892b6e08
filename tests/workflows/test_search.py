"""The search for the smallest table inside, on losses that are made up."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from orientc.errors import FitError
from orientc.workflows.search import MARGIN, MEASUREMENTS, Tried, best, smallest, smallest_of

ALLOWED = 0.01


def searched(
    loss: Callable[[float], float], *, error: float = 0.0, predicted: float = 1.0, floor: float = 0.0, aim: bool = True
) -> tuple[Tried, ...]:
    """What a search tries where a table of so many bits loses `loss`, and is predicted to lose `predicted` of that."""

    def predict(bits: float) -> float:
        if bits < floor:
            raise FitError("no form is so small")
        return predicted * loss(bits)

    def measure(bits: float) -> tuple[float, float]:
        assert bits >= floor
        return loss(bits), error

    return smallest(predict, measure, ALLOWED, lowest=0.1, highest=8.0, aim=0.35 * ALLOWED if aim else None)


@pytest.mark.parametrize("predicted", [1.0, 0.2])
@pytest.mark.parametrize("scale", [0.03, 0.3, 3.0])
@pytest.mark.parametrize("steep", [0.8, 1.3, 2.0])
@pytest.mark.parametrize("aim", [True, False])
def test_it_comes_close_to_the_smallest_in_a_few_measurements(
    predicted: float, scale: float, steep: float, aim: bool
) -> None:
    tried = searched(lambda bits: scale * math.exp(-steep * bits), predicted=predicted, aim=aim)
    assert len(tried) <= MEASUREMENTS
    found = best(tried)
    assert found
    right = math.log(scale / ALLOWED) / steep
    assert right <= found.bits <= max(1.25 * right, right + 0.4)


def test_a_margin_of_two_errors_is_left() -> None:
    tried = searched(lambda bits: math.exp(-bits), error=0.003)
    found = best(tried)
    assert found
    assert found.difference + MARGIN * 0.003 <= ALLOWED
    assert all(entry.inside == (entry.upper <= ALLOWED) for entry in tried)


def test_a_table_that_looks_better_than_predicted_is_not_believed() -> None:
    """On little text a table may look better than none at all."""

    def measure(bits: float) -> tuple[float, float]:
        return math.exp(-bits) - 0.006, 0.001

    tried = smallest(lambda bits: math.exp(-bits), measure, ALLOWED, lowest=0.1, highest=8.0, aim=0.5 * ALLOWED)
    found = best(tried)
    assert found
    assert math.exp(-found.bits) + MARGIN * 0.001 <= ALLOWED


def test_where_nothing_is_inside_the_largest_was_tried_too() -> None:
    tried = searched(lambda _: 0.5)
    assert best(tried) is None
    assert len(tried) <= MEASUREMENTS
    assert tried[-1].bits == 8.0


def test_an_error_as_wide_as_the_tolerance_leaves_nothing_inside() -> None:
    assert best(searched(lambda bits: 1e-6 * bits, error=ALLOWED)) is None


def test_sizes_that_no_form_has_are_not_measured() -> None:
    tried = searched(lambda bits: 1e-4 * math.exp(-bits), floor=0.7)
    found = best(tried)
    assert found
    assert 0.7 <= found.bits <= 1.5
    assert all(math.isinf(entry.difference) and not entry.inside for entry in tried if entry.bits < 0.7)


def test_it_ends_whatever_is_measured() -> None:
    """Noise, and losses that grow with the bits."""
    for loss in (lambda bits: 0.01 + 0.02 * math.sin(40 * bits), lambda bits: 1e-3 * bits, lambda bits: math.inf):
        tried = searched(loss)
        assert len(tried) <= MEASUREMENTS + 5
        assert len({entry.bits for entry in tried}) == len(tried)


@pytest.mark.parametrize("smallest", range(7))
def test_of_a_few_sizes_the_smallest_inside_is_found_with_few_measurements(smallest: int) -> None:
    sizes = [4.0, 4.5, 5.0, 5.5, 6.0, 8.5]
    lost = {bits: 0.001 if place >= smallest else 1.0 for place, bits in enumerate(sizes)}
    tried = smallest_of(sizes, lambda _: 0.0, lambda bits: (lost[bits], 0.0), 0.01, same_unit=True)
    found = best(tried)
    assert (found.bits if found else None) == dict(enumerate(sizes)).get(smallest)
    assert len(tried) <= 3
