"""A verdict for each claim: whether it holds by the figures of a study, by how much, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orientc.comparison.numbers import figure
from orientc.evaluation.glue.tasks import TASKS
from orientc.evaluation.statistics import Difference, total_error
from orientc.storage.sizes import INPUT_ONLY, TIED
from orientc.workflows import paper
from orientc.workflows.results import Measured, Result
from orientc.workflows.study import AE, SQUAD, SVD

HOLDS, FAILS, OPEN = "holds", "does not hold", "not told apart"
UNTESTED, UNMEASURED = "not tested", "not measured"


@dataclass(frozen=True)
class Part:
    """What a claim comes to at one ratio.

    Attributes:
        ratio: The parameter ratio.
        verdict: "holds", "does not hold", "not told apart" (its 95 % interval takes in that there is no
            difference), "not tested" (its error is not known).
        difference: Of perplexities how many times the other it is, of others how far it is from the other; of scores in
            percentage points.
        low: Lower end of the difference's 95 % interval; None where its error is not known.
        high: Upper end.
        told: The difference in words.
    """

    ratio: float
    verdict: str
    difference: float
    low: float | None
    high: float | None
    told: str


@dataclass(frozen=True)
class Claim:
    """A claim, where it stands, its verdict, and what it comes to at each ratio; `told` has further words."""

    text: str
    source: str
    verdict: str
    parts: tuple[Part, ...]
    told: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def claims(results: Sequence[Result], missing: Mapping[str, str]) -> tuple[Claim, ...]:
    """The paper's claims, and what a reader asks beside them, by the figures there are.

    Args:
        results: All tables of a study.
        missing: What could not be measured, by name, and why.
    """
    paired = [
        (svd, own)
        for svd in results
        for own in results
        if svd.method == SVD and own.method == AE and own.preset == "paper" and own.ratio == svd.ratio
    ]
    recipes = [
        (own, ours)
        for own in results
        for ours in results
        if own.method == ours.method == AE and (own.preset, ours.preset) == ("paper", "default")
        and own.ratio == ours.ratio
    ]  # fmt: skip
    measured = {head for head in (INPUT_ONLY, TIED) if any(f"perplexity.{head}" in each.figures for each in results)}
    without = missing.get("perplexity", "its cells failed")
    tasks = [
        f"{name}.{metric}"
        for name, task in TASKS.items()
        for metric in task.figures
        if any(f"{name}.{metric}" in each.figures for each in results)
    ]
    lacking = [name for name in TASKS if not any(figure.startswith(f"{name}.") for figure in tasks)]
    ppl, squad = f"perplexity.{INPUT_ONLY}", missing.get(SQUAD, "its cells failed")
    found = [_of_figure(paper.PERPLEXITY_CLAIM, paper.CLAIMED, paired, ppl, "SVD's", without)]
    if measured != {INPUT_ONLY}:  # the head may share the table
        found.append(_of_figure(paper.TIED_CLAIM, paper.NOT_CLAIMED, paired, f"perplexity.{TIED}", "SVD's", without))
    return (
        *found,
        _of_tasks(paper.GLUE_CLAIM, paired, tasks, lacking),
        _of_figure(paper.SQUAD_CLAIM, paper.CLAIMED, paired, f"{SQUAD}.f1", "F1", squad),
        _of_figure(paper.RECIPE_CLAIM, paper.NOT_CLAIMED, recipes, ppl, "the paper's recipe's", without),
    )


def _of_figure(
    text: str, source: str, pairs: Sequence[tuple[Result, Result]], name: str, whose: str, without: str
) -> Claim:
    parts = []
    for other, own in pairs:
        if name in other.figures and name in own.figures and own.ratio is not None:
            parts.append(_part(own.ratio, own.figures[name], other.figures[name], name, whose))
    if not parts:
        return Claim(text, source, UNMEASURED, (), without)
    return Claim(text, source, _together(parts), tuple(parts))


def _part(ratio: float, own: Measured, other: Measured, name: str, whose: str) -> Part:
    found = own.against(other)
    if name.startswith("perplexity."):
        value = own.value / other.value if other.value and math.isfinite(other.value) else math.nan
        if math.isnan(value) or not math.isfinite(value):
            return Part(ratio, UNTESTED, value, None, None, "one of the two is infinite")
        low, high = (found.low, found.high) if found else (None, None)
        told = f"{figure(value, 4)} times {whose}{_between(low, high, lambda end: figure(end, 4))}"
        return Part(ratio, _verdict(value, low, high, 1.0, lower=True), value, low, high, told)
    by = 1.0 if name.startswith(SQUAD) else 100.0
    value = (own.value - other.value) * by
    low, high = (found.low * by, found.high * by) if found else (None, None)
    told = f"{whose} {value:+.1f} points{_between(low, high, lambda end: f'{end:+.1f}')}"
    return Part(ratio, _verdict(value, low, high, 0.0, lower=False), value, low, high, told)


def _of_tasks(text: str, pairs: Sequence[tuple[Result, Result]], names: Sequence[str], lacking: Sequence[str]) -> Claim:
    """The claim on many tasks: counts, and the mean difference with an error that tasks alone make smaller."""
    lacked = f"without {', '.join(lacking)}" if lacking else ""
    found: dict[float, list[tuple[str, float, Difference | None]]] = {}
    for other, own in pairs:
        for name in names:
            if name in other.figures and name in own.figures and own.ratio is not None:
                difference = own.figures[name].against(other.figures[name])
                value = 100 * (own.figures[name].value - other.figures[name].value)
                found.setdefault(own.ratio, []).append((name.partition(".")[0], value, difference))
    if not found:
        return Claim(text, paper.CLAIMED, UNMEASURED, (), lacked)
    parts = []
    for ratio, differences in found.items():
        value, width = _mean_of_tasks(differences)
        low, high = (value - width, value + width) if width is not None else (None, None)
        ahead, behind = (sum(sign * each > 0 for _, each, _ in differences) for sign in (1, -1))
        told = f"ahead in {ahead} of {len(differences)} figures, behind in {behind}, {value:+.1f} points on average"
        told += _between(low, high, lambda end: f"{end:+.1f}")
        parts.append(Part(ratio, _verdict(value, low, high, 0.0, lower=False), value, low, high, told))
    return Claim(text, paper.CLAIMED, _together(parts), tuple(parts), lacked)


def _mean_of_tasks(own: Sequence[tuple[str, float, Difference | None]]) -> tuple[float, float | None]:
    """Mean difference over tasks in points, and half the width of its 95 % interval; None where an error is not known.

    A task's several figures are of the same examples: the one with the largest error stands for them.
    """
    tasks: dict[str, list[tuple[float, Difference | None]]] = {}
    for task, value, difference in own:
        tasks.setdefault(task, []).append((value, difference))
    mean = statistics.fmean(statistics.fmean(value for value, _ in each) for each in tasks.values())
    known = [[difference for _, difference in each if difference] for each in tasks.values()]
    if sum(map(len, known)) < len(own):
        return mean, None
    largest = [max(each, key=lambda difference: difference.standard_error) for each in known]
    parts = [((100 * each.standard_error / len(known)) ** 2, each.freedom) for each in largest]
    error, quantile, _ = total_error(parts)
    return mean, quantile * error


def _verdict(value: float, low: float | None, high: float | None, even: float, *, lower: bool) -> str:
    if low is None or high is None:
        return UNTESTED
    if low <= even <= high:
        return OPEN
    return HOLDS if (value < even) == lower else FAILS


def _together(parts: Sequence[Part]) -> str:
    """One verdict for all ratios, or which is whose."""
    ratios: dict[str, list[str]] = {}
    for part in parts:
        ratios.setdefault(part.verdict, []).append(f"{part.ratio:g}")
    if len(ratios) == 1:
        return parts[0].verdict
    return ", ".join(f"{verdict} at {' and '.join(own)}" for verdict, own in ratios.items())


def _between(low: float | None, high: float | None, shown: Callable[[float], str]) -> str:
    if low is None or high is None:
        return " (error not known)"
    return f" (95 %: {shown(low)} to {shown(high)})"
