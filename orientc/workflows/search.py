"""The smallest table within a tolerance: sizes by predicted loss first, then at most a few measurements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orientc.errors import FitError

MEASUREMENTS = 5  # at most
MARGIN = 2.0  # standard errors that stay between the difference and what is allowed
_AIM = 0.9  # of what is allowed, with the margin in it
_NEAR = 0.75  # a size that takes this much of it is small enough
_CLOSE = 0.04  # so is one that is by this share larger than one outside
_STEEP = 1.2  # by how much the log of the loss falls with each bit, until it is known
_FARTHEST = 2.5  # times larger or smaller in one step
_SURE, _LOST = 1e-9, 1e9  # differences that sizes are not told apart by


@dataclass(frozen=True)
class Tried:
    """One size that was measured.

    Attributes:
        bits: Bits per weight asked for.
        predicted: Predicted loss of the artifact; None where no form is so small.
        difference: How much worse the measure is, in nats or shares; infinite where no form is so small.
        error: The difference's standard error.
        least: What it is taken to lose at the least: a smaller model that looks better, or better than predicted where
            that is in the same unit, does so by chance.
        inside: Whether the difference and the margin are within the tolerance.
    """

    bits: float
    predicted: float | None
    difference: float
    error: float
    least: float
    inside: bool

    @property
    def upper(self) -> float:
        """The difference, or the least it is taken for, with the margin on top."""
        return max(self.difference, self.least) + MARGIN * self.error


def smallest(
    predict: Callable[[float], float],
    measure: Callable[[float], tuple[float, float]],
    allowed: float,
    *,
    lowest: float,
    highest: float,
    aim: float | None = None,
    on_tried: Callable[[Tried], None] = lambda _: None,
) -> tuple[Tried, ...]:
    """Look for the fewest bits per weight whose measured difference, with a margin, is within what is allowed.

    Args:
        predict: The predicted loss of a table of so many bits. It may raise `FitError` where no form is so small.
        measure: Difference and standard error of a table of so many bits.
        allowed: The largest difference inside.
        lowest: The fewest bits that may be asked for.
        highest: The most bits that make sense.
        aim: The predicted loss to start at, where the measure is in its unit, so that no table is taken to lose less
            than predicted; None to start at 2 bits.
        on_tried: Told of each size that was measured.

    Returns:
        What was tried, in that order; the smallest size inside is what is wanted. Where none is inside, `highest` was
        tried too.
    """
    tried: list[Tried] = []
    following: float | None = _first(predict, aim, lowest, highest)
    while following is not None and sum(entry.predicted is not None for entry in tried) < MEASUREMENTS:
        tried.append(_try(following, predict, measure, allowed, same_unit=aim is not None))
        if tried[-1].predicted is not None:
            on_tried(tried[-1])
        last = sum(entry.predicted is not None for entry in tried) == MEASUREMENTS - 1
        following = _following(tried, allowed, lowest, highest, last=last)
    return tuple(tried)


def smallest_of(
    sizes: Sequence[float],
    predict: Callable[[float], float],
    measure: Callable[[float], tuple[float, float]],
    allowed: float,
    *,
    same_unit: bool,
    on_tried: Callable[[Tried], None] = lambda _: None,
) -> tuple[Tried, ...]:
    """Look for the smallest of a few sizes whose measured difference, with a margin, is within what is allowed.

    What remains is halved each time: of ten sizes at most four are measured.

    Args:
        sizes: Bits per weight, ascending.
        predict, measure, allowed, on_tried: As for `smallest`.
        same_unit: Whether predicted losses are in the measure's unit, so that no table is taken to lose less.
    """
    tried: list[Tried] = []
    low, high = 0, len(sizes)
    while low < high:
        middle = (low + high) // 2
        tried.append(_try(sizes[middle], predict, measure, allowed, same_unit=same_unit))
        if tried[-1].predicted is not None:
            on_tried(tried[-1])
        low, high = (low, middle) if tried[-1].inside else (middle + 1, high)
    return tuple(tried)


def _try(
    bits: float,
    predict: Callable[[float], float],
    measure: Callable[[float], tuple[float, float]],
    allowed: float,
    *,
    same_unit: bool,
) -> Tried:
    """Measure a size."""
    try:
        predicted = predict(bits)
    except FitError:
        return Tried(bits, None, math.inf, 0.0, 0.0, inside=False)
    difference, error = measure(bits)
    least = predicted if same_unit else 0.0
    inside = max(difference, least) + MARGIN * error <= allowed
    return Tried(bits, predicted, difference, error, least, inside)


def best(tried: tuple[Tried, ...]) -> Tried | None:
    """The smallest size inside; None where none is."""
    return min((entry for entry in tried if entry.inside), key=lambda entry: entry.bits, default=None)


def _first(predict: Callable[[float], float], aim: float | None, lowest: float, highest: float) -> float:
    """Where the predicted loss is as wanted; 2 bits where that can't be said."""
    bits = min(max(2.0, lowest), highest)
    if aim is None:
        return bits
    known: list[tuple[float, float]] = []
    for _ in range(3):
        try:
            loss = predict(bits)
        except FitError:
            bits = _rounded(min(2 * bits, highest))
            continue
        known.append((bits, _logged(loss)))
        following = _rounded(_clipped(bits + (known[-1][1] - math.log(aim)) / _slope(known), bits, lowest, highest))
        if abs(following - bits) < _CLOSE * bits:
            return bits
        bits = following
    return bits


