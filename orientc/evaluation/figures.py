"""Figures as functions of what a record's blocks add up to. Imports no torch.

Each gives the whole evaluation's figure of the sums of all blocks, and what it would be without some of the sums of the
others; a Spearman correlation alone needs its pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orientc.evaluation.blocks import BLOCKS
from orientc.evaluation.statistics import EXAMPLE_WAVES, TEXT_WAVES, Sample, Scale, mean
from orientc.storage.records import Record

Array = NDArray[np.float64]
Blocks = Mapping[str, list[float]]

SHARE, PERCENT, CORRELATION, POSITIVE = Scale(0, 1, share=True), Scale(0, 100, share=True), Scale(-1, 1), Scale(0)
SPLITS = ("_matched", "_mismatched")  # of MNLI, at the end of names


@dataclass(frozen=True)
class Form:
    """How a figure follows from sums.

    Args:
        names: The sums it is a function of, in the order of its arguments; the first weighs a block.
        compute: The function, of arrays.
        scale: The values the figure can take.
        trials: The sum that counts what it is a share of, where it is one.
        waves: How many waves its error is estimated with: what neighbours have in common.
    """

    names: tuple[str, ...]
    compute: Callable[..., Array]
    scale: Scale
    trials: str = ""
    waves: int = EXAMPLE_WAVES


def _mean(count: Array, total: Array) -> Array:
    return total / count


def _perplexity(tokens: Array, loss: Array) -> Array:
    return np.exp(np.minimum(loss / tokens, 709))


def _f1(examples: Array, hits: Array, false_alarms: Array, misses: Array) -> Array:
    return _quotient(2 * hits, 2 * hits + false_alarms + misses)


def _matthews(examples: Array, hits: Array, false_alarms: Array, misses: Array, rejections: Array) -> Array:
    margins = (hits + false_alarms) * (hits + misses) * (rejections + false_alarms) * (rejections + misses)
    return _quotient(hits * rejections - false_alarms * misses, np.sqrt(margins))


def _pearson(n: Array, x: Array, y: Array, xx: Array, yy: Array, xy: Array) -> Array:
    spread = np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0)
    return np.clip(_quotient(xy - x * y / n, np.sqrt(spread)), -1, 1)


def _quotient(above: Array, below: Array) -> Array:
    """0 where the divisor is: a figure that is not defined counts as that."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


_CONFUSION = ("examples", "true_positives", "false_positives", "false_negatives", "true_negatives")
FORMS: dict[str, tuple[Form, ...]] = {
    "perplexity": (Form(("tokens", "loss"), _perplexity, POSITIVE, waves=TEXT_WAVES),),
    "loss": (Form(("tokens", "loss"), _mean, Scale(), waves=TEXT_WAVES),),
    "kl": (Form(("tokens", "kl"), _mean, POSITIVE, waves=TEXT_WAVES),),
    "same_top": (Form(("tokens", "same_top"), _mean, SHARE, "tokens", TEXT_WAVES),),
    "accuracy": (Form(("examples", "correct"), _mean, SHARE, "examples"),),
    "f1": (
        Form(_CONFUSION[:-1], _f1, SHARE, "true_positives"),
        Form(("questions", "f1"), _mean, PERCENT, "questions"),  # SQuAD's, a mean over questions
    ),
    "matthews": (Form(_CONFUSION, _matthews, CORRELATION, "examples"),),
    "pearson": (
        Form(("pairs", "answer", "label", "answer_squared", "label_squared", "answer_label"), _pearson, CORRELATION),
    ),
    "exact_match": (Form(("questions", "exact_match"), _mean, PERCENT, "questions"),),
    "cosine": (Form(("sentences", "cosine"), _mean, CORRELATION),),
}
SPEARMAN, RANKS = "spearman", ("answer_rank", "label_rank")


def sample(metric: str, blocks: Blocks | None) -> Sample | None:
    """How a metric of a record varies with what was measured on, by the record's blocks; None where they don't tell.

    They don't where there is but one block, or a block less leaves nothing to compute the figure of.
    """
    split = next((own for own in SPLITS if metric.endswith(own)), "")
    plain = metric.removesuffix(split)
    if plain == SPEARMAN:
        return _of_ranks(*(blocks[name] for name in RANKS)) if blocks and blocks.keys() >= {*RANKS} else None
    for form in FORMS.get(plain, ()):
        lists = [blocks[name + split] for name in form.names if name + split in blocks] if blocks else []
        if len(lists) == len(form.names) and len({*map(len, lists)}) == 1:
            return _of_sums(form, [np.array(own, dtype=np.float64) for own in lists])
    return None


def over_seeds(metric: str, records: Sequence[Record]) -> Sample | None:
    """How the mean of a metric varies over records that differ in their seed; None where they don't tell."""
    known = [sample(metric, record.blocks) for record in records]
    first = known[0]
    if first is None or not all(each and each.is_pair(first) for each in known):
        return None
    return mean([each for each in known if each])


def errors(metrics: Mapping[str, float], blocks: Blocks | None) -> dict[str, dict[str, float]]:
    """The errors of a record's metrics, as a record has them, of those that its blocks tell something of."""
    found = {name: own.estimate() for name in metrics if (own := sample(name, blocks))}
    return {
        name: {"standard_error": own.standard_error, "low": own.low, "high": own.high}
        for name, own in found.items()
        if math.isfinite(own.standard_error + own.low + own.high)
    }


def _of_sums(form: Form, sums: list[Array]) -> Sample | None:
    totals = [np.array([own.sum()]) for own in sums]
    with np.errstate(all="ignore"):
        value = form.compute(*totals)
        left_out = form.compute(*(total - own for total, own in zip(totals, sums, strict=True)))
    if len(left_out) < 2 or not (np.isfinite(value).all() and np.isfinite(left_out).all()):
        return None
    trials = float(totals[form.names.index(form.trials)][0]) if form.trials else 0.0
    return Sample(float(value[0]), left_out, sums[0], form.scale, form.waves, trials)


def _of_ranks(answers: list[float], labels: list[float]) -> Sample | None:
    from scipy import stats

    one, other = np.array(answers), np.array(labels)
    count = min(BLOCKS, len(one))
    if len(one) != len(other) or len(one) < 4:
        return None
    block = np.arange(len(one)) * count // len(one)

    def correlation(kept: NDArray[np.bool_]) -> float:
        x, y = (stats.rankdata(ranks[kept]) - (kept.sum() + 1) / 2 for ranks in (one, other))
        spread = math.sqrt(float(x @ x) * float(y @ y))
        return float(x @ y) / spread if spread else 0.0

    left_out = np.array([correlation(block != own) for own in range(count)])
    return Sample(correlation(block >= 0), left_out, np.bincount(block).astype(np.float64), CORRELATION)
