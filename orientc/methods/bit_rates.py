"""Bit rates: how many bits each column of a row group adds to a stream, whole or in part, by reverse water-filling.

A trellis code shares its bits among the columns of a window: columns that add 2 and 3 bits in turn all have the error
of 2.5. So a rate can be any fraction, and errors of all columns can be the same but for those that vary less.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from orientc.methods.trellis_search import nearest_streams
from orientc.modeling.layout import MOST_BITS

STEP = 1 / 16  # of rates
UNIT = 32.0  # the standard deviation of levels
# Multipliers of a sequence a·n mod 2**window whose places spread evenly: those of few that were tried, for Gaussians.
_MULTIPLIERS = {8: 95, 10: 749, 12: 1697, 14: 10125}
_RATES = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)


@functools.cache
def gaussian_levels(window: int) -> Tensor:
    """Levels for Gaussian columns, int8 `[2, 2**window]`, for `nearest_streams`.

    A window's bits n have the quantile of a·n mod 2**window: those that differ in few bits, at either end, have levels
    far apart, which serves better than levels at random. Columns that add no bits have levels of another sequence.
    """
    states, numbers = 1 << window, torch.arange(1 << window)
    sequences = [(5 * _MULTIPLIERS[window], states // 7), (_MULTIPLIERS[window], states // 3)]
    places = torch.stack([(numbers * factor + start) % states for factor, start in sequences])
    quantiles = torch.special.ndtri((places.double() + 0.5) / states)
    levels: Tensor = (quantiles * UNIT).round().clamp(-127, 127).to(torch.int8)
    return levels


def widths(rates: Tensor) -> list[int]:
    """Whole bits of each column whose sum is always nearest to the sum of the rates so far."""
    ends = (rates.double().cumsum(0) + 0.5).floor().long()
    found: list[int] = ends.diff(prepend=ends.new_zeros(1)).clamp(max=MOST_BITS).tolist()
    return found


@functools.cache
def gaussian_errors(window: int) -> Tensor:
    """Mean squared errors at rates from 0 to 8 by `STEP`, in shares of a Gaussian's variance, as measured; convex."""
    values = torch.randn(128, 96, generator=torch.Generator().manual_seed(0))
    rates, found = [0.0], [0.0]
    for rate in _RATES:
        own = widths(torch.full((96,), rate))
        spread = (1 - 4.0**-rate) ** 0.5
        _, levels = nearest_streams(values * (UNIT / spread), own, torch.ones(96), gaussian_levels(window))
        error = (levels[:, 24:] * (spread / UNIT) - values[:, 24:]).square().mean()
        rates.append(rate)
        found.append(float(error.log2()))
    places = torch.arange(0, MOST_BITS + STEP / 2, STEP, dtype=torch.float64)
    known, logs = torch.tensor(rates, dtype=torch.float64), torch.tensor(found, dtype=torch.float64)
    at = torch.searchsorted(known, places).clamp(1, len(known) - 1)
    share = (places - known[at - 1]) / (known[at] - known[at - 1])
    return (logs[at - 1] + share * (logs[at] - logs[at - 1])).exp2()


def rates_within(costs: Tensor, rows: Tensor, bits: float, window: int) -> Tensor:
    """Choose rates so that the cost is least and all streams together take so many bits.

    Args:
        costs: What each column of each row group costs without bits, float64 `[row groups, columns]`.
        rows: Rows of each row group, `[row groups]`.
        bits: The budget.
        window: Bits of the code's window.

    Returns:
        Float64 `[row groups, columns]`, in whole numbers of `STEP`.
    """
    errors = gaussian_errors(window)
    gains = torch.cummin((errors[:-1] - errors[1:]) / STEP, 0).values.flip(0)  # ascending
    each = costs / rows.unsqueeze(1)
    ends = each[each > 0].log2()
    if not len(ends):
        return torch.zeros_like(each)
    low, high = float(ends.min()) - 40, float(ends.max()) + 2
    rates = torch.zeros_like(each)
    for _ in range(60):
        middle = (low + high) / 2
        taken = len(gains) - torch.searchsorted(gains, 2.0**middle / each.clamp_min(1e-300))
        own = taken.double() * STEP
        if float((own.sum(1) * rows).sum()) > bits:
            low = middle
        else:
            high, rates = middle, own
    return rates
