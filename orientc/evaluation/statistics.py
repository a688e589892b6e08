"""Errors of figures, and of differences between them. Imports no torch.

There is one mechanism. A figure is computed again without each of up to 256 blocks of neighbours (a jackknife), and
how far it moves tells its error. Blocks near each other count as dependent: what they move it is fitted with cosine
waves along the text, the longest few, whose mean square is the variance that chunks of the text have, whatever
neighbours have in common (Müller 2007; Lazarus, Lewis, Stock, Watson 2018: "equal-weighted cosine"); with few waves
intervals are Student's. Two tables that were measured on the same text or data are left without the same blocks, so
that what is hard for both cancels out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orientc.storage.records import Estimate

# By simulation (`tests/benchmarks/intervals.py`): with more waves the shortest is shorter than what neighbours have in
# common; with fewer the error is uncertain itself, and intervals are wide. Lines of an article have something in
# common over dozens of lines: their losses correlate by 0.03 to 0.07 in the texts that were tried. Examples have it
# with a few.
TEXT_WAVES, EXAMPLE_WAVES = 6, 20
LEVEL = 0.95  # of every interval

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """The mean of `count` figures and their standard deviation.

    The deviation is that of a sample; None where there is but one figure, or one is infinite.
    """

    mean: float
    std: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Mean and deviation of at least one value."""
        deviation = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
        return cls(statistics.fmean(values), deviation, len(values))


@dataclass(frozen=True)
class Difference:
    """How far a figure is from another one of the same text or data, with the paired test of the two.

    Args:
        value: The difference, or for figures that are compared by how many times the other they are (`relative`), that.
        standard_error: Of `value`.
        low, high: Ends of its 95 % interval.
        p: How probable so large a difference would be if there were none; two-sided.
        p_holm: The same, corrected by Holm's method for how many are compared.
        relative: Whether `value` is a ratio.
        freedom: Degrees of freedom of the standard error.
    """

    value: float
    standard_error: float
    low: float
    high: float
    p: float
    p_holm: float
    relative: bool
    freedom: float

    @property
    def told_apart(self) -> bool:
        """Whether the interval excludes that there is no difference."""
        return not self.low <= (1.0 if self.relative else 0.0) <= self.high


@dataclass(frozen=True)
class Scale:
    """The values that a figure can take, which its interval keeps within.

    For a `share` of examples, and what is like one, the interval is Wilson's. Otherwise it is symmetrical on a scale
    without bounds: above a lower bound the logarithm, for a correlation Fisher's.
    """

    low: float = -math.inf
    high: float = math.inf
    share: bool = False

    def free(self, values: Array) -> Array:
        """Values on the scale without bounds; infinite at a bound."""
        with np.errstate(divide="ignore"):
            if self.low == -math.inf:
                return values
            if self.high == math.inf:
                return np.asarray(np.log(values - self.low))
            return np.asarray(np.log(values - self.low) - np.log(self.high - values))

    def bounded(self, free: float) -> float:
        """The value that is `free` on the scale without bounds."""
        if self.low == -math.inf:
            return free
        if self.high == math.inf:
            return self.low + math.exp(min(free, 709))
        return self.low + (self.high - self.low) / (1 + math.exp(min(-free, 709)))


