"""Quantize latents to codes with per-channel scales: a scale and an offset per column, shared by a row group's rows.

Scales of each row's own, at 64 columns a scale, take half a bit of each number: more than they gain where the rows of a
row group are alike and errors of different columns add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orientc.methods.rounding import best_scale, float16_scale, nearest
from orientc.methods.row_groups import CodedRows, coded_factors, spread_sample
from orientc.modeling.factors import Factors
from orientc.modeling.layout import MOST_BITS, PER_CHANNEL
from orientc.modeling.packing import pack

_SAMPLE = 2048  # rows of a row group that scales are chosen on
_RANGES = tuple(0.75 * 1.2**step for step in range(14))  # factors of a Gaussian's best range; heavy tails need more


@dataclass(frozen=True)
class ChannelScales:
    """The best scales and offsets of a row group's columns at every number of bits.

    Attributes:
        scales: For 1 to 8 bits, float16 `[8, columns]`.
        offsets: For 1 to 8 bits, float16 `[8, columns]`.
        costs: The row group's weighted squared errors at 0 to 8 bits, float64 `[9, columns]`.
    """

    scales: Tensor
    offsets: Tensor
    costs: Tensor


def channel_scales(latents: Tensor, rows: Tensor, weights: Tensor) -> ChannelScales:
    """Choose per-channel scales and offsets of a row group by weighted squared error on a sample of its rows.

    Levels are evenly spaced about a column's weighted mean. The ranges tried are multiples of the best one for a
    Gaussian, half of which is about 1.26 + 0.34 · bits standard deviations (Max 1960, "Quantizing for minimum
    distortion", table II).

    Args:
        latents: `[all rows, columns]`.
        rows: Ids of the row group's rows, `[n]`.
        weights: Weights of all rows, float64 `[all rows]`.
    """
    sampled = spread_sample(rows, _SAMPLE)
    sample, share = latents[sampled].float(), weights[sampled].float()
    share = share / share.sum()
    mean = share @ sample
    centred = sample - mean
    deviation, reach = (share @ centred.square()).sqrt(), centred.abs().amax(0)
    zeroed = share @ sample.square()
    errors, scales, offsets = [zeroed], [], []

    def candidates(bits: int) -> Iterator[tuple[Tensor, Tensor]]:
        for factor in _RANGES[: 4 + bits]:
            half = torch.minimum(deviation * (factor * (1.26 + 0.34 * bits)), reach)
            step = float16_scale(half * 2 ** (1 - bits))
            yield step, (mean - step.float() * (2**bits - 1) / 2).half()

    for bits in range(1, MOST_BITS + 1):
        scale, offset, error = best_scale(sample, bits, candidates(bits), lambda errors: share @ errors)
        errors.append(error)
        scales.append(scale)
        offsets.append(offset)
    whole = torch.zeros_like(zeroed, dtype=torch.float64)
    for part in rows.split(_SAMPLE):
        whole += weights[part].double() @ latents[part].double().square()
    costs = torch.stack(errors).double() * (whole / zeroed.double().clamp_min(torch.finfo(torch.float64).tiny))
    return ChannelScales(torch.stack(scales), torch.stack(offsets), costs)


@torch.no_grad()
def quantize_per_channel(
    factors: Factors,
    bits: Sequence[Sequence[int]],
    scales: Sequence[ChannelScales],
    *,
    group_size: int,
    row_groups: Sequence[Tensor],
) -> Factors:
    """Quantize the latents of a compressed table to codes with per-channel scales.

    Args:
        factors: A table whose latents are stored as numbers.
        bits: For each row group the bits of each group of columns, 0 to 8; with 0 bits latents become 0.
        scales: The scales of each row group.
        group_size: Columns of a group.
        row_groups: The ids of the rows of each row group, ascending.

    Returns:
        The same table with its latents in codes.
    """
    latents = factors.latents
    coded = (
        _quantize_rows(latents[rows], widths, own, group_size)
        for rows, widths, own in zip(row_groups, bits, scales, strict=True)
    )
    return coded_factors(factors, PER_CHANNEL, bits, group_size=group_size, row_groups=row_groups, coded=coded)


def _quantize_rows(latents: Tensor, bits: Sequence[int], chosen: ChannelScales, group_size: int) -> CodedRows:
    codes, scales, offsets = [], [], []
    for number, width in enumerate(bits):
        if width:
            own = slice(number * group_size, min((number + 1) * group_size, latents.shape[1]))
            scale, offset = chosen.scales[width - 1, own], chosen.offsets[width - 1, own]
            found = nearest(latents[:, own].float(), scale.float(), offset.float(), width)
            codes.append(pack(found.to(torch.uint8), width))
            scales.append(scale)
            offsets.append(offset)
    return torch.cat(codes, dim=1), torch.cat(scales), torch.cat(offsets)