def _following(tried: list[Tried], allowed: float, lowest: float, highest: float, *, last: bool) -> float | None:
    """The size to try next; None where it is found, or can't be."""
    outside = max((entry for entry in tried if not entry.inside), key=lambda entry: entry.bits, default=None)
    inside = min((entry for entry in tried if entry.inside), key=lambda entry: entry.bits, default=None)
    wanted = math.log(_AIM * allowed)
    if inside is None:
        assert outside is not None
        if outside.bits >= highest:
            return None
        if last:
            return highest
        above = [entry for entry in tried if math.isfinite(entry.difference)]
        if not above:
            return _rounded(min(2 * outside.bits, highest))
        steps = (_log(outside) - wanted) / _slope([(entry.bits, _log(entry)) for entry in above])
        return _rounded(_clipped(outside.bits + max(steps, _CLOSE * outside.bits), outside.bits, lowest, highest))
    if inside.upper >= _NEAR * allowed or inside.bits <= lowest:
        return None
    if outside is None or outside.bits >= inside.bits:
        steps = (_log(inside) - wanted) / _slope([(entry.bits, _log(entry)) for entry in tried])
        return _rounded(_clipped(inside.bits + min(steps, -_CLOSE * inside.bits), inside.bits, lowest, highest))
    room = inside.bits - outside.bits
    if room <= _CLOSE * inside.bits:
        return None
    if math.isinf(outside.difference):
        share = 0.5
    else:
        share = (_log(outside) - wanted) / max(_log(outside) - _log(inside), _SURE)
    return _rounded(outside.bits + min(max(share, 0.15), 0.85) * room)


def _slope(points: list[tuple[float, float]]) -> float:
    """How fast the log of a loss falls with the bits, by the two sizes tried last."""
    if len(points) < 2 or points[-1][0] == points[-2][0]:
        return _STEEP
    (first, above), (second, below) = points[-2:]
    return min(max((above - below) / (second - first), _STEEP / 2), 3 * _STEEP)


def _log(entry: Tried) -> float:
    return _logged(entry.upper)


def _logged(loss: float) -> float:
    return math.log(min(max(loss, _SURE), _LOST))


def _clipped(bits: float, start: float, lowest: float, highest: float) -> float:
    return min(max(bits, start / _FARTHEST, lowest), start * _FARTHEST, highest)


def _rounded(bits: float) -> float:
    return round(bits, 2)
