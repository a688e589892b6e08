from __future__ import annotations

import pytest
import torch

from orientc.distillation.evidence import Evidence, Moves

CPU = torch.device("cpu")


def test_evidence_is_what_noise_does_not_explain() -> None:
    generator, evidence = torch.Generator().manual_seed(0), Evidence(400, 50, CPU)
    signal = torch.zeros(400, 50)
    signal[200:, 0] = 1.0
    for _ in range(40):
        evidence.add(signal + torch.randn(400, 50, generator=generator) / 50**0.5)
    shares = evidence.shares(evidence.means())
    assert shares[:200].mean() < 0.1
    assert (shares[200:] - 40 / 41).abs().mean() < 0.01


@pytest.mark.parametrize(("steps", "known"), [(5, False), (6, True)])
def test_gradients_of_few_steps_are_no_evidence_however_alike(steps: int, known: bool) -> None:
    evidence, gradient = Evidence(2, 3, CPU), torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    for step in range(20):
        evidence.add(gradient if step < steps else torch.zeros(2, 3))
    shares = evidence.shares(evidence.means())
    assert (float(shares[0]) > 0.5) is known
    assert shares[1] == 0  # without gradients


def test_caution_is_how_much_more_curved_the_loss_is_than_suggested() -> None:
    evidence, curved = Evidence(4, 2, CPU), torch.tensor([3.0, 1.0])
    numbers = torch.ones(4, 2)
    evidence.add(numbers * curved)
    means = evidence.means()
    untried = evidence.learn(means)
    rows, change = torch.tensor([0, 2]), torch.tensor([[-0.5, 0.0], [-0.5, 0.0]])
    evidence.moved(Moves(rows, change, means[rows], torch.full((2,), 0.5)))
    assert evidence.learn(evidence.means()) == untried  # nothing has been seen since
    numbers[rows] += change
    evidence.add(numbers * curved)
    assert torch.equal(evidence.means()[rows], numbers[rows] * curved)  # of the rows as they are now alone
    assert evidence.learn(evidence.means()) == pytest.approx(3 / 0.5)
    again = Evidence(4, 2, CPU)
    again.restore(evidence.state())
    assert again.learn(again.means()) == evidence.learn(evidence.means())
    assert torch.equal(again.means(), evidence.means())
