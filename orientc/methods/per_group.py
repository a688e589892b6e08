"""Latents to codes of few bits: a scale and an offset per row and group of columns, errors fed back.

The rounding is the second-order one known from Optimal Brain Surgeon and GPTQ (arXiv 2210.17323): columns are rounded
one after the other, and what rounding one does to the result is made up for, as far as that goes, by those to come.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orientc.methods.row_groups import Parts, put_together
from orientc.modeling.factors import Factors
from orientc.modeling.layout import PER_GROUP
from orientc.modeling.packing import pack

_BLOCK = 4096  # rows rounded together: what caches hold
_SHRINKS = tuple(1 - step / 16 for step in range(10))  # of a group's range: clipping a few numbers can pay
_DAMPING = 1e-2  # of the mean of the importance's diagonal, as GPTQ does


def feedback(importance: Tensor) -> Tensor | None:
    """The upper Cholesky factor of the inverse of a importance `[rank, rank]`, float32; None for a multiple of I.

    Row j says what an error of column j asks of the columns to come.
    """
    diagonal = importance.diagonal()
    scale = diagonal.mean()
    even = scale * torch.eye(len(importance), dtype=importance.dtype, device=importance.device)
    if (importance - even).abs().max() <= 1e-4 * scale:
        return None
    damped = importance + _DAMPING * even
    upper: Tensor = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True).float()
    return upper


@torch.no_grad()
def quantize_per_group(
    factors: Factors,
    bits: Sequence[Sequence[int]],
    *,
    group_size: int,
    importance: Tensor,
    row_groups: Sequence[Tensor] | None = None,
) -> Factors:
    """The same table with its plain latents in codes.

    Each `group_size` columns of a row share a scale and an offset; rows of row group t have `bits[t][g]` bits for each column of
    group g, 0 for none. `row_groups` are the rows' ids, ascending, of each row group; one of all rows unless given. `importance
    [rank, rank]` is that of the latents: its errors are fed back.
    """
    latents, correction = factors.latents.float(), feedback(importance)
    if row_groups is None:
        row_groups = [torch.arange(len(latents), device=latents.device)]
    parts = (rounded(latents[rows], own, group_size, correction) for rows, own in zip(row_groups, bits, strict=True))
    return put_together(factors, PER_GROUP, bits, group_size=group_size, row_groups=row_groups, parts=parts)


def rounded(latents: Tensor, bits: Sequence[int], group_size: int, correction: Tensor | None) -> Parts:
    """Packed codes (uint8), scales and offsets (float16) of latents `[rows, rank]`, `bits` for each group."""
    parts = [_rounded_block(block, bits, group_size, correction) for block in latents.split(_BLOCK)]
    if not parts:
        parts = [_rounded_block(latents, bits, group_size, correction)]
    codes, scales, offsets = zip(*parts, strict=True)
    return torch.cat(codes), torch.cat(scales), torch.cat(offsets)


def _rounded_block(latents: Tensor, bits: Sequence[int], group_size: int, correction: Tensor | None) -> Parts:
    columns = latents.T.contiguous().float()  # a column at a time is what is worked on
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


def nearest(values: Tensor, scale: Tensor, offset: Tensor, bits: int) -> Tensor:
    """The codes whose `code · scale + offset` come nearest to some values, whole numbers as floats."""
    return ((values - offset) / scale).round_().clamp_(0, (1 << bits) - 1)


def scale_and_offset(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Scale and offset (float16, one per column) for `values [numbers, columns]` with the least squared error.

    Tried are the range of a column's values, and that range shrunk about its middle.
    """
    low, high = values.amin(0), values.amax(0)
    middle, most = (low + high) / 2, (1 << bits) - 1
    best = torch.full_like(low, torch.inf)
    scale, offset = high.half(), low.half()  # infinite, and to be refused, where no range fits into float16
    least = torch.finfo(torch.float16).tiny
    for shrink in _SHRINKS[: max(1, 14 - 2 * bits)]:  # the more bits, the less it pays
        from_low = middle + (low - middle) * shrink
        step = ((high - low) * (shrink / most)).clamp(least, torch.finfo(torch.float16).max).half()
        base = from_low.half()
        wide, under = step.float(), base.float()
        codes = nearest(values, wide, under, bits)
        error = (codes.mul_(wide).add_(under).sub_(values)).square_().sum(0)
        better = error < best
        best = torch.where(better, error, best)
        scale, offset = torch.where(better, step, scale), torch.where(better, base, offset)
    return scale, offset
