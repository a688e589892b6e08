"""Levels and scales of ggml's blocks: rounding to levels, and the search for the scales of a block.

Columns lead: a block of one row's numbers is a column `[numbers]` of a tensor `[numbers, rows]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from orientc.modeling.ggml_types import NONLINEAR, BlockType

_LARGEST_LEVEL = 127  # of 8-bit levels: ggml's own rounding uses no -128
_STRETCHES = range(-10, 16, 2)  # tenths of a level that the highest one is moved by: above 0 the largest are clipped
_TINY = 1e-30


@dataclass(frozen=True)
class BlockScales:
    """The scales of one block of each row: a number is `half · scale · level - half · minimum`.

    Attributes:
        halves: Float16 numbers held as float32, `[halves, rows]`.
        scales: Whole-number scales of sub-blocks, `[sub-blocks, rows]`; 1 where a block has none.
        minimums: The same of the minimums; -1 where a block has none, so that the second half is added.
    """

    halves: Tensor
    scales: Tensor
    minimums: Tensor

    def steps(self) -> Tensor:
        """What levels are multiplied by, `[sub-blocks, rows]`."""
        return self.halves[0] * self.scales

    def least(self) -> Tensor | None:
        """What is added then, `[sub-blocks, rows]`; None where nothing is."""
        return -self.halves[1] * self.minimums if len(self.halves) == 2 else None


def level_range(kind: BlockType) -> tuple[int, int]:
    """The lowest and the highest level of a block type."""
    if kind.zero is None:
        return NONLINEAR[0], NONLINEAR[-1]
    if kind.bits == 8:
        return -_LARGEST_LEVEL, _LARGEST_LEVEL
    return -kind.zero, (1 << kind.bits) - 1 - kind.zero


def scale_range(kind: BlockType) -> tuple[int, int]:
    """The lowest and the highest whole-number scale of a block type with sub-blocks."""
    if kind.halves == 2:
        return 0, 15 if kind.sub_blocks == 16 else 63
    return (-32, 31) if any(field.name == "scales_low" for field in kind.fields) else (-128, 127)


def nearest_levels(kind: BlockType, values: Tensor) -> Tensor:
    """The levels nearest to values, whole floats of the same shape."""
    low, high = level_range(kind)
    if kind.zero is not None:
        return values.round().clamp_(low, high)
    # half a level apart at most, of levels 10 to 24 apart: a table by halves is exact but for ties
    return _nonlinear(values.device)[((values.clamp(-128, 127.5) + 128) * 2).int()]


@lru_cache(8)
def _nonlinear(device: torch.device) -> Tensor:
    levels = torch.tensor(NONLINEAR, dtype=torch.float32, device=device)
    middles = (levels[1:] + levels[:-1]) / 2
    return levels[torch.bucketize(torch.arange(512, device=device) / 2 - 128 + 0.25, middles)]


def divided(values: Tensor, step: Tensor) -> Tensor:
    """Values by steps of any sign; a step of 0 counts as a tiny one."""
    return values / torch.where(step == 0, _TINY, step)


def float16(numbers: Tensor) -> Tensor:
    """Numbers rounded to float16, held as float32."""
    return numbers.half().float()


def search_scales(kind: BlockType, values: Tensor, weights: Tensor) -> BlockScales:
    """Choose the scales of a block by weighted squared error.

    Args:
        kind: The block type.
        values: The block's numbers, `[width, rows]`.
        weights: Weights of the numbers' squared errors, `[width]`.
    """
    own = zip(values.split(kind.sub_block), weights.split(kind.sub_block), strict=True)
    ideal = [_ideal(kind, part, share.unsqueeze(1)) for part, share in own]
    steps, least = (torch.stack(found) for found in zip(*ideal, strict=True))
    if kind.sub_blocks == 1:
        halves = torch.cat([steps, least][: kind.halves])
        one = torch.ones_like(steps)
        return BlockScales(float16(halves), one, -one)
    low, high = scale_range(kind)
    if kind.halves == 1:
        largest = steps.gather(0, steps.abs().argmax(0, keepdim=True))
        half = float16(largest / low)
        return BlockScales(half, divided(steps, half).round().clamp_(low, high), -torch.ones_like(steps))
    half = float16(torch.cat([steps.amax(0, keepdim=True), (-least).amax(0, keepdim=True)]) / high)
    scales, minimums = (
        divided(part, own).round().clamp_(low, high) for part, own in ((steps, half[0]), (-least, half[1]))
    )
    return BlockScales(half, scales, minimums)


def _ideal(kind: BlockType, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The step and the minimum, any real numbers, that a sub-block `[numbers, rows]` would like to have, `[rows]`."""
    if kind.halves == 2:
        return _step_and_minimum(kind, values, weights)
    step = _step(kind, values, weights)
    return step, torch.zeros_like(step)


