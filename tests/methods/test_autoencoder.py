from __future__ import annotations

import pytest
import torch
from benchmarks.fit import literal_loop
from torch import Tensor

from orientc.errors import FitError
from orientc.methods import autoencoder, losses, svd
from orientc.methods.recipe import NONLINEAR, PAPER, Recipe, Weights


@pytest.fixture(scope="module")
def table() -> Tensor:
    """A table with the decaying spectrum and the uneven row lengths of a real one."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(1500, 24, generator=generator) * torch.linspace(1.5, 0.2, 24)
    return 0.1 * directions * torch.rand(1500, 1, generator=generator).add(0.2)


def cosine_distance(table: Tensor, factors: svd.Factors) -> float:
    return losses.distances(factors, table).cosine


def test_the_paper_preset_ends_where_the_literal_recipe_ends(table: Tensor) -> None:
    expected = losses.distances(literal_loop(table, 6), table).objective(Weights())
    reports: list[autoencoder.Epoch] = []
    autoencoder.fit_autoencoder(table, 6, PAPER, on_epoch=reports.append)
    assert len(reports) == 30
    assert reports[-1].objective == pytest.approx(expected, rel=0.02)


def test_the_default_beats_the_paper_preset_and_svd_in_their_own_measures(table: Tensor) -> None:
    reports: list[autoencoder.Epoch] = []
    autoencoder.fit_autoencoder(table, 6, PAPER, on_epoch=reports.append)
    paper = reports[-1]
    settings = Recipe()
    factors = autoencoder.fit_autoencoder(table, 6, settings, on_epoch=reports.append)
    assert reports[-1].objective <= paper.objective
    assert cosine_distance(table, factors) < cosine_distance(table, svd.truncated_svd(table, 6))


@pytest.mark.parametrize("nonlinear", NONLINEAR)
@pytest.mark.parametrize("init", ["subspace", "random"])
def test_the_reported_distances_are_those_of_the_factors(table: Tensor, nonlinear: str, init: str) -> None:
    reports: list[autoencoder.Epoch] = []
    settings = Recipe(epochs=2, nonlinear=nonlinear, init=init)
    factors = autoencoder.fit_autoencoder(table, 6, settings, on_epoch=reports.append)
    assert factors.activation == ("elu" if nonlinear in ("decoder", "both") else None)
    assert losses.distances(factors, table).cosine == pytest.approx(reports[-1].distances.cosine, abs=1e-6)
    assert reports[1].objective < reports[0].objective
    assert (factors.latents.min() >= -1) or nonlinear in ("none", "decoder")


def test_starting_from_an_artifacts_factors_starts_where_they_are(table: Tensor) -> None:
    start = svd.truncated_svd(table, 6, center=True)
    model = autoencoder.Autoencoder(24, 6)
    model.start_from_factors(table, start)
    torch.testing.assert_close(model.factors(table).dense(), start.dense(), atol=1e-4, rtol=1e-4)
    fitted = autoencoder.fit_autoencoder(table, 6, Recipe(epochs=2, init="artifact"), start=start)
    assert cosine_distance(table, fitted) < cosine_distance(table, start)
    with pytest.raises(FitError, match="rank 6, not 5"):
        autoencoder.fit_autoencoder(table, 5, Recipe(init="artifact"), start=start)


def test_the_same_seed_gives_the_same_numbers(table: Tensor) -> None:
    settings = Recipe(epochs=2, init="random", batch_size=256)
    first, again, other = (autoencoder.fit_autoencoder(table, 4, settings, seed=seed).latents for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_loss_that_leaves_the_range_of_a_float_is_an_error(table: Tensor) -> None:
    with pytest.raises(FitError, match="lower `learning_rate`"):
        autoencoder.fit_autoencoder(table, 4, Recipe(learning_rate=1e38, epochs=3, rmse_weight=1.0))
