from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from orientc.evaluation.divergence import Reference, cross_entropies, percentile


def test_losses_divergences_and_top_tokens_are_those_of_the_formulas() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 7, 50).mul(4)
    targets = torch.randint(0, 50, (7,))
    p, q = ours.double().log_softmax(-1), theirs.double().log_softmax(-1)
    own = Reference(ours.clone())
    losses, divergences, same_top = own.against(theirs.clone(), targets)
    torch.testing.assert_close(own.losses(targets).double(), -p[torch.arange(7), targets])
    torch.testing.assert_close(losses.double(), -q[torch.arange(7), targets])
    torch.testing.assert_close(divergences, (p.exp() * (p - q)).sum(-1).float())
    assert same_top.tolist() == (p.argmax(-1) == q.argmax(-1)).tolist()


def test_in_a_large_vocabulary_rounding_does_not_add_up() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 8, 200_000)
    targets = torch.arange(8)
    p, q = ours.double().log_softmax(-1), theirs.double().log_softmax(-1)
    losses, divergences, _ = Reference(ours.clone()).against(theirs.clone(), targets)
    assert (losses - -q[torch.arange(8), targets]).abs().max() < 2e-6
    assert (cross_entropies(theirs.clone(), targets) - -q[torch.arange(8), targets]).abs().max() < 2e-6
    assert (divergences - (p.exp() * (p - q)).sum(-1)).abs().max() < 2e-6


def test_a_model_is_at_no_distance_from_itself_and_from_none_below_0() -> None:
    logits = torch.randn(200, 1000)
    targets = torch.zeros(200, dtype=torch.long)
    assert Reference(logits.clone()).against(logits.clone(), targets)[1].tolist() == [0] * 200
    moved = Reference(logits.clone()).against(logits + 5, targets)[1]
    assert 0 <= moved.min() <= moved.max() < 1e-5


def test_a_token_that_is_ruled_out_counts_nothing_and_one_that_is_ruled_out_wrongly_is_infinitely_far() -> None:
    allowed = torch.tensor([[0.0, 0.0, -math.inf]])
    first = torch.tensor([0])
    assert Reference(allowed).against(allowed.clone(), first)[1].item() == 0
    every = torch.zeros(1, 3)
    assert Reference(allowed).against(every.clone(), first)[1].item() == pytest.approx(math.log(3 / 2))
    assert Reference(every).against(allowed.clone(), first)[1].item() == math.inf


@pytest.mark.parametrize("which", ["own", "theirs"])
def test_what_is_no_number_stays_none(which: str) -> None:
    logits = {"own": torch.zeros(2, 3), "theirs": torch.zeros(2, 3)}
    logits[which][1, 2] = math.nan
    divergences = Reference(logits["own"]).against(logits["theirs"], torch.tensor([0, 0]))[1]
    assert divergences.isnan().tolist() == [False, True]


@pytest.mark.parametrize("count", [1, 2, 99, 101, 1000])
def test_percentiles_are_interpolated_between_neighbours(count: int) -> None:
    values = torch.randn(count).tolist()
    assert percentile(values, 0.99) == pytest.approx(np.percentile(values, 99))


def test_a_percentile_among_infinite_values_is_infinite() -> None:
    assert percentile([1.0, math.inf, math.inf], 0.99) == math.inf
    assert percentile([1.0, 2.0, math.inf], 0.5) == 2.0
