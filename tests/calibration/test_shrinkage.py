from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orientc.calibration.shrinkage import PARTS, intensity

DIM = 40


def gradients(number: int, seed: int, *, correlated: bool = True) -> Tensor:
    """Draws `[number, DIM]` of which a few directions hold most, or of independent coordinates of different sizes."""
    fixed = torch.Generator().manual_seed(0)
    sizes = torch.logspace(0, 1, DIM)
    mixing = torch.randn(DIM, 6, generator=fixed)
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(number, DIM, generator=generator)
    if correlated:
        own = 0.5 * own + torch.randn(number, 6, generator=generator) @ mixing.T
    return (own * sizes).double()


def shrunk(found: Tensor, share: float) -> Tensor:
    return torch.lerp(found, found.diagonal().diag(), share)


def cost(metric: Tensor, true: Tensor) -> float:
    """What errors cost that bits leave in a metric, by the truth."""
    metric = metric + 1e-6 * metric.diagonal().mean() * torch.eye(len(metric))
    return float(torch.linalg.solve(metric, true).trace().log() + metric.logdet() / len(metric))


def parts(drawn: Tensor) -> list[tuple[Tensor, int]]:
    return [(part.T @ part, len(part)) for part in (drawn[number::PARTS] for number in range(PARTS))]


@pytest.mark.parametrize("number", [20, 30, 80, 400, 4000])
def test_the_share_is_close_to_the_best_for_positions_nothing_was_measured_on(number: int) -> None:
    """And never worse than the diagonal or the matrix as it is, but for a little."""
    drawn, others = gradients(number, 1), gradients(20_000, 2)
    mean, true = drawn.T @ drawn / number, others.T @ others / len(others)
    costs = {share: cost(shrunk(mean, share), true) for share in (0, 0.002, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1)}
    assert cost(shrunk(mean, intensity(parts(drawn))), true) < min(costs.values()) + 0.015


def test_the_more_positions_the_less_is_shrunk() -> None:
    found = [intensity(parts(gradients(number, 1))) for number in (30, 100, 400, 2000, 20_000)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.001 < 0.03 < found[0]


def test_where_nothing_is_correlated_the_diagonal_is_left() -> None:
    assert intensity(parts(gradients(100, 1, correlated=False))) > 0.9


def test_the_share_does_not_depend_on_units() -> None:
    drawn = gradients(100, 1)
    scaled = drawn * torch.logspace(-6, 3, DIM, dtype=torch.float64)
    assert intensity(parts(scaled)) == pytest.approx(intensity(parts(drawn)))


def test_what_can_not_be_compared_is_its_diagonal() -> None:
    one = parts(gradients(100, 1))[:2]
    nothing = (torch.zeros(DIM, DIM), 10)
    for given in (one[:1], [], [one[0], nothing], [one[0], (torch.zeros(DIM, DIM), 0)]):
        assert intensity(given) == 1


def test_a_coordinate_that_nothing_depends_on_is_no_harm() -> None:
    drawn = gradients(100, 1)
    drawn[:, 3] = 0
    drawn[::2, 5] = 0  # in one half alone
    assert 0 < intensity(parts(drawn)) < 1
