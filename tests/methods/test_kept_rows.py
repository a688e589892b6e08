from __future__ import annotations

import torch
from torch import Tensor

from orientc.methods import kept_rows, svd
from orientc.methods.importance import Importance
from orientc.methods.table_rows import TableRows
from orientc.modeling.factors import Factors


def zipf(vocab: int, dim: int) -> tuple[Tensor, Importance]:
    table = torch.randn(vocab, dim, generator=torch.Generator().manual_seed(0))
    return table, Importance(torch.eye(dim).double(), 1000 / torch.arange(1, vocab + 1).double())


def test_the_weightiest_rows_are_kept_in_the_order_of_their_ids() -> None:
    assert kept_rows.weightiest(torch.tensor([1.0, 5.0, 2.0, 5.0, 0.0]), 3).tolist() == [1, 2, 3]
    assert kept_rows.weightiest(torch.ones(5), 2).tolist() == [0, 1]
    assert kept_rows.weightiest(torch.ones(5), 0).tolist() == []


def test_rows_that_are_kept_are_exact_and_the_others_are_fitted_without_them() -> None:
    table, importance = zipf(40, 6)
    ids = torch.tensor([3, 4, 39])
    seen: list[tuple[Tensor, Tensor]] = []

    def fit(rest: TableRows, own: Importance) -> Factors:
        seen.append((rest[:], own.weights))
        return svd.truncated_svd(rest, 2, importance=own)

    factors = kept_rows.around(table, ids, importance, fit)
    others = [id for id in range(40) if id not in ids]
    assert torch.equal(seen[0][0], table[others])
    assert torch.equal(seen[0][1], importance.weights[others])
    assert torch.equal(factors.dense()[ids], table[ids])
    assert torch.equal(
        factors.dense()[others],
        svd.truncated_svd(table[others], 2, importance=importance.of_rows(torch.tensor(others))).dense(),
    )
    assert kept_rows.around(table, ids[:0], importance, fit).layout.kept == 0


def test_as_many_rows_are_kept_as_cost_least_in_the_budget() -> None:
    table, importance = zipf(256, 8)
    nbytes = 4 * 256 * 3
    found = kept_rows.best(table, nbytes, importance, itemsize=4)
    assert found is not None

    def fitted(count: int) -> Factors | None:
        rank = (nbytes - count * (8 * 4 + (4 if count else 0))) // (4 * (256 - count + 8))
        if rank < 1:
            return None
        ids = kept_rows.weightiest(importance.weights, count)
        return kept_rows.around(table, ids, importance, lambda rest, own: svd.truncated_svd(rest, rank, importance=own))

    made = {count: factors for count in (0, 1, 2, 4, 8, 16, 32, 64) if (factors := fitted(count))}
    costs = {count: importance.cost(factors, table) for count, factors in made.items()}
    assert found.count == min(costs, key=lambda count: costs[count]) > 0
    assert made[found.count].rank == found.rank
    assert made[found.count].nbytes <= nbytes


def test_of_rows_that_weigh_the_same_none_is_kept() -> None:
    table, _ = zipf(256, 8)
    found = kept_rows.best(table, 4 * 256 * 3, Importance.plain(table), itemsize=4)
    assert found == kept_rows.Plan(0, 2)


def test_a_budget_below_one_number_per_row_has_no_best() -> None:
    table, importance = zipf(256, 8)
    assert kept_rows.best(table, 4 * 190, importance, itemsize=4) is None
