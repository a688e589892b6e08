from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orientc.methods.ggml_fit import code_in_blocks
from orientc.modeling.ggml_types import BLOCK_TYPES

EVERY = pytest.mark.parametrize("block", BLOCK_TYPES)
ROWS, WIDTH = 40, 512


def table(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, WIDTH, generator=generator) * torch.linspace(0.2, 2, WIDTH)


def skewed() -> Tensor:
    """An importance matrix whose directions differ a hundredfold."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)).Q
    return basis @ torch.diag(torch.logspace(0, -2, WIDTH, dtype=torch.float64)) @ basis.T


def cost(found: Tensor, rows: Tensor, importance: Tensor) -> float:
    change = (found - rows).double()
    return float(((change @ importance) * change).sum())


@EVERY
def test_numbers_that_blocks_can_hold_are_held(block: str) -> None:
    """What was coded once is coded again to itself, or as near as float16 scales get."""
    once = code_in_blocks(table(), block, torch.eye(WIDTH, dtype=torch.float64)).dense()
    again = code_in_blocks(once, block, torch.eye(WIDTH, dtype=torch.float64)).dense()
    assert (again - once).square().mean() <= 0.12 * (once - table()).square().mean()


@EVERY
def test_errors_follow_the_bits(block: str) -> None:
    found = code_in_blocks(table(), block, torch.eye(WIDTH, dtype=torch.float64)).dense()
    error = float((found - table()).square().mean() / table().square().mean())
    bits = BLOCK_TYPES[block].bits
    assert 0.05 * 4.0**-bits < error < 2.2 * 4.0**-bits


@EVERY
def test_by_an_importance_matrix_less_is_lost(block: str) -> None:
    importance, rows = skewed(), table()
    plain = code_in_blocks(rows, block, torch.eye(WIDTH, dtype=torch.float64)).dense()
    weighed = code_in_blocks(rows, block, importance).dense()
    assert cost(weighed, rows, importance) < 0.7 * cost(plain, rows, importance)


@EVERY
@pytest.mark.parametrize("importance", ["even", "skewed"])
def test_rows_of_zeros_and_of_one_number_are_finite(block: str, importance: str) -> None:
    rows = torch.stack([torch.zeros(WIDTH), torch.full((WIDTH,), 0.25), torch.full((WIDTH,), -3.0)])
    rows[1, ::64] = 1e-9
    matrix = skewed() if importance == "skewed" else torch.eye(WIDTH, dtype=torch.float64)
    found = code_in_blocks(rows, block, matrix).dense()
    assert found[0].abs().max() == 0
    assert found.isfinite().all()
    assert (found[2] + 3).abs().max() < 0.5


def test_rows_are_coded_alike_whatever_is_coded_with_them() -> None:
    importance, rows = skewed(), table()
    whole = code_in_blocks(rows, "Q4_0", importance).dense()
    torch.testing.assert_close(code_in_blocks(rows[3:5], "Q4_0", importance).dense(), whole[3:5], rtol=0.2, atol=0.2)
