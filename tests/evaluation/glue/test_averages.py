from __future__ import annotations

from orientc.evaluation.glue.averages import averages
from orientc.evaluation.glue.tasks import TASKS


def test_averages_are_over_all_tasks_or_left_out() -> None:
    scores = {name: float(number) for number, name in enumerate(TASKS)}
    eight = {name: value for name, value in scores.items() if name != "wnli"}
    assert averages(scores) == {"glue": 36 / 9, "glue_without_wnli": 28 / 8}
    assert averages(eight) == {"glue_without_wnli": 28 / 8}
    assert averages({name: value for name, value in scores.items() if name != "cola"}) == {}
    assert averages({}) == {}
