"""The metrics of GLUE's tasks, by scikit-learn and SciPy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orientc.errors import EvaluationError
from orientc.evaluation.blocks import classified, correlated
from orientc.evaluation.glue.tasks import Task


def compute(task: Task, answers: NDArray[Any], labels: Sequence[Any]) -> dict[str, float]:
    """The task's metrics over one evaluation set, by name, as fractions of 1.

    `answers` are class ids, or scores for STS-B. F1 is that of class 1. A correlation, Matthews's too, with constant
    answers or labels is not defined and counts as 0.

    Raises:
        EvaluationError: There is nothing to score, or a score or label is not finite.
    """
    from sklearn import metrics

    truth = np.asarray(labels)
    if not len(truth):
        raise EvaluationError(f"{task.name} has no examples to score")
    if not (np.isfinite(answers).all() and np.isfinite(truth).all()):
        raise EvaluationError(f"{task.name} has answers or labels that are not finite numbers")
    compute: dict[str, Callable[[Any, Any], float]] = {
        "accuracy": metrics.accuracy_score,
        "f1": lambda truth, given: metrics.f1_score(truth, given, zero_division=0.0),
        "matthews": lambda truth, given: 0.0 if _constant(truth, given) else metrics.matthews_corrcoef(truth, given),
        "pearson": pearson,
        "spearman": spearman,
    }
    return {name: float(compute[name](truth, answers)) for name in task.metrics}


def blocks(task: Task, answers: NDArray[Any], labels: Sequence[Any]) -> dict[str, list[float]]:
    """What errors of the task's metrics are computed from, as a record has it."""
    truth = np.asarray(labels)
    return correlated(answers, truth) if task.regression else classified(answers, truth, two=len(task.labels) == 2)


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Pearson's correlation of finite numbers; 0 where those of one side are all the same."""
    from scipy import stats

    return _correlation(stats.pearsonr, first, second)


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's correlation of finite numbers; 0 where those of one side are all the same."""
    from scipy import stats

    return _correlation(stats.spearmanr, first, second)


def _correlation(measure: Callable[..., Any], first: ArrayLike, second: ArrayLike) -> float:
    if _constant(first, second):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on numbers that are all but the same
        found = float(measure(first, second).statistic)
    return 0.0 if math.isnan(found) else found  # as for two numbers, one below the other by less than a float tells


def _constant(*values: ArrayLike) -> bool:
    return any(np.ptp(np.asarray(own)) == 0 for own in values)
