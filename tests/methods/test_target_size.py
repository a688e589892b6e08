from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.live_tensors import LiveTensors
from torch import Tensor

from orientc.errors import FitError
from orientc.methods import importance as importances
from orientc.methods import linear_algebra, per_group, svd, target_size, transform_coding
from orientc.methods.importance import Importance


def zipf(vocab: int = 1500, dim: int = 40, *, known: bool = True) -> tuple[Tensor, Importance]:
    """A table, and a importance with rows and directions that matter more than others."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(vocab, dim, generator=generator) * torch.logspace(0, -1, dim)
    root = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    weights = 1000 / torch.arange(1, vocab + 1).double()
    return table, Importance(root @ root.T + 0.1 * torch.eye(dim), weights, known)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("nbytes", [14_000, 16_000, 20_000, 33_000, 70_000, 10**7])
def test_the_form_chosen_costs_least_and_fits(nbytes: int, known: bool) -> None:
    table, importance = zipf(known=known)
    choice = target_size.fit_to_size(table, nbytes, importance, dtype=torch.float16)
    assert choice.factors.nbytes <= nbytes
    assert choice.costs[choice.form] == min(choice.costs.values())
    assert choice.costs[choice.form] == pytest.approx(importance.cost(choice.factors, table))
    assert choice.costs.keys() == ({"transform", "groups"} if nbytes >= 70_000 else {"transform"})
    assert choice.form == ("groups" if nbytes >= 70_000 else "transform")


def test_where_a_decoder_is_large_rows_are_rounded() -> None:
    table, importance = zipf(100, 96)
    choice = target_size.fit_to_size(table, 100 * 96 // 2, importance, dtype=torch.float16)
    assert choice.costs.keys() == {"transform", "groups"}
    assert choice.form == "groups"


def test_more_bytes_cost_less() -> None:
    table, importance = zipf()
    costs = []
    for nbytes in (5_000, 12_000, 20_000, 40_000, 60_000):
        choice = target_size.fit_to_size(table, nbytes, importance, dtype=torch.float16)
        costs.append(choice.costs[choice.form])
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("bits", [3, 4.5, 5, 6, 7])
def test_of_a_budget_little_is_left_over_where_nothing_is_known(bits: float) -> None:
    """Bits are in whole numbers, but not the same ones in all groups of columns."""
    table = torch.randn(1000, 192, generator=torch.Generator().manual_seed(0))
    nbytes = int(table.numel() * bits / 8)
    found = target_size.fit_to_size(table, nbytes, Importance.plain(table), dtype=torch.float16).factors
    assert 0.97 * nbytes < found.nbytes <= nbytes
    assert len(found.layout.row_group_sizes) == 1


def test_columns_with_larger_numbers_get_more_bits() -> None:
    table = torch.randn(600, 192, generator=torch.Generator().manual_seed(0))
    table[:, 64:128] *= 8
    found = target_size.quantized_rows(table, int(table.numel() * 4.5 / 8), Importance.plain(table).weights)
    assert found is not None
    assert found.layout.group_size == 64
    first, middle, last = found.layout.bits[0]
    assert first == last < middle


def test_the_same_again_gives_the_same() -> None:
    table, importance = zipf(600)
    one, other = (target_size.fit_to_size(table, 12_000, importance, dtype=torch.float16) for _ in range(2))
    assert one.costs == other.costs
    assert all(torch.equal(tensor, other.factors.tensors[name]) for name, tensor in one.factors.tensors.items())


@pytest.mark.parametrize("nbytes", [20_000, 33_000])
def test_all_that_is_made_is_made_where_the_table_is(nbytes: int) -> None:
    """What does not follow the table's device goes to the default one, here one that no number comes back from."""
    table, importance = zipf()
    expected = target_size.fit_to_size(table, nbytes, importance, dtype=torch.float16)
    with torch.device("meta"):
        assert target_size.fit_to_size(table, nbytes, importance, dtype=torch.float16).costs == expected.costs
        whole = transform_coding.transform_code(table, nbytes, importance, dtype=torch.float16)
    assert whole is not None
    assert {tensor.device.type for tensor in whole.tensors.values()} == {"cpu"}


