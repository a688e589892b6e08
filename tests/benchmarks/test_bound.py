from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize, special
from support.rate_distortion import Cells, by_role, row_groups_by

from orientc.methods import per_group, transform_coding
from orientc.methods.importance import Importance
from orientc.methods.row_groups import row_groups_of
from orientc.modeling.factors import Factors

TOY = Cells(torch.tensor([8.0, 16, 8, 32, 4]).double(), torch.tensor([40.0, 20, 2, 0.5, 0.001]).double())


@pytest.mark.parametrize("bits", [1.0, 10.0, 60.0, 150.0, 400.0])
def test_the_bound_is_the_best_that_an_optimiser_finds(bits: float) -> None:
    """Each cell's bits a row are free from 0 up, the bits of all rows are held, and their cost is least."""
    rows, costs = TOY.rows.numpy(), TOY.costs.numpy()
    found = optimize.minimize(
        lambda own: special.logsumexp(np.log(costs) - own * np.log(4)),
        np.full(5, bits / rows.sum()),
        bounds=[(0, None)] * 5,
        constraints={"type": "eq", "fun": lambda own: rows @ own - bits},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.success
    assert TOY.cost(bits) == pytest.approx(np.exp(found.fun), rel=1e-5)


def test_cost_and_bits_are_each_others_inverse_and_end_where_nothing_is_stored() -> None:
    for bits in (0.5, 3.0, 20.0, 90.0, 400.0):
        assert TOY.bits(TOY.cost(bits)) == pytest.approx(bits)
    assert TOY.cost(0) == pytest.approx(float(TOY.costs.sum()))
    assert TOY.bits(2 * float(TOY.costs.sum())) == 0
    with pytest.raises(ValueError, match="no number of bits"):
        TOY.bits(0.0)


def gaussian() -> tuple[torch.Tensor, Importance]:
    """Gaussian rows that vary less in some directions, under an importance that has others; few of them heavy."""
    table = torch.randn(4096, 16, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -1, 16)
    return table, Importance(torch.eye(16, dtype=torch.float64) + 0.3, 1000 / torch.arange(1, 4097).double())


def codes_above_bound(factors: Factors, table: torch.Tensor, importance: Importance) -> float:
    cells = Cells.of(table, importance, row_groups_of(importance.weights))
    return by_role(factors.tensors)["code"] / cells.bits(importance.cost(factors, table))


@pytest.mark.parametrize("nbytes", [18_000, 24_000, 32_000, 48_000])
def test_no_code_of_gaussian_numbers_lies_below_it(nbytes: int) -> None:
    table, importance = gaussian()
    factors = transform_coding.transform_code(table, nbytes, importance, dtype=torch.float32)
    assert factors is not None
    assert 1 < codes_above_bound(factors, table, importance) < 2


@pytest.mark.parametrize("bits", [1, 3, 6])
def test_nor_does_rounding_of_the_rows_themselves(bits: int) -> None:
    table, importance = gaussian()
    factors = per_group.quantize_per_group(Factors.plain(table), [[bits]], group_size=16, importance=importance.matrix)
    assert codes_above_bound(factors, table, importance) > 1


def test_numbers_that_are_no_gaussians_can_lie_below_it() -> None:
    """Signs are exact with a bit each: what the bound says of Gaussians it does not say of them."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(4096, 16, generator=generator).sign()
    importance = Importance(torch.eye(16, dtype=torch.float64), torch.ones(4096, dtype=torch.float64))
    factors = per_group.quantize_per_group(Factors.plain(table), [[1]], group_size=16, importance=importance.matrix)
    cells = Cells.of(table, importance, [torch.arange(4096)])
    assert importance.cost(factors, table) < 1e-6 * cells.cost(4096 * 16)


def test_tensors_are_told_by_their_role_and_unknown_ones_by_their_name() -> None:
    tensors = {
        "latents.0.codes": torch.zeros(10, 3, dtype=torch.uint8),
        "latents.0.scales": torch.zeros(5, dtype=torch.float16),
        "latents.0.offsets": torch.zeros(5, dtype=torch.float16),
        "latents.row_groups": torch.zeros(10, dtype=torch.uint8),
        "latents.0.levels": torch.zeros(256, dtype=torch.float16),
        "decoder.weight": torch.zeros(8, 5, dtype=torch.int8),
        "decoder.scales": torch.zeros(5, dtype=torch.float16),
        "kept.ids": torch.zeros(2, dtype=torch.int32),
        "kept.rows": torch.zeros(2, 8),
    }
    assert by_role(tensors) == {
        "code": 240, "scales": 160, "row-group ids": 80, "levels": 4096, "decoder": 400, "kept": 576,
    }  # fmt: skip
    assert by_role({"latents": torch.zeros(4, 2)}) == {"code": 256}


def test_finer_row_groups_have_every_row_once_heaviest_first() -> None:
    weights = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups = row_groups_by(weights, 2**0.5, 64)
    assert torch.cat(groups).sort().values.tolist() == list(range(1000))
    assert len(groups) == 8
    means = [float(weights[ids].min()) for ids in groups]
    assert means == sorted(means, reverse=True)
