"""Latents to codes of few bits with a scale and an offset for each column, the same for all rows of a row group.

Where errors of different columns add up and rows of a row group are alike, scales of their own cost rows more than they
gain: at 64 columns a scale, half a bit of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orientc.methods.per_group import nearest
from orientc.methods.row_groups import Parts, put_together, spread_sample
from orientc.modeling.factors import Factors
from orientc.modeling.layout import MOST_BITS, PER_CHANNEL
from orientc.modeling.packing import pack

_SAMPLE = 2048  # rows of a row group that scales are chosen on
_LOADS = tuple(0.75 * 1.2**step for step in range(14))  # of a Gaussian's best range; heavier tails ask for more


@dataclass(frozen=True)
class Steps:
    """The best scales and offsets of a row group's columns, float16 `[MOST_BITS, columns]`, for 1 bit and up.

    `costs [MOST_BITS + 1, columns]`, float64, are the row group's weighted squared errors by bits, from 0 bits on.
    """

    scales: Tensor
    offsets: Tensor
    costs: Tensor


def steps(latents: Tensor, rows: Tensor, weights: Tensor) -> Steps:
    """Scales and offsets for `rows` of latents `[all rows, columns]`, by squared error with the rows' `weights`.

    Levels lie evenly about a column's weighted mean. Ranges tried are multiples of the best one for a Gaussian, whose
    half is close to 1.26 + 0.34 · bits standard deviations (Max 1960, "Quantizing for minimum distortion", table II).
    Costs are estimated from a sample of the rows.
    """
    places = spread_sample(rows, _SAMPLE)
    sample, share = latents[places].float(), weights[places].float()
    share = share / share.sum()
    mean = share @ sample
    centred = sample - mean
    deviation, reach = (share @ centred.square()).sqrt(), centred.abs().amax(0)
    least, largest = torch.finfo(torch.float16).tiny, torch.finfo(torch.float16).max
    none = share @ sample.square()
    errors, scales, offsets = [none], [], []
    for bits in range(1, MOST_BITS + 1):
        best = torch.full_like(mean, torch.inf)
        scale, offset = best.half(), mean.half()  # infinite, and to be refused, where no range fits into float16
        for load in _LOADS[: 4 + bits]:
            half = torch.minimum(deviation * (load * (1.26 + 0.34 * bits)), reach)
            step = (half * 2 ** (1 - bits)).clamp(least, largest).half()
            base = (mean - step.float() * (2**bits - 1) / 2).half()
            wide, under = step.float(), base.float()
            error = share @ nearest(sample, wide, under, bits).mul_(wide).add_(under).sub_(sample).square_()
            better = error < best
            best = torch.where(better, error, best)
            scale, offset = torch.where(better, step, scale), torch.where(better, base, offset)
        errors.append(best)
        scales.append(scale)
        offsets.append(offset)
    row_group = torch.zeros_like(none, dtype=torch.float64)
    for part in rows.split(_SAMPLE):
        row_group += weights[part].double() @ latents[part].double().square()
    costs = torch.stack(errors).double() * (row_group / none.double().clamp_min(torch.finfo(torch.float64).tiny))
    return Steps(torch.stack(scales), torch.stack(offsets), costs)


@torch.no_grad()
def quantize_per_channel(
    factors: Factors,
    bits: Sequence[Sequence[int]],
    steps: Sequence[Steps],
    *,
    group_size: int,
    row_groups: Sequence[Tensor],
) -> Factors:
    """The same table with its plain latents in codes, row group by row group.

    `row_groups` are the rows' ids, ascending, of each row group; row group t has `bits[t][g]` bits for each of the `group_size` columns of
    group g, 0 for none, by its `steps`.
    """
    latents = factors.latents
    parts = (
        _rounded(latents[rows], widths, own, group_size)
        for rows, widths, own in zip(row_groups, bits, steps, strict=True)
    )
    return put_together(factors, PER_CHANNEL, bits, group_size=group_size, row_groups=row_groups, parts=parts)


def _rounded(latents: Tensor, bits: Sequence[int], steps: Steps, group_size: int) -> Parts:
    codes, scales, offsets = [], [], []
    for number, width in enumerate(bits):
        if width:
            own = slice(number * group_size, min((number + 1) * group_size, latents.shape[1]))
            scale, offset = steps.scales[width - 1, own], steps.offsets[width - 1, own]
            found = nearest(latents[:, own].float(), scale.float(), offset.float(), width)
            codes.append(pack(found.to(torch.uint8), width))
            scales.append(scale)
            offsets.append(offset)
    return torch.cat(codes, dim=1), torch.cat(scales), torch.cat(offsets)
