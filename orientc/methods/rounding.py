"""Uniform quantization: nearest codes, and the best of several scales and offsets for each column."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_HALF = torch.finfo(torch.float16)


def nearest(values: Tensor, scale: Tensor, offset: Tensor, bits: int) -> Tensor:
    """The codes, 0 to `2**bits - 1`, whose `code · scale + offset` are nearest to the values, as whole floats."""
    return ((values - offset) / scale).round_().clamp_(0, (1 << bits) - 1)


def squared_errors(values: Tensor, scale: Tensor, offset: Tensor, bits: int) -> Tensor:
    """Squared errors of rounding values `[..., columns]` to codes; scale and offset are float32 `[columns]`."""
    return nearest(values, scale, offset, bits).mul_(scale).add_(offset).sub_(values).square_()


def float16_scale(scale: Tensor) -> Tensor:
    """Round scales to positive float16 numbers."""
    return scale.clamp(_HALF.tiny, _HALF.max).half()


def best_scale(
    values: Tensor, bits: int, candidates: Iterable[tuple[Tensor, Tensor]], total: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose for each column the scale and offset with the least squared error.

    Args:
        values: Float32 `[n, columns]`.
        bits: Bits of a code.
        candidates: Scales and offsets to try, float16 `[columns]`.
        total: Sums squared errors `[n, columns]` over the rows.

    Returns:
        Scales and offsets, float16 `[columns]`, and the errors, float32 `[columns]`. Where no candidate has a finite
        error, the scale is infinite.
    """
    error = torch.full_like(values[0], torch.inf)
    scale = offset = error.half()
    for step, base in candidates:
        found = total(squared_errors(values, step.float(), base.float(), bits))
        better = found < error
        error = torch.where(better, found, error)
        scale, offset = torch.where(better, step, scale), torch.where(better, base, offset)
    return scale, offset, error
