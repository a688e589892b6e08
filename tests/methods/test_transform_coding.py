from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orientc.methods import per_group, transform_coding
from orientc.methods.effort import WIDEST
from orientc.methods.importance import Importance
from orientc.modeling.factors import Factors


def skewed() -> tuple[Tensor, Importance]:
    """A table that varies less in some directions, a importance that has others, rows more and less frequent."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(2000, 24, generator=generator) * torch.logspace(0, -1, 24)
    root = torch.randn(24, 24, generator=generator, dtype=torch.float64)
    return table, Importance(root @ root.T + 0.1 * torch.eye(24), 1000 / torch.arange(1, 2001).double())


@pytest.mark.parametrize("nbytes", [16_500, 20_500, 30_000])
def test_it_takes_no_more_than_its_bytes_and_costs_less_than_the_same_bits_for_all(nbytes: int) -> None:
    table, importance = skewed()
    factors = transform_coding.transform_code(table, nbytes, importance, dtype=torch.float16)
    assert factors is not None
    factors = factors.to(torch.float16)
    assert factors.nbytes <= nbytes
    assert factors.nbytes > 0.95 * nbytes
    flat = [
        per_group.quantize_per_group(Factors.plain(table), [[bits]], group_size=24, importance=importance.matrix)
        for bits in range(1, 9)
    ]
    costs = [importance.cost(entry, table) for entry in flat if entry.nbytes <= factors.nbytes]
    assert costs
    assert importance.cost(factors, table) < 0.7 * min(costs)


def test_columns_without_bits_in_any_tier_are_not_stored() -> None:
    table, importance = skewed()
    factors = transform_coding.transform_code(table, 9_000, importance, dtype=torch.float16)
    assert factors is not None
    assert factors.rank < 24
    assert factors.weight is not None
    assert factors.weight.shape == (24, factors.rank)


def test_a_budget_below_one_bit_for_the_first_columns_has_no_such_form() -> None:
    table, importance = skewed()
    assert transform_coding.transform_code(table, 1_000, importance, dtype=torch.float16) is None


def test_more_effort_costs_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transform_coding, "_LEVELS_SHARE", 1.0)  # windows as wide as those of a table of some MB
    table, importance = skewed()
    costs = []
    for effort, window in WIDEST.items():
        nbytes = 15_000 + (2 << window)  # beside the levels
        factors = transform_coding.transform_code(table, nbytes, importance, dtype=torch.float16, effort=effort)
        assert factors is not None
        assert factors.layout.window == window
        costs.append(importance.cost(factors, table))
    assert costs[1] < 0.99 * costs[0]


def test_a_row_that_counts_for_more_than_all_others_is_hardly_changed() -> None:
    table, importance = skewed()
    importance.weights[700] = 3e5
    factors = transform_coding.transform_code(table, 20_500, importance, dtype=torch.float16)
    assert factors is not None
    kept = factors.tensors["kept.ids"].long()
    assert torch.equal(factors.dense()[kept], table[kept])
    change = (factors.dense() - table).square().sum(1)
    assert float(change[700]) < 1e-3 * float(
        change.median()
    )  # kept, or what the others of its row group are set off by


def test_where_nothing_is_known_rows_unlike_all_others_are_kept() -> None:
    """So are the most frequent tokens of many models; their weights are those of any row."""
    table, _ = skewed()
    unlike = [3, 700, 1999]
    table[unlike, [20, 21, 22]] = 1.5  # some ten deviations
    factors = transform_coding.transform_code(table, 20_500, Importance.guessed(table), dtype=torch.float16)
    assert factors is not None
    kept = factors.tensors["kept.ids"].tolist()
    assert {*unlike} <= {*kept}
    assert len(kept) < 40


def test_the_decoder_in_eight_bits_costs_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table, importance = skewed()
    made = transform_coding.transform_code(table, 20_500, importance, dtype=torch.float16)
    monkeypatch.setattr(
        transform_coding, "_rounded", lambda weight, _: transform_coding._Decoder(weight, torch.ones(weight.shape[1]))
    )
    exact = transform_coding.transform_code(table, 20_500, importance, dtype=torch.float16)
    assert made is not None
    assert exact is not None
    assert importance.cost(made, table) < 1.02 * importance.cost(exact, table)
