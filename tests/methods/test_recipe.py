from __future__ import annotations

import pytest

from orientc.errors import UsageError
from orientc.methods.recipe import PAPER, Recipe, Weights


def test_the_papers_weights_are_the_default() -> None:
    assert (Weights().cosine, Weights().power, Weights().rmse) == (0.9975 / 5, 0.0025, 0)


def test_the_papers_schedules_are_the_published_ones() -> None:
    assert [PAPER.alpha(epoch) for epoch in (0, 1, 10, 19, 20, 29)] == pytest.approx([1, 0.955, 0.55, 0.145, 0.1, 0.1])
    rates = [PAPER.learning_rate_at(epoch, 0.3) for epoch in (0, 3, 4, 8, 29)]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4, 1e-3 / 2**7])
    assert (PAPER.epochs, PAPER.batch_size, PAPER.init, PAPER.nonlinear) == (30, 32, "random", "none")


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"alpha_end": -1.0},
        {"rmse_weight": -0.1},
        {"cosine_weight": 0.0, "power_weight": 0.0},
        {"nonlinear": "relu"},
        {"schedule": "linear"},
        {"init": "zeros"},
    ],
)
def test_settings_no_fit_can_use_are_refused(wrong: dict[str, float | str]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Recipe(**wrong)  # type: ignore[arg-type]
