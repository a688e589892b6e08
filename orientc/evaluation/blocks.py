"""Blocks of neighbours: what a record keeps of an evaluation, so that figures have errors. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCKS = 256  # the most that a record keeps
RANKED = 6_000  # the most pairs whose ranks a record keeps; STS-B has 1 500
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


def classified(answers: NDArray[Any], labels: NDArray[Any], *, two: bool) -> dict[str, list[float]]:
    """The blocks of a classification: class ids and the right ones, `[examples]`; confusions where there are `two`."""
    right, positive = answers == labels, labels == 1
    units: dict[str, ArrayLike] = {"examples": np.ones(len(labels)), "correct": right}
    if two:
        units |= {"true_positives": right & positive, "false_positives": ~right & ~positive}
        units |= {"false_negatives": ~right & positive, "true_negatives": right & ~positive}
    return block_sums(units) or {}


def correlated(answers: ArrayLike, labels: ArrayLike) -> dict[str, list[float]]:
    """The blocks of correlations between finite numbers, `[pairs]`: moments, and ranks where there are not too many."""
    from scipy import stats

    x, y = np.asarray(answers, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    moments: dict[str, ArrayLike] = {"pairs": np.ones(len(x)), "answer": x, "label": y}
    moments |= {"answer_squared": x * x, "label_squared": y * y, "answer_label": x * y}
    found = block_sums(moments) or {}
    if len(x) <= RANKED:
        found |= {"answer_rank": stats.rankdata(x).tolist(), "label_rank": stats.rankdata(y).tolist()}
    return found


def grouped(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Sums over at most so many runs of neighbours, each of as many values as the others, or one more."""
    count = min(most, len(values))
    return np.add.reduceat(values, np.arange(count) * len(values) // count) if count else values
