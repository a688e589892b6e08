"""Figures out of blocks are those of the whole evaluation, and their errors hold what they claim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from numpy.typing import NDArray
from scipy import stats
from support.simulated import CASES, Case, blocks

from orientc.evaluation import figures, statistics
from orientc.evaluation.blocks import BLOCKS, RANKED, block_sums, classified, correlated
from orientc.evaluation.statistics import holm, mean, paired
from orientc.utils.files import json_bytes

RANDOM = np.random.default_rng(0)
ANSWERS, LABELS = RANDOM.integers(0, 2, (2, 1001))
FIRST = RANDOM.normal(size=1001)
SECOND = FIRST + RANDOM.normal(size=1001)


def value(metric: str, kept: dict[str, list[float]] | None) -> float:
    found = figures.sample(metric, kept)
    assert found is not None
    return found.value


def test_figures_of_sums_are_those_of_the_whole() -> None:
    """By scikit-learn and SciPy."""
    kept = classified(ANSWERS, LABELS, two=True)
    assert value("accuracy", kept) == pytest.approx(sklearn.metrics.accuracy_score(LABELS, ANSWERS), rel=1e-9)
    assert value("f1", kept) == pytest.approx(sklearn.metrics.f1_score(LABELS, ANSWERS), rel=1e-9)
    assert value("matthews", kept) == pytest.approx(sklearn.metrics.matthews_corrcoef(LABELS, ANSWERS), rel=1e-9)
    kept = correlated(FIRST, SECOND)
    assert value("pearson", kept) == pytest.approx(stats.pearsonr(FIRST, SECOND).statistic, rel=1e-9)
    assert value("spearman", kept) == pytest.approx(stats.spearmanr(FIRST, SECOND).statistic, rel=1e-9)


def test_without_each_block_a_figure_is_that_of_the_rest() -> None:
    found = figures.sample("matthews", classified(ANSWERS, LABELS, two=True))
    assert found is not None
    assert len(found.left_out) == BLOCKS
    ends = np.arange(BLOCKS + 1) * len(LABELS) // BLOCKS
    for block in (0, 100, BLOCKS - 1):
        rest = np.r_[0 : ends[block], ends[block + 1] : len(LABELS)]
        expected = sklearn.metrics.matthews_corrcoef(LABELS[rest], ANSWERS[rest])
        assert found.left_out[block] == pytest.approx(expected, rel=1e-9)


def test_the_largest_records_are_small() -> None:
    """QQP's dev set has 40 430 pairs; a record stays under 200 kB."""
    labels = RANDOM.integers(0, 2, 40_430)
    kept = classified(np.where(RANDOM.random(40_430) < 0.9, labels, 1 - labels), labels, two=True)
    assert figures.errors({"accuracy": 0.9, "f1": 0.9}, kept).keys() == {"accuracy", "f1"}
    assert len(json_bytes(kept)) < 190_000
    assert len(json_bytes(correlated(RANDOM.random(RANKED), RANDOM.random(RANKED)))) < 190_000


def test_an_error_of_independent_values_is_the_textbooks() -> None:
    kept = block_sums({"sentences": np.ones(4000), "cosine": np.tanh(RANDOM.normal(size=4000))})
    assert kept
    found = figures.sample("cosine", kept)
    assert found is not None
    expected = np.tanh(RANDOM.normal(size=100_000)).std() / np.sqrt(4000)
    assert found.estimate().standard_error == pytest.approx(expected, rel=0.4)  # 20 waves: known to a sixth


def test_no_interval_leaves_the_bounds_of_its_figure() -> None:
    for right in (np.ones(300), np.r_[np.zeros(1), np.ones(299)], np.zeros(300)):
        found = figures.sample("accuracy", {"examples": [1.0] * 300, "correct": right.tolist()})
        assert found is not None
        estimate = found.estimate()
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.high > estimate.low  # that all were right does not mean that all are


@pytest.mark.parametrize(
    "kept", [None, {}, {"tokens": [3.0]}, {"tokens": [3.0], "loss": [1.0]}, {"tokens": [1, 2], "loss": [1]}]
)
def test_too_little_has_no_error(kept: Any) -> None:
    assert figures.sample("perplexity", kept) is None
    assert figures.errors({"perplexity": 2.0, "tokens": 3}, kept) == {}


def test_pairs_are_of_the_same_blocks_alone() -> None:
    one, other = (block_sums({"tokens": np.full(count, 5), "loss": RANDOM.random(count)}) for count in (300, 301))
    assert paired(*(figures.sample("loss", kept) for kept in (one, other))) is None  # type: ignore[arg-type]


def test_a_paired_difference_knows_what_both_have_in_common() -> None:
    hard = RANDOM.gamma(2, size=500)
    kept = [
        block_sums({"tokens": np.ones(500), "loss": hard + 0.01 + noise}) for noise in 1e-3 * RANDOM.random((2, 500))
    ]
    one, other = (figures.sample("loss", own) for own in kept)
    assert one is not None
    assert other is not None
    found = paired(one, other)
    assert found is not None
    assert found.standard_error < 0.01 * one.estimate().standard_error
    ratio = paired(*(figures.sample("perplexity", own) for own in kept))  # type: ignore[arg-type]
    assert ratio is not None
    assert ratio.value == pytest.approx(np.exp(found.value), rel=1e-9)
    assert ratio.relative


def test_the_error_of_a_mean_over_seeds_has_both_parts() -> None:
    def one(shift: float) -> statistics.Sample:
        found = figures.sample("loss", block_sums({"tokens": np.ones(300), "loss": same + shift}))
        assert found is not None
        return found

    same = RANDOM.random(300)
    alike, apart = mean([one(0.0), one(0.0), one(0.0)]), mean([one(-0.5), one(0.0), one(0.5)])
    assert alike.estimate().standard_error == pytest.approx(one(0.0).estimate().standard_error)
    assert apart.estimate().standard_error == pytest.approx(np.hypot(0.5 / np.sqrt(3), alike.estimate().standard_error))


def test_holms_correction() -> None:
    """By statsmodels' `multipletests(..., method="holm")`."""
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([]) == []


def draws(case: Case, count: int) -> NDArray[np.float64]:
    random = np.random.default_rng(7)
    return np.array([[float(found) for found in simulated(case, random)] for _ in range(count)])


def simulated(case: Case, random: np.random.Generator) -> tuple[float, float, float, float]:
    one, other = (figures.sample(case.metric, blocks(units)) for units in case.pair(random, 300))
    assert one is not None
    assert other is not None
    estimate, difference = one.estimate(), paired(one, other)
    assert difference is not None
    return one.value, estimate.low, estimate.high, difference.p


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in ("perplexity", "accuracy 0.85")], ids=lambda case: case.name
)
def test_intervals_hold_the_truth_and_equal_models_are_told_apart_seldom(case: Case) -> None:
    """`tests/benchmarks/intervals.py` does so at length; here only what is far off is found out."""
    value, low, high, p = draws(case, 200).T
    truth = np.median(value)
    assert 0.88 < np.mean((low <= truth) & (truth <= high)) < 0.995
    assert np.mean(p < 0.05) < 0.12
