"""The metrics of GLUE's tasks, by scikit-learn and SciPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orientc.evaluation.glue.tasks import Task


def compute(task: Task, answers: NDArray[Any], labels: Sequence[Any]) -> dict[str, float]:
    """The task's metrics over one evaluation set, by name, as fractions of 1.

    `answers` are class ids, or scores for STS-B. F1 is that of class 1. A correlation, Matthews's too, with constant
    answers or labels is not defined and counts as 0.
    """
    from scipy import stats
    from sklearn import metrics

    truth = np.asarray(labels)
    if "accuracy" not in task.metrics and 0 in (np.ptp(answers), np.ptp(truth)):
        return dict.fromkeys(task.metrics, 0.0)
    compute: dict[str, Callable[[Any, Any], float]] = {
        "accuracy": metrics.accuracy_score,
        "f1": lambda truth, given: metrics.f1_score(truth, given, zero_division=0.0),
        "matthews": metrics.matthews_corrcoef,
        "pearson": lambda truth, given: stats.pearsonr(truth, given).statistic,
        "spearman": lambda truth, given: stats.spearmanr(truth, given).statistic,
    }
    return {name: float(compute[name](truth, answers)) for name in task.metrics}
