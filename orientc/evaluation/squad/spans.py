"""Turn start and end logits into one answer per question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orientc.evaluation.squad.data import Question
from orientc.evaluation.squad.windows import Window

Scores = NDArray[np.floating[Any]]


def best_answers(
    questions: Sequence[Question],
    windows: Sequence[Window],
    start_logits: Scores,
    end_logits: Scores,
    *,
    n_best: int = 20,
    max_answer: int = 30,
) -> dict[str, str]:
    """The answer to each question by its id, cut from the context; "" where no window offers a span.

    The logits are [windows, length], with anything in the places behind a window's own tokens. In each window the
    `n_best` highest starts and ends among the context tokens are paired; of all pairs in order and of at most
    `max_answer` tokens, over all windows of a question, that with the highest sum wins. Of equals it is the one in
    the first window, with the earliest start, the shortest. A score that is not a number never wins.
    """
    best: dict[int, tuple[float, int, int]] = {}
    for window, starts, ends in zip(windows, start_logits, end_logits, strict=True):
        context = slice(window.first, window.first + len(window.offsets))
        found = _best_span(starts[context].astype(np.float64), ends[context].astype(np.float64), n_best, max_answer)
        if found is None:
            continue
        score, start, end = found
        if window.question not in best or score > best[window.question][0]:
            best[window.question] = (score, int(window.offsets[start, 0]), int(window.offsets[end, 1]))
    answers = {}
    for index, entry in enumerate(questions):
        _, begin, stop = best.get(index, (-math.inf, 0, 0))
        answers[entry.id] = entry.context[begin:stop].strip()  # byte-level tokens have the blank before a word in them
    return answers


def _best_span(
    starts: NDArray[np.float64], ends: NDArray[np.float64], n_best: int, max_answer: int
) -> tuple[float, int, int] | None:
    """The best pair's score, first and last token."""
    # in the order of the text, so that of equal sums the first one found is the earliest and shortest
    first, last = (np.sort(np.argsort(-scores, kind="stable")[:n_best]) for scores in (starts, ends))
    sums = starts[first][:, None] + ends[last]
    length = last - first[:, None] + 1
    allowed = (length >= 1) & (length <= max_answer) & ~np.isnan(sums)
    if not allowed.any():
        return None
    row, column = np.unravel_index(np.where(allowed, sums, -np.inf).argmax(), sums.shape)
    if not allowed[row, column]:  # every allowed sum is minus infinity: they are all equal
        row, column = np.argwhere(allowed)[0]
    return float(sums[row, column]), int(first[row]), int(last[column])
