"""GLUE's averages over tasks."""

from __future__ import annotations

from collections.abc import Mapping

from orientc.evaluation.glue.tasks import TASKS


def averages(scores: Mapping[str, float]) -> dict[str, float]:
    """GLUE's averages over task scores by task name: over nine, and BERT's habit, over eight without WNLI.

    An average that lacks a task is left out.
    """
    wanted = {"glue": list(TASKS), "glue_without_wnli": [name for name in TASKS if name != "wnli"]}
    return {
        name: sum(scores[task] for task in tasks) / len(tasks)
        for name, tasks in wanted.items()
        if scores.keys() >= set(tasks)
    }
