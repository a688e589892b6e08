from __future__ import annotations

import math

import pytest

from orientc.evaluation.statistics import Spread


def test_one_value_has_no_deviation() -> None:
    assert Spread.of([0.25]) == Spread(0.25, None, 1)


def test_the_deviation_is_that_of_a_sample() -> None:
    found = Spread.of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert (found.mean, found.count) == (5.0, 8)
    assert found.std == pytest.approx(math.sqrt(32 / 7))


def test_equal_values_do_not_deviate() -> None:
    assert Spread.of([0.1] * 3) == Spread(pytest.approx(0.1), 0.0, 3)


def test_the_order_of_values_does_not_matter() -> None:
    values = [0.1, 0.2, 0.3, 1e9, -1e9]
    assert Spread.of(values) == Spread.of(values[::-1])


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Spread.of([])
