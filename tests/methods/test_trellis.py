from __future__ import annotations

import pytest
import torch

from orientc.methods import trellis
from orientc.methods.trellis import Source, code_row_group, code_rows, costs_of_rows
from orientc.modeling.layout import Layout

VOCAB, DIM = 300, 24


def source() -> Source:
    """A table turned by a matrix, its first rows, which weigh more, in a row group of their own."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(VOCAB, DIM, generator=generator) * torch.logspace(0, -1, DIM)
    encoder = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator))[0]
    ids = torch.randperm(VOCAB, generator=generator)
    groups = [ids[:40].sort().values, ids[40:].sort().values]
    return Source(table, encoder, torch.linspace(3, 1, VOCAB).double(), groups)


def test_rows_cost_what_the_latents_of_their_codes_are_off_by() -> None:
    rows, rates = source(), torch.tensor([[2.5], [1.25]]).double().expand(2, DIM)
    moments = [rows.moments(number) for number in range(2)]
    factors = code_rows(Layout(VOCAB, DIM, DIM, decoder=False), rows, moments, rates, 8)
    errors = (rows.latents(torch.arange(VOCAB)) - factors.latents.float()).square().sum(1)
    for number, ids in enumerate(rows.row_groups):
        coded = code_row_group(rows, number, moments[number], rates[number], 8)
        found = costs_of_rows(rows, number, coded, 8)
        torch.testing.assert_close(found, rows.weights[ids] * errors[ids].double(), rtol=5e-3, atol=0)
        assert found.sum() < 0.3 * moments[number].deviations.sum()


def test_moments_are_those_of_the_weighted_latents_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = source()
    latents, weights = rows.latents(rows.row_groups[1]).double(), rows.weights[rows.row_groups[1]]
    means = weights @ latents / weights.sum()
    monkeypatch.setattr(trellis, "_NUMBERS", 50 * DIM)
    found = rows.moments(1)
    torch.testing.assert_close(found.total, weights.sum())
    torch.testing.assert_close(found.means, means)
    torch.testing.assert_close(found.deviations, weights @ (latents - means).square())
