"""The search for a size, on a model: artifacts are made and measured until the smallest one inside is found."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orientc.compression.fit_and_store import Compressed
from orientc.errors import GateError
from orientc.utils.progress import Progress
from orientc.workflows import search
from orientc.workflows.ruler import Outcome, Ruler
from orientc.workflows.search import MEASUREMENTS, Tried
from orientc.workflows.tolerance import PERPLEXITY, Tolerance, difference_in_words

_AIM = 0.35  # of what is allowed: losses are larger than predicted where they are not tiny


@dataclass(frozen=True)
class SizeSearch:
    """What sizes are looked for by.

    Args:
        ruler: The measure, on the search's text.
        tolerance: How much worse it may be.
        make: Makes the artifact of so many bits per weight. It may raise `FitError` where no form is so small.
        lose: What the model loses with an artifact, as it will ship.
        progress: Whom to tell what was tried.
    """

    ruler: Ruler
    tolerance: Tolerance
    make: Callable[[float], Compressed]
    lose: Callable[[Compressed], Outcome]
    progress: Progress

    def smallest(self, lowest: float, highest: float) -> tuple[tuple[Tried, ...], Compressed]:
        """What was tried between two sizes, and the smallest artifact inside. Raises `GateError` where none is."""
        allowed = self._allowed
        aim = _AIM * allowed if self._same_unit else None
        tell = self._teller(MEASUREMENTS)
        tried = search.smallest(
            self._predict, self._measure, allowed, lowest=lowest, highest=highest, aim=aim, on_tried=tell
        )
        return self._found(tried)

    def smallest_of(self, sizes: Sequence[float]) -> tuple[tuple[Tried, ...], Compressed]:
        """The same of a few sizes, ascending."""
        tell = self._teller(len(sizes).bit_length())
        tried = search.smallest_of(
            sizes, self._predict, self._measure, self._allowed, same_unit=self._same_unit, on_tried=tell
        )
        return self._found(tried)

    @property
    def _allowed(self) -> float:
        return self.tolerance.allowed(self.ruler.before)

    @property
    def _same_unit(self) -> bool:
        """Whether predicted losses are in the measure's unit."""
        return self.tolerance.measure == PERPLEXITY

    def _predict(self, bits: float) -> float:
        return self.make(bits).cost

    def _measure(self, bits: float) -> tuple[float, float]:
        outcome = self.lose(self.make(bits))
        return outcome.difference, outcome.error

    def _teller(self, most: int) -> Callable[[Tried], None]:
        """What tells of each size that was measured, of at most so many."""
        begun, count = time.perf_counter(), 0

        def tell(tried: Tried) -> None:
            nonlocal count
            count += 1
            told = difference_in_words(self.tolerance.measure, tried.difference, tried.error)
            where = "within" if tried.inside else "not surely within"
            left = (time.perf_counter() - begun) / count * (most - count + 2)
            self.progress.done(
                f"{tried.bits:g} bits per weight: {self.tolerance.measure} {told}, {where} {self.tolerance.text}; "
                f"at most about {_minutes(left)} left"
            )

        return tell

    def _found(self, tried: tuple[Tried, ...]) -> tuple[tuple[Tried, ...], Compressed]:
        if (found := search.best(tried)) is None:
            raise GateError(self._nothing(tried))
        return tried, self.make(found.bits)

    def _nothing(self, tried: tuple[Tried, ...]) -> str:
        measured = [entry for entry in tried if math.isfinite(entry.difference)]
        if not measured:
            return f"no table within {self.tolerance.text} was found: no form is as small as what was tried"
        nearest = min(measured, key=lambda entry: entry.upper)
        told = difference_in_words(self.tolerance.measure, nearest.difference, nearest.error)
        return (
            f"no table is surely within {self.tolerance.text} of {self.tolerance.measure} ({self.ruler.text.name}): "
            f"the nearest, {nearest.bits:g} bits per weight, is at {told}; measure on more with `limit` or `text`, or "
            "allow more with `within`"
        )


def _minutes(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"
