"""Few combinations of parameters in which any two values of different ones meet."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, product
from typing import Any


def pairwise(*parameters: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Of all combinations those that are needed for every pair of values, always the same ones.

    Where a parameter only matters together with one other (a shape and a type, a coding and kept rows), a product of
    three and more asks the same again and again.
    """
    values = [list(parameter) for parameter in parameters]
    everything = list(product(*(range(len(own)) for own in values)))
    open_pairs = {pair for places in everything for pair in _pairs(places)}
    chosen = []
    while open_pairs:
        best = max(everything, key=lambda places: len(open_pairs & _pairs(places)))
        open_pairs -= _pairs(best)
        chosen.append(best)
    return [tuple(own[place] for own, place in zip(values, places, strict=True)) for places in sorted(chosen)]


def _pairs(places: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
    return set(combinations(enumerate(places), 2))
