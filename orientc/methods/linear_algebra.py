"""Linear algebra on whole tables, block by block: Gram matrix, row norms, principal directions.

A matrix `[dim, dim]` of a wide table takes hundreds of MB: functions that say so work in place.
"""

from __future__ import annotations

from collections.abc import Callable

import scipy.linalg
import torch
from torch import Tensor

from orientc.methods.table_rows import TableRows
from orientc.modeling.factors import rows_at_once

STRIP = 512  # rows or columns of a matrix [dim, dim] at a time
_STRIPS = 8  # a Gram matrix is computed in strips from the diagonal on: 9/16 of the work


@torch.no_grad()
def map_rows(
    table: TableRows, width: int, function: Callable[[Tensor], Tensor], *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Apply a function to a table, some MB of rows at a time.

    The result is allocated first: blocks of it made between larger temporaries would leave gaps in memory.

    Args:
        table: `[rows, dim]` of any float type.
        width: Width of the result.
        function: Takes a block `[n, dim]` to `[n, width]`.
        dtype: Type of the result.

    Returns:
        `[rows, width]`.
    """
    result = torch.empty(len(table), width, dtype=dtype, device=table.device)
    size = rows_at_once(table.shape[1])
    for block, part in zip(table.split(size), result.split(size), strict=True):
        part.copy_(function(block))
    return result


def gram(table: TableRows, mean: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """The Gram matrix `(E − mean)ᵀ F (E − mean)` with the weights on the diagonal of F.

    Args:
        table: E, `[vocab, dim]` of any float type.
        mean: A row to subtract, float64 `[dim]`.
        weights: Float64 `[vocab]`; all 1 unless given.

    Returns:
        Float64 `[dim, dim]`.
    """
    dim = table.shape[1]
    return add_gram(torch.zeros(dim, dim, dtype=torch.float64, device=table.device), table, mean, weights)


def add_gram(total: Tensor, table: TableRows, mean: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """Add a Gram matrix to `total`, float64 `[dim, dim]`, in place; the other arguments are those of `gram`."""
    dim = table.shape[1]
    width, size = -(-dim // _STRIPS), rows_at_once(dim)
    for start in range(0, len(table), size):
        rows = table[start : start + size].double()
        if mean is not None:
            rows = rows - mean
        weighted = rows if weights is None else rows * weights[start : start + size].unsqueeze(1)
        for left in range(0, dim, width):
            strip = slice(left, left + width)
            total[strip, left:].addmm_(rows[:, strip].T, weighted[:, left:])
    return mirror(total)


def mirror(matrix: Tensor) -> Tensor:
    """Copy what is above the diagonal to below it, in place."""
    width = -(-len(matrix) // _STRIPS)
    for left in range(0, len(matrix), max(1, width)):
        strip = slice(left, left + width)
        own = matrix[strip, strip]
        own.copy_(own.triu() + own.triu(1).T)
        matrix[left + width :, strip] = matrix[strip, left + width :].T
    return matrix


def norms(table: TableRows) -> Tensor:
    """Euclidean norms of the rows, float32 `[vocab]`, of a table `[vocab, dim]` of any float type."""
    return map_rows(table, 1, lambda rows: rows.float().norm(dim=1, keepdim=True)).squeeze(1)


def column_deviations(table: TableRows) -> Tensor:
    """Standard deviations of the columns, float64 `[dim]`, of a table `[vocab, dim]` of any float type."""
    first = second = torch.zeros(table.shape[1], dtype=torch.float64, device=table.device)
    shift = table[:1].double().squeeze(0)
    for rows in table.split(rows_at_once(table.shape[1])):
        own = rows.double() - shift
        first, second = first + own.sum(0), second + own.square().sum(0)
    return (second / len(table) - (first / len(table)).square()).clamp_min(0).sqrt()


def principal_directions(covariance: Tensor, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Eigenvectors and eigenvalues of a symmetric matrix, largest first.

    For a Gram matrix they are the table's right singular vectors and squared singular values: `EᵀE = V S² Vᵀ`. The
    sign of each vector is fixed (its largest entry is positive), so that it does not depend on the LAPACK in use.

    On a CPU LAPACK's `syevr` needs no memory beside the matrix and the vectors; `syevd`, which torch calls, needs
    twice the matrix beside both.

    Args:
        covariance: Float64 `[dim, dim]`. Its numbers are lost.
        count: How many; all unless given.

    Returns:
        The eigenvectors as columns, `[dim, count]`, and the eigenvalues, `[count]`.
    """
    count = len(covariance) if count is None else min(count, len(covariance))
    covariance = covariance.neg_()  # the largest come first
    if covariance.device.type == "cpu":
        found = scipy.linalg.eigh(
            covariance.numpy().T, lower=False, overwrite_a=True, driver="evr", subset_by_index=[0, count - 1]
        )
        values, vectors = map(torch.from_numpy, found)
    else:
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values[:count], vectors[:, :count]
    for column in vectors.split(STRIP, dim=1):
        largest = column.gather(0, column.abs().argmax(dim=0, keepdim=True))
        column.mul_(largest.sign())
    return vectors, values.neg_().clamp_min_(0)


def eigenvalues(matrix: Tensor) -> Tensor:
    """Eigenvalues of a symmetric matrix, smallest first, `[dim]`, with nothing below 0.

    Args:
        matrix: Float64 `[dim, dim]`. Its numbers are lost.
    """
    if matrix.device.type == "cpu":
        found = scipy.linalg.eigh(matrix.numpy().T, lower=False, overwrite_a=True, driver="evr", eigvals_only=True)
        values: Tensor = torch.from_numpy(found)
    else:
        values = torch.linalg.eigvalsh(matrix)
    return values.clamp_min_(0)


def cholesky(matrix: Tensor) -> Tensor:
    """The Cholesky factor L of a positive definite matrix LLᵀ, lower triangular.

    Args:
        matrix: Float64 `[dim, dim]`. Its numbers are lost.
    """
    if matrix.device.type != "cpu":
        found: Tensor = torch.linalg.cholesky(matrix)
        return found
    factor: Tensor = torch.from_numpy(scipy.linalg.cholesky(matrix.numpy().T, lower=True, overwrite_a=True))
    return factor


def congruent(matrix: Tensor, factor: Tensor) -> Tensor:
    """The product `Lᵀ C L` in the place of C; only its lower triangle, the diagonal with it, is made.

    Args:
        matrix: C, symmetric, float64 `[dim, dim]`.
        factor: L, float64 or float32 `[dim, dim]`, lower triangular.
    """
    width = max(1, -(-len(matrix) // _STRIPS))
    starts = range(0, len(matrix), width)
    for left in starts:  # the columns of L have zeros above, and those of C to the right are there still
        strip = slice(left, left + width)
        matrix[:, strip] = matrix[:, left:] @ factor[left:, strip].to(matrix)
    for top in starts:
        strip, before = slice(top, top + width), slice(0, top + width)
        matrix[strip, before] = factor[top:, strip].T.to(matrix) @ matrix[top:, before]
    return matrix
