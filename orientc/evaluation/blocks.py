"""Blocks of neighbours: what a record keeps of an evaluation, so that figures have errors. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCKS = 256  # the most that a record keeps
PIECE = 128  # tokens: a longer example is taken in pieces, so that a few long windows still make many blocks


def piece_sums(values: NDArray[np.float64]) -> list[float]:
    """Sums over the pieces of one example's values `[tokens]`, in their order; none of no tokens."""
    if not len(values):
        return []
    return [float(value) for value in np.add.reduceat(values, range(0, len(values), PIECE))]


def block_sums(units: Mapping[str, ArrayLike]) -> dict[str, list[float]] | None:
    """Sums over blocks of neighbours, by name: runs of as many units each as can be, at most 256.

    Args:
        units: What each line, piece or example has, in the order of the text or data; equally many of each name.

    Returns:
        None where one of the sums is not finite, which nothing can be computed from.
    """
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in units.items()}
    sums = {name: grouped(values, BLOCKS) for name, values in arrays.items()}
    if not all(np.isfinite(own).all() for own in sums.values()):
        return None
    return {name: own.tolist() for name, own in sums.items()}


def grouped(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Sums over at most so many runs of neighbours, each of as many values as the others, or one more."""
    count = min(most, len(values))
    return np.add.reduceat(values, np.arange(count) * len(values) // count) if count else values
