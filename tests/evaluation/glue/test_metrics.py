"""GLUE's figures against values worked out by hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from orientc.evaluation.glue import metrics
from orientc.evaluation.glue.tasks import TASKS


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    """No figure may warn: the warning would land in the middle of a user's table."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def compute(task: str, answers: list[float], labels: list[float]) -> dict[str, float]:
    found = metrics.compute(TASKS[task], np.array(answers), labels)
    assert tuple(found) == TASKS[task].metrics
    assert all(type(value) is float for value in found.values())
    return found


@pytest.mark.parametrize("task", ["sst2", "qnli", "rte", "wnli", "mnli"])
def test_accuracy_is_the_share_of_right_answers(task: str) -> None:
    assert compute(task, [0, 1, 1, 0, 1], [0, 1, 0, 0, 0]) == {"accuracy": 3 / 5}
    assert compute(task, [1, 1], [1, 1]) == {"accuracy": 1.0}
    assert compute(task, [0], [1]) == {"accuracy": 0.0}


def test_accuracy_over_three_classes() -> None:
    assert compute("mnli", [0, 1, 2, 2, 2], [0, 1, 2, 1, 0]) == {"accuracy": 3 / 5}


@pytest.mark.parametrize("task", ["mrpc", "qqp"])
def test_f1_is_that_of_the_positive_class(task: str) -> None:
    # of the answers 2 true and 1 false positives, 2 false negatives: precision 2/3, recall 2/4
    found = compute(task, [1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 1, 0, 0])
    assert found["accuracy"] == pytest.approx(4 / 7)
    assert found["f1"] == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    flipped = compute(task, [0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 0, 0, 1, 1])
    assert flipped["f1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))


@pytest.mark.parametrize("task", ["mrpc", "qqp"])
@pytest.mark.parametrize(
    ("answers", "labels", "accuracy"),
    [([0, 0, 0], [1, 0, 1], 1 / 3), ([0, 0], [0, 0], 1.0), ([1, 1], [0, 0], 0.0), ([0, 1], [1, 0], 0.0)],
)
def test_f1_without_a_true_positive_is_0(task: str, answers: list[float], labels: list[float], accuracy: float) -> None:
    assert compute(task, answers, labels) == {"accuracy": pytest.approx(accuracy), "f1": 0.0}


def test_matthews_by_its_formula() -> None:
    # tp 3, tn 2, fp 1, fn 2
    found = compute("cola", [1, 1, 1, 0, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0, 1, 1])
    expected = (3 * 2 - 1 * 2) / math.sqrt((3 + 1) * (3 + 2) * (2 + 1) * (2 + 2))
    assert found["matthews"] == pytest.approx(expected)
    assert compute("cola", [0, 1, 1], [1, 0, 0]) == {"matthews": pytest.approx(-1)}
    assert compute("cola", [0, 1, 1], [0, 1, 1]) == {"matthews": pytest.approx(1)}


@pytest.mark.parametrize("constant", [0, 1])
@pytest.mark.parametrize("labels", [[0, 1, 1], [0, 0, 0], [1, 1, 1]])
def test_matthews_of_constant_answers_is_0(constant: int, labels: list[float]) -> None:
    assert compute("cola", [constant] * 3, labels) == {"matthews": 0.0}
    assert compute("cola", labels, [constant] * 3) == {"matthews": 0.0}


def test_correlations_by_their_formulas() -> None:
    # answers 1, 2, 4 and labels 1, 3, 2: means 7/3 and 2; ranks 1, 2, 3 and 1, 3, 2
    found = compute("stsb", [1.0, 2.0, 4.0], [1.0, 3.0, 2.0])
    covariance = (-4 / 3) * (-1) + (-1 / 3) * 1 + 0
    assert found["pearson"] == pytest.approx(covariance / math.sqrt((16 + 1 + 25) / 9 * 2))
    assert found["spearman"] == pytest.approx(1 - 6 * (0 + 1 + 1) / (3 * 8))


def test_spearman_sees_the_order_alone_and_gives_ties_their_mean_rank() -> None:
    found = compute("stsb", [0.1, 10.0, 1000.0], [1.0, 2.0, 3.0])
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] < 0.95
    # ranks 1.5, 1.5, 3 and 1, 2, 3
    assert compute("stsb", [2.0, 2.0, 5.0], [1.0, 2.0, 3.0])["spearman"] == pytest.approx(math.sqrt(3) / 2)


def test_opposite_scores_correlate_negatively() -> None:
    assert compute("stsb", [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]) == {
        "pearson": pytest.approx(-1),
        "spearman": pytest.approx(-1),
    }


@pytest.mark.parametrize("answers", [[2.5, 2.5, 2.5], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
def test_a_correlation_with_something_constant_is_0(answers: list[float]) -> None:
    assert compute("stsb", answers, [4.0, 4.0, 4.0]) == {"pearson": 0.0, "spearman": 0.0}
    if len(set(answers)) == 1:
        assert compute("stsb", answers, [1.0, 2.0, 3.0]) == {"pearson": 0.0, "spearman": 0.0}


def test_a_single_example_has_no_correlation() -> None:
    assert compute("stsb", [1.5], [4.0]) == {"pearson": 0.0, "spearman": 0.0}


def test_every_task_has_the_figures_the_benchmark_names() -> None:
    assert {name: task.figures for name, task in TASKS.items()} == {
        "cola": ("matthews",),
        "sst2": ("accuracy",),
        "mrpc": ("accuracy", "f1"),
        "stsb": ("pearson", "spearman"),
        "qqp": ("accuracy", "f1"),
        "mnli": ("accuracy_matched", "accuracy_mismatched"),
        "qnli": ("accuracy",),
        "rte": ("accuracy",),
        "wnli": ("accuracy",),
    }


def test_a_task_with_two_figures_counts_with_their_mean() -> None:
    assert TASKS["mrpc"].score({"accuracy": 0.5, "f1": 0.75}) == 0.625
    assert TASKS["mnli"].score({"accuracy_matched": 0.75, "accuracy_mismatched": 0.25}) == 0.5
    assert TASKS["cola"].score({"matthews": -0.25, "seconds": 9.0}) == -0.25