@dataclass(frozen=True, eq=False)
class Sample:
    """A figure as it varies with what it was measured on.

    Args:
        value: The figure.
        left_out: What it is without each block of neighbours, `[blocks]`.
        weights: How much of the text or data each block is, `[blocks]`; two samples can be paired where they are equal.
        scale: The values it can take.
        waves: How many waves its error is estimated with.
        trials: For a share, how many examples it is a share of.
        drawn: Variance of the value for another reason, that seeds were drawn, with its degrees of freedom; 0 for none.
    """

    value: float
    left_out: Array = field(repr=False)
    weights: Array = field(repr=False)
    scale: Scale = Scale()
    waves: int = EXAMPLE_WAVES
    trials: float = 0.0
    drawn: tuple[float, float] = (0.0, math.inf)

    def estimate(self) -> Estimate:
        """The figure with its standard error and 95 % interval."""
        error, quantile, _ = _error(self.left_out, self.waves, [self.drawn])
        if self.scale.share:
            low, high = self._wilson(error, quantile)
        elif error and math.isfinite(middle := float(self.scale.free(np.array(self.value)))):
            free = self.scale.free(self.left_out)
            slope = 1.0 if self.scale.low == -math.inf else 1 / (self.value - self.scale.low)
            slope += 0.0 if self.scale.high == math.inf else 1 / (self.scale.high - self.value)
            width = quantile * error * slope
            if np.isfinite(free).all():
                width = quantile * _error(free, self.waves, [(self.drawn[0] * slope**2, self.drawn[1])])[0]
            low, high = self.scale.bounded(middle - width), self.scale.bounded(middle + width)
        else:
            low = high = self.value
        return Estimate(self.value, error, low, high)

    def _wilson(self, error: float, quantile: float) -> tuple[float, float]:
        """Wilson's interval of a share, of as many independent examples as would have this standard error."""
        size = self.scale.high - self.scale.low
        share, square = (self.value - self.scale.low) / size, quantile**2
        count = share * (1 - share) * (size / error) ** 2 if error and 0 < share < 1 else self.trials
        if not count:
            return self.scale.low, self.scale.high
        middle = (share + square / (2 * count)) / (1 + square / count)
        width = quantile * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
        low, high = max(0.0, middle - width), min(1.0, middle + width)
        return self.scale.low + size * min(low, share), self.scale.low + size * max(high, share)

    def is_pair(self, other: Sample) -> bool:
        """Whether the other one is of the same blocks of neighbours."""
        return np.array_equal(self.weights, other.weights)

    @property
    def relative(self) -> bool:
        """Whether it is compared by how many times another figure it is, as a perplexity is."""
        positive = self.scale.low == 0 and self.scale.high == math.inf
        return positive and self.value > 0 and bool((self.left_out > 0).all())


def _error(left_out: Array, waves: int, drawn: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Standard error, the quantile by which an interval is wider, and degrees of freedom (Welch and Satterthwaite's).

    Args:
        left_out: What is estimated, without each block of neighbours.
        waves: How many waves it is fitted with, at most.
        drawn: Further variances with their degrees of freedom.
    """
    blocks = len(left_out)
    waves = min(blocks - 1, waves)
    places = np.pi * (np.arange(blocks) + 0.5) / blocks
    moved = np.cos(np.outer(np.arange(1, waves + 1), places)) @ (left_out - left_out.mean())
    variance = 2 * (blocks - 1) / blocks * float(np.square(moved).mean())
    return total_error([(variance, float(waves)), *drawn])


def total_error(parts: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Standard error of a sum of independent numbers, Student's quantile of its interval, and degrees of freedom.

    Args:
        parts: The variance of each with its degrees of freedom; there is one at least.
    """
    varying = [(own, freedom) for own, freedom in parts if own > 0]
    total = sum(own for own, _ in varying)
    freedom = total**2 / sum(own**2 / own_freedom for own, own_freedom in varying) if varying else parts[0][1]
    return math.sqrt(total), float(_special().stdtrit(freedom, (1 + LEVEL) / 2)), freedom


def _two_sided(value: float, error: float, freedom: float) -> float:
    """Student's test of a value against 0."""
    if not error:
        return 0.0 if value else 1.0
    return 2 * float(_special().stdtr(freedom, -abs(value) / error))


def _special() -> Any:
    from scipy import special

    return special


def mean(samples: Sequence[Sample]) -> Sample:
    """The mean of a figure over seeds, by samples that can be paired; how seeds differ adds to its error."""
    first = samples[0]
    if len(samples) == 1:
        return first
    values = [sample.value for sample in samples]
    left_out: Array = np.mean([sample.left_out for sample in samples], axis=0)
    drawn = statistics.variance(values) / len(values), len(values) - 1.0
    return Sample(statistics.fmean(values), left_out, first.weights, first.scale, first.waves, first.trials, drawn)


def paired(one: Sample, other: Sample) -> Difference | None:
    """The difference of two figures that were measured on the same text or data; None where they were not."""
    if not one.is_pair(other):
        return None
    relative = one.relative and other.relative
    to: Callable[[Array], Array] = np.log if relative else np.asarray
    value = float(to(np.array(one.value)) - to(np.array(other.value)))
    scales = (1 / one.value, 1 / other.value) if relative else (1.0, 1.0)
    variances = [(sample.drawn[0] * by**2, sample.drawn[1]) for sample, by in zip((one, other), scales, strict=True)]
    error, quantile, freedom = _error(to(one.left_out) - to(other.left_out), one.waves, variances)
    low, high = value - quantile * error, value + quantile * error
    p = _two_sided(value, error, freedom)
    if relative:
        ratio = math.exp(value)
        return Difference(ratio, ratio * error, math.exp(low), math.exp(min(high, 709)), p, p, relative, freedom)
    return Difference(value, error, low, high, p, p, relative, freedom)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's correction of probabilities for their number, in the order given."""
    corrected = [0.0] * len(ps)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = largest
    return corrected
