from __future__ import annotations

import numpy as np
import pytest
import torch

from orientc.methods import losses
from orientc.methods.recipe import Weights

X = torch.tensor([[3.0, 4.0, 0.0], [1.0, -2.0, 2.0], [0.5, 0.5, 0.5]])
Y = torch.tensor([[3.0, 4.0, 0.0], [1.0, 2.0, -2.0], [1.0, 0.0, 0.0]])


def numpy_terms(decoded: np.ndarray, rows: np.ndarray, alpha: float) -> tuple[float, float, float]:
    cosines = (decoded * rows).sum(1) / np.linalg.norm(decoded, axis=1) / np.linalg.norm(rows, axis=1)
    power = (np.abs(decoded - rows) + 1e-10) ** alpha
    return float((1 - cosines).mean()), float(power.mean()), float(np.sqrt(((decoded - rows) ** 2).mean()))


@pytest.mark.parametrize("alpha", [1.0, 0.55, 0.1])
def test_the_loss_is_the_weighted_sum_of_its_terms(alpha: float) -> None:
    cosine, power, rmse = numpy_terms(Y.double().numpy(), X.double().numpy(), alpha)
    weights = Weights(cosine=0.3, power=0.2, rmse=0.7)
    expected = 0.3 * cosine + 0.2 * power + 0.7 * rmse
    assert losses.loss(Y, X, alpha, weights).item() == pytest.approx(expected, rel=1e-5)
    only_power = Weights(cosine=0, power=1, rmse=0)
    assert losses.loss(Y, X, alpha, only_power).item() == pytest.approx(power, rel=1e-5)


def test_distances_do_not_depend_on_how_the_table_is_cut() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, decoded = torch.randn(100, 12, generator=generator), torch.randn(100, 12, generator=generator)
    whole = losses.measure([(decoded, rows)])
    pieces = losses.measure(zip(decoded.split(7), rows.split(7), strict=True))
    cosine, power, rmse = numpy_terms(decoded.double().numpy(), rows.double().numpy(), 0.1)
    for found in (whole, pieces):
        assert found.cosine == pytest.approx(cosine, rel=1e-5)
        assert found.rmse == pytest.approx(rmse, rel=1e-5)
        assert found.power_0_1 == pytest.approx(power, rel=1e-5)
        assert found.power_0_6 == pytest.approx(numpy_terms(decoded.double().numpy(), rows.double().numpy(), 0.6)[1])
        assert found.mae == pytest.approx((decoded - rows).abs().mean().item(), rel=1e-5)
        objective = Weights(0.3, 0.2, 0.7)
        assert found.objective(objective) == pytest.approx(0.3 * cosine + 0.2 * power + 0.7 * rmse, rel=1e-5)


def test_a_zero_row_and_an_exact_match_have_finite_gradients() -> None:
    rows = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    decoded = rows.clone().requires_grad_()
    losses.loss(decoded, rows, 0.1, Weights(rmse=0)).backward()
    assert decoded.grad is not None
    assert decoded.grad.isfinite().all()


def test_a_row_of_zeros_has_distance_1_whatever_it_is_decoded_to() -> None:
    zeros = torch.zeros(2, 3)
    for decoded in (zeros, X[:2], X[:2] * 1e-30, X[:2] * 1e6):
        assert losses.cosine_distance(decoded, zeros).item() == 1
        assert losses.cosine_distance(zeros, decoded).item() == 1
    assert losses.cosine_distance(X * 1e-9, X * 1e-9).item() == pytest.approx(1, abs=1e-4)  # shorter than ε by far


def test_the_gradient_at_a_row_of_zeros_is_finite() -> None:
    decoded = torch.zeros(3, 3, requires_grad=True)
    rows = torch.cat([torch.zeros(1, 3), X[:2]])
    losses.loss(decoded, rows, 0.1, Weights(rmse=1)).backward()
    assert decoded.grad is not None
    assert decoded.grad.isfinite().all()
