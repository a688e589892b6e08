from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import calibrations
from support.calibrations import DIM, VOCAB

from orientc.methods.importance import Metric
from orientc.modeling.factors import Factors


def table() -> torch.Tensor:
    return torch.randn(VOCAB, DIM, generator=torch.Generator().manual_seed(1))


def test_without_a_calibration_every_change_counts_the_same() -> None:
    plain = Metric.plain(table())
    change = 0.1 * torch.ones(VOCAB, DIM)
    assert not plain.known
    assert plain.cost(Factors.plain(table() + change), table()) == pytest.approx(0.5 * DIM * 0.01, rel=1e-5)


def test_the_cost_is_the_quadratic_form_of_the_changes_by_weight() -> None:
    calibration = calibrations.made()
    metric = Metric.of(calibration, table(), head_weight=0.5)
    changes = torch.randn(VOCAB, DIM, generator=torch.Generator().manual_seed(2)).double()
    weights = calibration.counts.double() + calibration.counts.double().mean() / 10
    assert calibration.input_metric is not None
    assert calibration.head_metric is not None
    matrix = (calibration.input_metric + 0.5 * calibration.head_metric).double()
    expected = 0.5 * torch.einsum("i,ij,jk,ik->", weights, changes, matrix, changes) / weights.sum()
    found = metric.cost(Factors.plain((table() + changes).float()), table())
    assert found == pytest.approx(float(expected), rel=5e-3)  # no direction is taken to matter not at all
    assert metric.known


def test_a_calibration_of_counts_alone_weighs_rows_and_knows_no_direction() -> None:
    metric = Metric.of(calibrations.made(input_metric=False, head_metric=False), table())
    assert torch.equal(metric.matrix, torch.eye(DIM).double())
    counts = torch.arange(VOCAB).double()
    assert torch.equal(metric.weights, counts + counts.mean() / 10)
    assert not metric.known


def test_tokens_to_be_expected_weigh_as_much_as_those_counted() -> None:
    calibration = calibrations.made(prior=True)
    counts = torch.arange(VOCAB).double()
    assert torch.equal(Metric.of(calibration, table()).weights, counts + counts.mean() / 10 + counts.flip(0))


def test_a_head_that_is_kept_does_not_count() -> None:
    both, one = calibrations.made(), calibrations.made(head_metric=False)
    assert torch.equal(Metric.of(both, table(), head_weight=0).matrix, Metric.of(one, table()).matrix)


def test_roots_are_roots_and_inverses_also_of_a_metric_that_knows_few_directions() -> None:
    one_direction = torch.zeros(DIM, DIM)
    one_direction[0, 0] = 1e4
    calibration = replace(calibrations.made(), input_metric=one_direction, head_metric=None)
    for metric in (Metric.of(calibration, table()), Metric.of(calibrations.made(), table())):
        root, inverse = metric.roots()
        torch.testing.assert_close(root @ root, metric.matrix)
        torch.testing.assert_close(root @ inverse, torch.eye(DIM).double(), atol=1e-6, rtol=1e-6)


def test_the_metric_of_latents_is_that_of_the_rows_they_make() -> None:
    metric = Metric.of(calibrations.made(), table())
    decoder, latents = torch.randn(DIM, 3), torch.randn(5, 3)
    own = metric.in_latents(decoder)
    rows = (latents @ decoder.T).double()
    torch.testing.assert_close(
        ((latents.double() @ own) * latents).sum(1), ((rows @ metric.matrix) * rows).sum(1), rtol=1e-5, atol=1e-5
    )
    assert metric.in_latents(None) is metric.matrix


def test_costs_of_parts_of_the_rows_add_up() -> None:
    metric = Metric.of(calibrations.made(), table())
    changes = torch.randn(VOCAB, DIM)
    whole = metric.weighted(changes, slice(None))
    parts = [torch.arange(4), torch.arange(4, VOCAB)]
    assert sum(metric.of_rows(ids).weighted(changes[ids], slice(None)) for ids in parts) == pytest.approx(whole)
