from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from orientc.errors import FitError, UsageError
from orientc.modeling.layout import Layout
from orientc.storage.sizes import (
    bits_per_weight,
    check_size,
    choose_rank,
    model_bytes,
    parameter_ratio,
)

SHAPES = [(30522, 768), (119547, 768), (50257, 64), (120, 32), (32, 120), (2, 2), (1000, 1), (7, 500)]


def at(vocab: int, dim: int, *, bias: bool) -> Callable[[int], Layout]:
    return lambda rank: Layout(vocab, dim, rank, bias=bias)


def ratio_at(vocab: int, dim: int, rank: int, bias: bool) -> float:
    return vocab * dim / (vocab * rank + dim * rank + (dim if bias else 0))


def ratios(vocab: int, dim: int, bias: bool) -> list[float]:
    """Round ones, ones drawn at random, and ones that a rank meets to the last bit."""
    draw = random.Random(vocab)
    exact = [ratio_at(vocab, dim, rank, bias) for rank in range(1, dim + 1)]
    return [1, 1.5, 2.5, 5, 10, *(draw.uniform(1, max(exact[0], 1)) for _ in range(30)), *exact]


@pytest.mark.parametrize(("vocab", "dim"), SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_ratio_means_the_largest_rank_that_keeps_it(vocab: int, dim: int, bias: bool) -> None:
    for ratio in ratios(vocab, dim, bias):
        allowed = [rank for rank in range(1, dim + 1) if ratio_at(vocab, dim, rank, bias) >= ratio]
        if ratio < 1:
            continue
        if allowed:
            assert choose_rank(at(vocab, dim, bias=bias), rank=None, ratio=ratio) == allowed[-1], ratio
        else:
            with pytest.raises(FitError, match="choose at most"):
                choose_rank(at(vocab, dim, bias=bias), rank=None, ratio=ratio)


def test_the_papers_rank_at_its_ratio() -> None:
    assert choose_rank(at(30522, 768, bias=True), rank=None, ratio=10) == 74
    assert ratio_at(30522, 768, 75, True) < 10 < ratio_at(30522, 768, 74, True)


@pytest.mark.parametrize(("vocab", "dim"), SHAPES)
def test_the_ratio_an_error_names_is_one_that_works(vocab: int, dim: int) -> None:
    with pytest.raises(FitError) as caught:
        choose_rank(at(vocab, dim, bias=True), rank=None, ratio=1e6)
    largest = float(str(caught.value).rsplit(" ", 1)[1])
    if largest >= 1:
        assert choose_rank(at(vocab, dim, bias=True), rank=None, ratio=largest) >= 1


def test_a_rank_up_to_the_width_is_taken_as_it_is() -> None:
    assert choose_rank(at(10, 4, bias=True), rank=1, ratio=None) == 1
    assert choose_rank(at(10, 4, bias=True), rank=4, ratio=None) == 4
    with pytest.raises(FitError, match="at most 4"):
        choose_rank(at(10, 4, bias=True), rank=5, ratio=None)


@pytest.mark.parametrize(
    ("rank", "ratio"),
    [
        (None, None),
        (4, 5.0),
        (0, None),
        (-1, None),
        (None, 0.5),
        (None, 0.0),
        (None, float("nan")),
        (None, float("inf")),
    ],
)
def test_a_request_that_no_table_can_meet_is_wrong_by_itself(rank: int | None, ratio: float | None) -> None:
    with pytest.raises(UsageError):
        check_size(rank, ratio)
    with pytest.raises(UsageError):
        choose_rank(at(1000, 64, bias=True), rank=rank, ratio=ratio)


def test_sizes_by_hand() -> None:
    assert at(100, 10, bias=True)(3).numbers == 300 + 30 + 10
    assert at(100, 10, bias=False)(3).numbers == 330
    assert parameter_ratio(100, 10, 340) == pytest.approx(1000 / 340)
    assert bits_per_weight(100, 10, 4 * 340) == pytest.approx(32 * 340 / 1000)


def test_a_model_shrinks_only_where_the_artifact_takes_the_tables_place() -> None:
    assert model_bytes(1000, 400, 50, kept=True) == 1050
    assert model_bytes(1000, 400, 50, kept=False) == 650