@pytest.mark.parametrize(("form", "most"), [("transform", 2.6), ("all", 3.1)])
def test_of_matrices_as_wide_as_the_table_few_are_held_at_once(
    form: str, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In units of one in float64; the importance matrix is half a one, and there when the fit begins."""
    dim = 300
    table, importance = zipf(100, dim)
    importance = replace(importance, given=importance.matrix.float())
    for module in (importances, linear_algebra, per_group, svd, transform_coding):
        monkeypatch.setattr(module, "STRIP", 32)
    monkeypatch.setattr(transform_coding, "_ROWS", 32)
    unit = 8 * dim * dim
    with LiveTensors(unit // 2) as live:
        if form == "all":
            assert "transform" in target_size.fit_to_size(table, 100_000, importance, dtype=torch.float16).costs
        else:
            assert transform_coding.transform_code(table, 100_000, importance, dtype=torch.float16) is not None
    assert 2 * unit < live.peak < most * unit


def test_what_can_not_be_that_small_is_one_line() -> None:
    table, importance = zipf()
    with pytest.raises(FitError, match="as small as 2200 bytes: the target must leave it more") as caught:
        target_size.fit_to_size(table, 2200, importance, dtype=torch.float16)
    assert "\n" not in str(caught.value)
    least = target_size.fit_to_size(table, 2500, importance, dtype=torch.float16).factors
    assert least.nbytes <= 2500
    assert 1 <= least.rank < 8  # where the whole decoder would take 1600


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_numbers_beyond_float16_are_refused(dtype: torch.dtype) -> None:
    table, importance = zipf()
    with pytest.raises(FitError, match="float16 scales"):
        target_size.fit_to_size(table * 1e9, 20_000, importance, dtype=dtype)


@pytest.mark.parametrize("dim", [1, 3, 65, 66])
@pytest.mark.parametrize("vocab", [1, 2, 40])
def test_small_and_odd_tables_are_made_as_small_as_they_can_be(vocab: int, dim: int) -> None:
    for nbytes in (40, 200, 600, 2000, 9000):
        table, importance = zipf(vocab, dim)
        try:
            choice = target_size.fit_to_size(table, nbytes, importance, dtype=torch.float16)
        except FitError:
            assert nbytes < vocab * (-(-dim // 8) + 4)  # a bit for each number, a scale and an offset for each row
            continue
        assert choice.factors.nbytes <= nbytes
        assert choice.factors.dense().isfinite().all()


@pytest.mark.parametrize(
    ("bits", "tried"), [(8.5, {"Q8_0"}), (4.6, {"Q4_0", "IQ4_NL"}), (5.0, {"Q4_0", "Q4_1", "IQ4_NL"})]
)
def test_of_block_types_the_one_that_costs_least_is_taken(bits: float, tried: set[str]) -> None:
    table, importance = zipf(300, 96)
    choice = target_size.fit_blocks_to_size(table, int(table.numel() * bits / 8), importance)
    assert choice.costs.keys() == tried
    assert choice.form == choice.factors.layout.block == min(choice.costs, key=lambda name: choice.costs[name])
    assert choice.costs[choice.form] == pytest.approx(importance.cost(choice.factors, table))


@pytest.mark.parametrize(("dim", "said"), [(96, "the smallest takes 4.5"), (40, "none goes into 40 columns")])
def test_what_no_block_type_can_do_is_one_line(dim: int, said: str) -> None:
    table, importance = zipf(20, dim)
    with pytest.raises(FitError, match=said):
        target_size.fit_blocks_to_size(table, int(table.numel() * 4.4 / 8), importance)
