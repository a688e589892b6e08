from __future__ import annotations

import itertools

import torch

from orientc.methods.row_groups import coded_factors, row_groups_of
from orientc.modeling.factors import Factors
from orientc.modeling.layout import PER_GROUP


def test_tiers_halve_from_the_lightest_rows_on() -> None:
    weights = torch.rand(2500, generator=torch.Generator().manual_seed(0))
    row_groups = row_groups_of(weights)
    assert [len(row_group) for row_group in row_groups] == [312, 313, 625, 1250]
    assert torch.cat(row_groups).sort().values.tolist() == list(range(2500))
    assert all(row_group.diff().min() > 0 for row_group in row_groups)
    assert all(weights[one].min() >= weights[other].max() for one, other in itertools.pairwise(row_groups))
    assert [len(row_group) for row_group in row_groups_of(torch.ones(2500))] == [2500]


def test_a_row_is_read_from_its_own_row_group() -> None:
    """Each row group's scale is its number, and all codes are 1."""
    row_groups = [torch.tensor([1, 4]), torch.tensor([0, 3, 5]), torch.tensor([2])]
    ones = torch.ones(6, 1)
    parts = [
        (ones[rows].to(torch.uint8), torch.full((len(rows), 1), number + 1.0), torch.zeros(len(rows), 1))
        for number, rows in enumerate(row_groups)
    ]
    made = coded_factors(Factors.plain(ones), PER_GROUP, [[8]] * 3, group_size=1, row_groups=row_groups, coded=parts)
    made.layout.check()
    assert made.dense().flatten().tolist() == [2, 1, 3, 2, 1, 2]
