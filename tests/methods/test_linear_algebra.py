from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orientc.methods import linear_algebra

SIZES = [1, 2, 7, 8, 9, 40]


def positive(size: int) -> Tensor:
    root = torch.randn(size, size + 3, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    return root @ root.T


@pytest.mark.parametrize("size", SIZES)
def test_a_few_directions_are_the_first_of_all(size: int) -> None:
    matrix = positive(size)
    vectors, values = linear_algebra.principal_directions(matrix.clone())
    few, largest = linear_algebra.principal_directions(matrix.clone(), max(1, size // 2))
    torch.testing.assert_close(matrix @ vectors, vectors * values)
    torch.testing.assert_close(few, vectors[:, : max(1, size // 2)])
    torch.testing.assert_close(largest, values[: max(1, size // 2)])
    torch.testing.assert_close(linear_algebra.eigenvalues(matrix.clone()).flip(0), values)
    assert (vectors.gather(0, vectors.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_only_the_lower_triangle_of_a_congruent_matrix_is_made_and_read(size: int) -> None:
    matrix, metric = positive(size), positive(size) + torch.eye(size).double()
    factor = linear_algebra.cholesky(metric.clone())
    torch.testing.assert_close(factor @ factor.T, metric)
    assert torch.equal(factor, factor.tril())
    expected = factor.T @ matrix @ factor
    found = linear_algebra.congruent(matrix.clone(), factor)
    torch.testing.assert_close(found.tril(), expected.tril())
    found += torch.full((size, size), 7.0).triu(1)
    torch.testing.assert_close(linear_algebra.eigenvalues(found.clone()), torch.linalg.eigvalsh(expected))
    torch.testing.assert_close(linear_algebra.principal_directions(found)[1], torch.linalg.eigvalsh(expected).flip(0))


@pytest.mark.parametrize("size", SIZES)
def test_a_gram_matrix_is_added_to_in_place(size: int) -> None:
    rows, total = torch.randn(30, size), positive(size)
    expected = total + rows.double().T @ rows.double()
    assert linear_algebra.add_gram(total, rows) is total
    torch.testing.assert_close(total, expected)
    assert torch.equal(total, total.T)
