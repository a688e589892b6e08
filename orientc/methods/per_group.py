"""Quantize latents to codes with a scale and an offset per row and group of columns, with error feedback.

The rounding is that of GPTQ (arXiv 2210.17323), from Optimal Brain Surgeon: columns are rounded one after the other,
and the columns to come make up for the error of each as far as the importance matrix allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from orientc.methods.linear_algebra import STRIP, cholesky
from orientc.methods.rounding import best_scale, float16_scale, nearest
from orientc.methods.row_groups import CodedRows, coded_factors
from orientc.methods.table_rows import TableRows, some_rows
from orientc.modeling.factors import Factors
from orientc.modeling.layout import PER_GROUP, Layout, packed_bytes
from orientc.modeling.packing import pack

_BLOCK = 4096  # rows rounded together: what caches hold
_NUMBERS = 1 << 24  # at most of them
_SHRINKS = tuple(1 - step / 16 for step in range(10))  # factors of a group's range: clipping a few numbers can pay
_DAMPING = 1e-2  # added to the diagonal of the importance matrix, in shares of its mean, as in GPTQ


def error_feedback(importance: Tensor | None) -> Tensor | None:
    """GPTQ's feedback matrix: the upper Cholesky factor of the inverse of the damped importance matrix.

    Row j, divided by its diagonal entry, times the error of column j is what the columns to come are lowered by.

    Args:
        importance: The importance matrix of the latents, `[rank, rank]`; None for the identity.

    Returns:
        Float32 `[rank, rank]`; None where the matrix is a multiple of the identity, which needs no feedback.
    """
    if importance is None:
        return None
    diagonal = importance.diagonal().double()
    scale = diagonal.mean()
    apart = (diagonal - scale).abs().max()
    for start, rows in zip(range(0, len(importance), STRIP), importance.split(STRIP), strict=True):
        own = rows.clone()
        own.diagonal(start).zero_()
        apart = torch.maximum(apart, own.abs().max())
    if apart <= 1e-4 * scale:
        return None
    # With the columns in reverse order A is LLᵀ; then A⁻¹ is UᵀU with the inverse of L, in reverse order, as U.
    damped = importance.flip(0, 1).double()
    damped.diagonal().add_(_DAMPING * scale)
    factor = cholesky(damped)
    upper = torch.empty_like(importance, dtype=torch.float32)
    for start in range(0, len(upper), STRIP):
        unit = torch.zeros(len(upper), min(STRIP, len(upper) - start), dtype=torch.float64, device=upper.device)
        unit.diagonal(-start).fill_(1)
        columns = torch.linalg.solve_triangular(factor, unit, upper=False)
        end = len(upper) - start
        upper[:, end - columns.shape[1] : end] = columns.flip(0, 1)
    return upper


@torch.no_grad()
def quantize_per_group(
    factors: Factors,
    bits: Sequence[Sequence[int]],
    *,
    group_size: int,
    importance: Tensor | None,
    row_groups: Sequence[Tensor] | None = None,
) -> Factors:
    """Quantize the latents of a compressed table to codes with a scale and an offset per row and group of columns.

    Args:
        factors: A table whose latents are stored as numbers.
        bits: For each row group the bits of each group of columns, 0 to 8; with 0 bits latents become 0.
        group_size: Columns of a group.
        importance: The importance matrix of the latents, `[rank, rank]`; None for the identity.
        row_groups: The ids of the rows of each row group, ascending; one row group of all rows unless given.

    Returns:
        The same table with its latents in codes.
    """
    return _quantize(factors, factors.latents, bits, group_size, importance, row_groups)


@torch.no_grad()
def quantize_table(
    table: TableRows,
    bits: Sequence[Sequence[int]],
    *,
    group_size: int,
    importance: Tensor | None,
    row_groups: Sequence[Tensor] | None = None,
) -> Factors:
    """Quantize the rows of a table `[vocab, dim]`, which are their own latents; else as `quantize_per_group` does."""
    vocab, dim = table.shape
    return _quantize(
        Factors(Layout(vocab, dim, dim, decoder=False), {}), table, bits, group_size, importance, row_groups
    )


def _quantize(
    factors: Factors,
    latents: TableRows,
    bits: Sequence[Sequence[int]],
    group_size: int,
    importance: Tensor | None,
    row_groups: Sequence[Tensor] | None,
) -> Factors:
    correction = error_feedback(importance)
    if row_groups is None:
        row_groups, parts = [torch.arange(len(latents), device=latents.device)], [latents]
    else:
        parts = [some_rows(latents, rows) for rows in row_groups]
    coded = (quantize_rows(part, own, group_size, correction) for part, own in zip(parts, bits, strict=True))
    return coded_factors(factors, PER_GROUP, bits, group_size=group_size, row_groups=row_groups, coded=coded)


def quantize_rows(latents: TableRows, bits: Sequence[int], group_size: int, correction: Tensor | None) -> CodedRows:
    """Quantize the rows of one row group, some of them at a time.

    Args:
        latents: `[rows, rank]` of any float type.
        bits: Bits of each group of columns.
        group_size: Columns of a group.
        correction: The matrix of `error_feedback`, if any.

    Returns:
        Packed codes, uint8 `[rows, bytes]`, and scales and offsets, float16 `[rows, groups with bits]`.
    """
    (rows, rank), device = latents.shape, latents.device
    widths = [min(group_size, rank - number * group_size) for number in range(len(bits))]
    nbytes = sum(packed_bytes(width, own) for width, own in zip(widths, bits, strict=True))
    groups = sum(own > 0 for own in bits)
    found = (  # allocated first: parts that are concatenated would be held twice
        torch.empty(rows, nbytes, dtype=torch.uint8, device=device),
        torch.empty(rows, groups, dtype=torch.float16, device=device),
        torch.empty(rows, groups, dtype=torch.float16, device=device),
    )
    size = max(1, min(_BLOCK, _NUMBERS // rank))
    for start, block in zip(range(0, rows, size), latents.split(size), strict=False):
        for whole, part in zip(found, _quantize_block(block, bits, group_size, correction), strict=True):
            whole[start : start + size] = part
    return found


def _quantize_block(latents: Tensor, bits: Sequence[int], group_size: int, correction: Tensor | None) -> CodedRows:
    columns = latents.T.contiguous().float()  # a column of all rows at a time
    packed, scales, offsets = [], [], []
    for number, width in enumerate(bits):
        start, end = number * group_size, min((number + 1) * group_size, len(columns))
        own = columns[start:end]
        if width:
            scale, offset = scale_and_offset(own, width)
            scales.append(scale)
            offsets.append(offset)
            scale, offset = scale.float(), offset.float()
            codes = torch.empty_like(own)
        errors = torch.empty_like(own)
        for column in range(end - start):
            value = own[column]
            if width:
                code = nearest(value, scale, offset, width)
                codes[column] = code
                errors[column] = value - (code * scale + offset)
            else:
                errors[column] = value
            if correction is not None:
                at = start + column
                errors[column] /= correction[at, at]
                own[column + 1 :] -= correction[at, at + 1 : end].unsqueeze(1) * errors[column]
        if correction is not None and end < len(columns):
            columns[end:] -= correction[start:end, end:].T @ errors
        if width:
            packed.append(pack(codes.T.to(torch.uint8), width))
    return torch.cat(packed, dim=1), torch.stack(scales, 1), torch.stack(offsets, 1)


def scale_and_offset(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The scale and offset of least squared error for each column, among its range and that range shrunk.

    Args:
        values: Float32 `[numbers, columns]`.
        bits: Bits of a code.

    Returns:
        Float16 `[columns]` each.
    """
    low, high = values.amin(0), values.amax(0)
    middle, most = (low + high) / 2, (1 << bits) - 1

    def candidates() -> Iterator[tuple[Tensor, Tensor]]:
        for shrink in _SHRINKS[: max(1, 14 - 2 * bits)]:  # the more bits, the less it pays
            yield float16_scale((high - low) * (shrink / most)), (middle + (low - middle) * shrink).half()

    scale, offset, _ = best_scale(values, bits, candidates(), lambda errors: errors.sum(0))
    return scale, offset