def _step(kind: BlockType, values: Tensor, weights: Tensor) -> Tensor:
    """The step of least error, by least squares for the levels that each of several reaches gives.

    The number of largest size goes to about one end of the levels, as in ggml's own rounding, or, where levels are not
    symmetric, to the other.
    """
    low, high = level_range(kind)
    largest = values.gather(0, values.abs().argmax(0, keepdim=True))[0]
    largest = torch.where(largest.abs() < _TINY, _TINY, largest)
    best: Tensor | None = None
    step = largest
    for reach in _reaches(kind, low, high):
        levels = nearest_levels(kind, values * (reach / largest))
        weighted = weights * levels
        product, square = (weighted * values).sum(0), (weighted * levels).sum(0).clamp_min_(_TINY)
        found = product / square
        gain = product * found
        if best is None:
            best, step = gain, found
        else:
            better = gain > best
            best, step = torch.where(better, gain, best), torch.where(better, found, step)
    return step


def _reaches(kind: BlockType, low: int, high: int) -> list[float]:
    """Levels, not whole ones, that a block's largest number may be put at."""
    if kind.zero is None:
        return [low + 4.0 * step for step in range(-7, 8)] + [high + 4.0 * step for step in range(-3, 6)]
    if kind.bits == 8:
        return [float(low), low + 0.5]
    return [float(low)] + [low * (1 + step / 80) for step in (-9, -7, -5, -3, -1, 1, 3, 5, 7, 9)]


def _step_and_minimum(kind: BlockType, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The step and the minimum of least error, by least squares for the levels that each of several reaches gives."""
    _, high = level_range(kind)
    signed = kind.sub_blocks == 1  # else a minimum is 0 or below
    lowest = values.amin(0)
    if not signed:
        lowest = lowest.clamp_max(0)
    span = (values.amax(0) - lowest).clamp_min(_TINY)
    total = weights.sum()
    weighted = weights * values
    sum_values, sum_squares = weighted.sum(0), (weighted * values).sum(0)
    best: Tensor | None = None
    step = least = lowest
    for reach in [high + stretch / 10 for stretch in _STRETCHES]:
        levels = ((values - lowest) * (reach / span)).round_().clamp_(0, high)
        sum_levels, products = (weights * levels).sum(0), (weighted * levels).sum(0)
        squares = (weights * levels * levels).sum(0)
        determinant = total * squares - sum_levels * sum_levels
        flat = determinant <= 1e-6 * total * squares
        found = torch.where(flat, 0.0, (total * products - sum_values * sum_levels) / determinant)
        base = (sum_values - found * sum_levels) / total
        if not signed:
            alone = products / squares.clamp_min(_TINY)
            positive = (base > 0) | flat & (lowest >= 0)
            found, base = torch.where(positive, alone, found), torch.where(positive, 0.0, base)
        error = sum_squares + found * (found * squares + 2 * base * sum_levels - 2 * products)
        error = error + base * (base * total - 2 * sum_values)
        if best is None:
            best, step, least = error, found, base
        else:
            better = error < best
            best = torch.where(better, error, best)
            step, least = torch.where(better, found, step), torch.where(better, base, least)
    return step, least
