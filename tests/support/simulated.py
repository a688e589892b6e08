"""Evaluations drawn at random whose truth is known, for what errors claim: units of each kind, neighbours dependent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from orientc.evaluation.blocks import block_sums

Array = NDArray[np.float64]
Units = Mapping[str, ArrayLike]


def latent(random: Generator, count: int, shared: float, run: float) -> Array:
    """Standard normal numbers; neighbours, in runs of so many on average, share a part of their variance."""
    starts = np.cumsum(random.geometric(1 / run, count))
    run_of = np.searchsorted(starts, np.arange(count), side="right")
    common = random.standard_normal(count + 1)[run_of]
    found: Array = math.sqrt(shared) * common + math.sqrt(1 - shared) * random.standard_normal(count)
    return found


def mixed(random: Generator, count: int, own: float, shared: float, run: float) -> list[Array]:
    """Two such series for two models, equal but for a part of the variance that is each one's own."""
    both = latent(random, count, shared, run)
    return [math.sqrt(1 - own) * both + math.sqrt(own) * latent(random, count, shared, run) for _ in range(2)]


@dataclass(frozen=True)
class Case:
    """A metric on a kind of data: `pair` draws the units of two models that are equally good."""

    name: str
    metric: str
    pair: Callable[[Generator, int], list[Units]]


def blocks(units: Units) -> dict[str, list[float]]:
    """The units as a record keeps them; of ranks each."""
    ranked = {name: np.asarray(values, float).tolist() for name, values in units.items() if name.endswith("_rank")}
    return ranked or block_sums(units) or {}


def _tokens(random: Generator, count: int, name: str, draw: Callable[[int], Array], own: float) -> list[Units]:
    tokens = random.integers(3, 13, count)
    line = np.exp(0.35 * latent(random, count, 0.15, 10))
    sums = np.array([draw(number).sum() for number in tokens]) * line
    return [{"tokens": tokens, name: sums * np.exp(own * latent(random, count, 0.15, 10))} for _ in range(2)]


def _losses(random: Generator, count: int) -> list[Units]:
    return _tokens(random, count, "loss", lambda number: random.gamma(0.6, 3.3 / 0.6, number), 0.05)


def _divergences(spread: float) -> Callable[[Generator, int], list[Units]]:
    return lambda random, count: _tokens(random, count, "kl", lambda number: random.lognormal(-1, spread, number), 0.3)


def _right(share: float, *, own: float = 0.2, squad: bool = False) -> Callable[[Generator, int], list[Units]]:
    names, worth, shared, run = (
        (("questions", "exact_match"), 100, 0.15, 5) if squad else (("examples", "correct"), 1, 0.1, 4)
    )

    def draw(random: Generator, count: int) -> list[Units]:
        return [
            dict(zip(names, (np.ones(count), worth * (values < special.ndtri(share))), strict=True))
            for values in mixed(random, count, own, shared, run)
        ]

    return draw


def _answers(random: Generator, count: int) -> list[Units]:
    part = random.beta(0.5, 1, count)
    return [
        {"questions": np.ones(count), "f1": 100 * np.where(values < special.ndtri(0.6), 1, part)}
        for values in mixed(random, count, 0.2, 0.15, 5)
    ]


def _confusions(positive: float, right: float) -> Callable[[Generator, int], list[Units]]:
    def draw(random: Generator, count: int) -> list[Units]:
        truth = latent(random, count, 0.1, 4) < special.ndtri(positive)
        found: list[Units] = []
        for values in mixed(random, count, 0.2, 0.1, 4):
            answer = truth == (values < special.ndtri(right))
            found.append(
                {
                    "examples": np.ones(count),
                    "true_positives": truth & answer,
                    "false_positives": ~truth & answer,
                    "false_negatives": truth & ~answer,
                    "true_negatives": ~truth & ~answer,
                }
            )
        return found

    return draw


def _pairs(ranked: bool) -> Callable[[Generator, int], list[Units]]:
    def draw(random: Generator, count: int) -> list[Units]:
        label = latent(random, count, 0.1, 4)
        found: list[Units] = []
        for values in mixed(random, count, 0.3, 0.1, 4):
            answer = 0.85 * label + 0.53 * values
            found.append(
                {"answer_rank": stats.rankdata(answer), "label_rank": stats.rankdata(label)}
                if ranked
                else {
                    "pairs": np.ones(count),
                    "answer": answer,
                    "label": label,
                    "answer_squared": answer**2,
                    "label_squared": label**2,
                    "answer_label": answer * label,
                }
            )
        return found

    return draw


def _cosines(random: Generator, count: int) -> list[Units]:
    return [
        {"sentences": np.ones(count), "cosine": 1 - 0.03 * np.exp(0.8 * values)}
        for values in mixed(random, count, 0.36, 0.1, 4)
    ]


CASES = (
    Case("perplexity", "perplexity", _losses),
    Case("KL", "kl", _divergences(1.0)),
    Case("KL, heavy tail", "kl", _divergences(1.6)),
    Case("accuracy 0.85", "accuracy", _right(0.85)),
    Case("accuracy 0.96", "accuracy", _right(0.96, own=0.1)),
    Case("F1", "f1", _confusions(0.68, 0.82)),
    Case("F1, few positive", "f1", _confusions(0.3, 0.93)),
    Case("Matthews", "matthews", _confusions(0.68, 0.82)),
    Case("Pearson", "pearson", _pairs(ranked=False)),
    Case("Spearman", "spearman", _pairs(ranked=True)),
    Case("exact match", "exact_match", _right(0.6, squad=True)),
    Case("SQuAD's F1", "f1", _answers),
    Case("mean cosine", "cosine", _cosines),
)
