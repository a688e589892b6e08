from __future__ import annotations

import itertools

import torch

from orientc.factors import Factors
from orientc.layout import GROUPS
from orientc.methods.tiers import put_together, tiers_of


def test_tiers_halve_from_the_lightest_rows_on() -> None:
    weights = torch.rand(2500, generator=torch.Generator().manual_seed(0))
    tiers = tiers_of(weights)
    assert [len(tier) for tier in tiers] == [312, 313, 625, 1250]
    assert torch.cat(tiers).sort().values.tolist() == list(range(2500))
    assert all(tier.diff().min() > 0 for tier in tiers)
    assert all(weights[one].min() >= weights[other].max() for one, other in itertools.pairwise(tiers))
    assert [len(tier) for tier in tiers_of(torch.ones(2500))] == [2500]


def test_a_row_is_read_from_its_own_tier() -> None:
    """Each tier's scale is its number, and all codes are 1."""
    tiers = [torch.tensor([1, 4]), torch.tensor([0, 3, 5]), torch.tensor([2])]
    ones = torch.ones(6, 1)
    parts = [
        (ones[rows].to(torch.uint8), torch.full((len(rows), 1), number + 1.0), torch.zeros(len(rows), 1))
        for number, rows in enumerate(tiers)
    ]
    made = put_together(Factors.plain(ones), GROUPS, [[8]] * 3, group=1, tiers=tiers, parts=parts)
    made.layout.check()
    assert made.dense().flatten().tolist() == [2, 1, 3, 2, 1, 2]
