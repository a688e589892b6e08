from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import calibrations
from support.calibrations import DIM, VOCAB

from orientc.methods.importance import Importance
from orientc.modeling.factors import Factors


def table() -> torch.Tensor:
    return torch.randn(VOCAB, DIM, generator=torch.Generator().manual_seed(1))


def test_without_a_calibration_every_change_counts_the_same() -> None:
    plain = Importance.plain(table())
    change = 0.1 * torch.ones(VOCAB, DIM)
    assert not plain.known
    assert plain.cost(Factors.plain(table() + change), table()) == pytest.approx(0.5 * DIM * 0.01, rel=1e-5)


def test_the_cost_is_the_quadratic_form_of_the_changes_by_weight() -> None:
    calibration = calibrations.made()
    importance = Importance.of(calibration, table(), head_weight=0.5)
    changes = torch.randn(VOCAB, DIM, generator=torch.Generator().manual_seed(2)).double()
    weights = calibration.counts.double() + calibration.counts.double().mean() / 10
    assert calibration.input_importance is not None
    assert calibration.head_importance is not None
    matrix = (calibration.input_importance + 0.5 * calibration.head_importance).double()
    expected = 0.5 * torch.einsum("i,ij,jk,ik->", weights, changes, matrix, changes) / weights.sum()
    found = importance.cost(Factors.plain((table() + changes).float()), table())
    assert found == pytest.approx(float(expected), rel=5e-3)  # no direction is taken to matter not at all
    assert importance.known


def test_a_calibration_of_counts_alone_weighs_rows_and_knows_no_direction() -> None:
    importance = Importance.of(calibrations.made(input_importance=False, head_importance=False), table())
    assert torch.equal(importance.matrix, torch.eye(DIM).double())
    counts = torch.arange(VOCAB).double()
    assert torch.equal(importance.weights, counts + counts.mean() / 10)
    assert not importance.known


def test_tokens_to_be_expected_weigh_as_much_as_those_counted() -> None:
    calibration = calibrations.made(prior=True)
    counts = torch.arange(VOCAB).double()
    assert torch.equal(Importance.of(calibration, table()).weights, counts + counts.mean() / 10 + counts.flip(0))


@pytest.mark.parametrize("head_weight", [0.0, 1.0, 4.0])
def test_a_row_weighs_what_its_token_is_counted_and_expected_by_what_lookup_and_head_have_of_the_importance(
    head_weight: float,
) -> None:
    """M is a third of the head's importance everywhere: of four parts three are the head's, and with a weight more."""
    ones = torch.eye(DIM)
    calibration = replace(
        calibrations.made(head_counts=True), input_importance=ones + 0.1, head_importance=3 * (ones + 0.1)
    )
    assert calibration.head_counts is not None
    weights = Importance.of(calibration, table(), head_weight=head_weight).weights
    share = 3 * head_weight / (1 + 3 * head_weight)
    counts = (1 - share) * calibration.counts + share * calibration.head_counts
    torch.testing.assert_close(weights, (counts + counts.mean() / 10).double(), rtol=5e-3, atol=1e-3)


def test_a_matrix_is_used_as_far_as_the_calibration_says() -> None:
    """Each with its own share of its diagonal: all of it leaves the diagonal alone."""
    calibration = replace(calibrations.made(), input_shrinkage=torch.tensor(0.25), head_shrinkage=torch.tensor(1.0))
    assert calibration.input_importance is not None
    assert calibration.head_importance is not None
    shares = torch.full((DIM, DIM), 0.75).fill_diagonal_(1)
    expected = shares * calibration.input_importance + 0.5 * calibration.head_importance.diagonal().diag()
    found = Importance.of(calibration, table(), head_weight=0.5).matrix
    damping = 1e-3 * found.diagonal().mean()
    torch.testing.assert_close(found, expected.double() + damping / 1.001 * torch.eye(DIM), rtol=1e-5, atol=1e-5)


def test_a_head_that_is_kept_does_not_count() -> None:
    both, one = calibrations.made(), calibrations.made(head_importance=False)
    assert torch.equal(Importance.of(both, table(), head_weight=0).matrix, Importance.of(one, table()).matrix)


def test_roots_are_roots_and_inverses_also_of_a_metric_that_knows_few_directions() -> None:
    one_direction = torch.zeros(DIM, DIM)
    one_direction[0, 0] = 1e4
    calibration = replace(calibrations.made(), input_importance=one_direction, head_importance=None)
    for importance in (Importance.of(calibration, table()), Importance.of(calibrations.made(), table())):
        root, inverse = importance.roots()
        torch.testing.assert_close(root @ root, importance.matrix)
        torch.testing.assert_close(root @ inverse, torch.eye(DIM).double(), atol=1e-6, rtol=1e-6)


def test_the_metric_of_latents_is_that_of_the_rows_they_make() -> None:
    importance = Importance.of(calibrations.made(), table())
    decoder, latents = torch.randn(DIM, 3), torch.randn(5, 3)
    own = importance.in_latents(decoder)
    assert own is not None
    rows = (latents @ decoder.T).double()
    torch.testing.assert_close(
        ((latents.double() @ own) * latents).sum(1), ((rows @ importance.matrix) * rows).sum(1), rtol=1e-5, atol=1e-5
    )
    of_rows = importance.in_latents(None)
    assert of_rows is not None
    assert torch.equal(of_rows.double(), importance.matrix)
    assert Importance.plain(table()).in_latents(None) is None


def test_costs_of_parts_of_the_rows_add_up() -> None:
    importance = Importance.of(calibrations.made(), table())
    changes = torch.randn(VOCAB, DIM)
    whole = importance.weighted(changes, slice(None))
    parts = [torch.arange(4), torch.arange(4, VOCAB)]
    assert sum(importance.of_rows(ids).weighted(changes[ids], slice(None)) for ids in parts) == pytest.approx(whole)


def test_without_a_measurement_columns_count_by_how_they_vary_and_rows_by_their_lengths() -> None:
    table = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7) + 3
    table[7] = 0
    guess = Importance.guessed(table)
    assert not guess.known
    matrix = guess.matrix
    deviations = table.double().std(0, correction=0)
    expected = deviations / deviations.mean() + 1e-3
    torch.testing.assert_close(matrix, torch.diag(expected), rtol=1e-5, atol=1e-9)
    others = torch.arange(50) != 7
    lengths = table.double().norm(dim=1)
    torch.testing.assert_close(guess.weights[others] * lengths[others].square(), torch.ones(49).double())
    assert guess.weights.isfinite().all()
    counts = torch.arange(50).double()
    assert torch.equal(Importance.guessed(table, counts).weights, counts)
    assert Importance.guessed(torch.zeros(4, 3)).weights.isfinite().all()
