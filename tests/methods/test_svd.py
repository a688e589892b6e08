from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from orientc.methods import linear_algebra, svd
from orientc.methods.importance import Importance
from orientc.modeling.factors import Factors


def truncation_error(table: Tensor, factors: Factors, rank: int, *, center: bool = False) -> float:
    """Relative Frobenius distance to NumPy's float64 truncation."""
    values = table.double().numpy()
    mean = values.mean(axis=0) if center else np.zeros(values.shape[1])
    left, singular, right = np.linalg.svd(values - mean, full_matrices=False)
    expected = (left[:, :rank] * singular[:rank]) @ right[:rank] + mean
    return float(np.linalg.norm(factors.dense().double().numpy() - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("vocab", "dim", "rank"), [(500, 24, 7), (40, 64, 9), (9000, 16, 16), (50, 8, 1)])
def test_equals_numpys_truncation(vocab: int, dim: int, rank: int, dtype: torch.dtype, center: bool) -> None:
    generator = torch.Generator().manual_seed(vocab)
    table = (torch.randn(vocab, dim, generator=generator) * torch.linspace(3, 0.1, dim) + 0.5).to(dtype)
    factors = svd.truncated_svd(table, rank, center=center)
    assert truncation_error(table, factors, rank, center=center) < 1e-5
    assert (factors.bias is not None) == center
    assert factors.weight is not None
    assert (factors.latents.shape, factors.weight.shape) == ((vocab, rank), (dim, rank))
    assert factors.latents.dtype == factors.weight.dtype == torch.float32


def test_latents_are_the_table_times_the_decoder() -> None:
    table = torch.randn(60, 10)
    factors = svd.truncated_svd(table, 4)
    assert factors.weight is not None
    torch.testing.assert_close(factors.latents, table @ factors.weight)
    torch.testing.assert_close(factors.weight.T @ factors.weight, torch.eye(4))


def test_a_rank_deficient_table_is_reproduced() -> None:
    table = torch.randn(60, 3) @ torch.randn(3, 10)
    torch.testing.assert_close(svd.truncated_svd(table, 5).dense(), table, atol=1e-4, rtol=1e-4)


def in_float64(table: Tensor, rank: int, center: bool) -> Factors:
    """The baseline without a shortcut: rounded once, when all is done."""
    mean = table.double().mean(dim=0) if center else None
    covariance = torch.zeros(table.shape[1], table.shape[1], dtype=torch.float64)
    for block in table.split(2048):
        rows = block.double() if mean is None else block.double() - mean
        covariance += rows.T @ rows
    vectors = torch.linalg.eigh(covariance)[1].flip(1)
    kept = (vectors * vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign())[:, :rank]
    latents = [
        ((block.double() if mean is None else block.double() - mean) @ kept).float() for block in table.split(2048)
    ]
    return Factors.plain(torch.cat(latents), kept.float(), None if mean is None else mean.float())


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_it_is_what_float64_gives_to_the_rounding_of_float32(dtype: torch.dtype, center: bool) -> None:
    table = torch.randn(4100, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    found, expected = svd.truncated_svd(table, 5, center=center), in_float64(table, 5, center)
    assert found.layout == expected.layout
    for name, tensor in found.tensors.items():
        torch.testing.assert_close(tensor, expected.tensors[name], atol=2e-6, rtol=1e-6)


def hard_tables() -> dict[str, Tensor]:
    """Tables on which a decomposition in float32 throughout would go wrong."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(3000, 24, generator=generator)
    left, right = torch.linalg.qr(table.double())[0], torch.linalg.qr(table[:24].double())[0]
    return {
        "fast decay": (left * torch.logspace(0, -9, 24, dtype=torch.float64) @ right).float(),
        "equal values": (left @ right).float(),
        "a large mean": table + 1000,
        "a constant column": torch.cat([table[:, :23], torch.full((3000, 1), 300.0)], dim=1),
        "huge and tiny rows": table * torch.logspace(-12, 12, 3000).unsqueeze(1),
        "huge": table * 1e15,
        "tiny": table * 1e-15,
        "zero rows": table * (torch.arange(3000) % 7 > 0).unsqueeze(1),
        "zeros": torch.zeros(30, 24),
    }


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("rank", [1, 10, 24])
@pytest.mark.parametrize("name", list(hard_tables()))
def test_its_error_is_that_of_float64_on_hard_tables_too(name: str, rank: int, center: bool) -> None:
    table = hard_tables()[name]
    errors = [
        torch.linalg.norm(factors.dense().double() - table.double())
        for factors in (svd.truncated_svd(table, rank, center=center), in_float64(table, rank, center))
    ]
    # where nothing is left out, what is left is rounding
    assert errors[0] <= errors[1] * (1 + 1e-6) + 2e-7 * torch.linalg.norm(table.double())


@pytest.mark.parametrize(("vocab", "dim"), [(5000, 37), (2048, 8), (1, 1), (3, 5), (0, 9)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_gram_matrix_is_that_of_float64(vocab: int, dim: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(dim)
    table, weights = torch.randn(vocab, dim, generator=generator), torch.rand(vocab, generator=generator).double()
    mean = torch.linspace(-1, 1, dim).double()
    rows = table.double() - mean
    expected = rows.T @ (rows * weights.unsqueeze(1) if weighted else rows)
    found = linear_algebra.gram(table, mean, weights if weighted else None)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-12)
    assert torch.equal(found, found.T)


def test_a_basis_makes_the_latents_of_any_rows() -> None:
    table = torch.randn(60, 10)
    basis, factors = svd.principal_basis(table, 4, center=True), svd.truncated_svd(table, 4, center=True)
    torch.testing.assert_close(basis.latents(table[7:9]), factors.latents[7:9])
    assert torch.equal(basis.decoder, factors.tensors["decoder.weight"])
    whole = svd.principal_basis(table)
    assert whole.rank == 10
    torch.testing.assert_close(whole.latents(table) @ whole.decoder.T, table)


def test_latents_are_made_in_the_type_they_are_stored_in() -> None:
    table = torch.randn(60, 10)
    whole, half = svd.truncated_svd(table, 4), svd.truncated_svd(table, 4, dtype=torch.float16)
    assert torch.equal(half.latents, whole.latents.half())
    assert half.weight is not None
    assert half.weight.dtype == torch.float32


# -- in a importance


def felt(vocab: int, dim: int) -> tuple[Tensor, Importance]:
    generator = torch.Generator().manual_seed(vocab)
    root = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    weights = 1000 / torch.arange(1, vocab + 1).double()
    return torch.randn(vocab, dim, generator=generator) + 0.3, Importance(
        root @ root.T + 0.01 * torch.eye(dim), weights
    )


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(("vocab", "dim", "rank"), [(300, 12, 5), (6, 12, 4), (300, 12, 12), (1, 3, 2)])
def test_in_a_metric_it_is_the_closed_form(vocab: int, dim: int, rank: int, center: bool) -> None:
    """The top right singular vectors of `F^½ (E − mean) A^½`, by NumPy in float64."""
    table, importance = felt(vocab, dim)
    rows, matrix, weights = table.double().numpy(), importance.matrix.numpy(), importance.weights.numpy()
    mean = weights @ rows / weights.sum() if center else np.zeros(dim)
    values, vectors = np.linalg.eigh(matrix)
    root, inverse = (vectors * values**power @ vectors.T for power in (0.5, -0.5))
    _, singular, right = np.linalg.svd(np.sqrt(weights)[:, None] * (rows - mean) @ root, full_matrices=False)
    kept = right[:rank].T
    expected = (rows - mean) @ root @ kept @ kept.T @ inverse + mean

    factors = svd.truncated_svd(table, rank, center=center, importance=importance)

    np.testing.assert_allclose(factors.dense().numpy(), expected, atol=1e-4)
    left_out = np.square(singular[rank:]).sum() / (2 * weights.sum())
    assert importance.cost(factors, table) == pytest.approx(left_out, rel=1e-3, abs=1e-7)
    assert importance.cost(svd.truncated_svd(table, rank, center=center), table) >= left_out * 0.999


def test_a_whole_basis_of_a_metric_loses_nothing_and_turns_its_cost_into_a_plain_one() -> None:
    table, importance = felt(300, 12)
    basis = svd.principal_basis(table, importance=importance)
    torch.testing.assert_close(basis.latents(table).float() @ basis.decoder.T, table)
    own = importance.in_latents(basis.decoder)
    assert own is not None
    torch.testing.assert_close(own / own.diagonal().mean(), torch.eye(12).double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_unit_of_a_metric_changes_nothing_also_in_float16(scale: float) -> None:
    table, importance = felt(300, 12)
    other = Importance(importance.matrix * scale, importance.weights)
    one, two = (svd.truncated_svd(table, 5, importance=own).to(torch.float16) for own in (importance, other))
    torch.testing.assert_close(one.dense(), two.dense(), atol=0.02, rtol=0.02)
    assert two.latents.isfinite().all()


@pytest.mark.assets
def test_equals_numpys_truncation_on_a_real_table(assets: Path) -> None:
    from orientc.models.source import ModelSource
    from orientc.models.table import read_table

    table = read_table(ModelSource.resolve(str(assets / "minilm-l6-mlm"))).weight
    assert truncation_error(table, svd.truncated_svd(table, 75), 75) < 1e-5
