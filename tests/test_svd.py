from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from orientc.factors import Factors
from orientc.methods import svd


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
    factors = svd.fit(table, rank, center=center)
    assert truncation_error(table, factors, rank, center=center) < 1e-5
    assert (factors.bias is not None) == center
    assert factors.weight is not None
    assert (factors.latents.shape, factors.weight.shape) == ((vocab, rank), (dim, rank))
    assert factors.latents.dtype == factors.weight.dtype == torch.float32


def test_latents_are_the_table_times_the_decoder() -> None:
    table = torch.randn(60, 10)
    factors = svd.fit(table, 4)
    assert factors.weight is not None
    torch.testing.assert_close(factors.latents, table @ factors.weight)
    torch.testing.assert_close(factors.weight.T @ factors.weight, torch.eye(4))


def test_a_rank_deficient_table_is_reproduced() -> None:
    table = torch.randn(60, 3) @ torch.randn(3, 10)
    torch.testing.assert_close(svd.fit(table, 5).dense(), table, atol=1e-4, rtol=1e-4)


@pytest.mark.assets
def test_equals_numpys_truncation_on_a_real_table(assets: Path) -> None:
    from orientc.models import ModelSource
    from orientc.tables import read_table

    table = read_table(ModelSource.resolve(str(assets / "minilm-l6-mlm"))).weight
    assert truncation_error(table, svd.fit(table, 75), 75) < 1e-5
