"""From scores to answers: against a plain search, on ties, and back to the gold answers of real questions."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from orientc.evaluation.squad.data import Question, load
from orientc.evaluation.squad.metrics import score
from orientc.evaluation.squad.spans import Scores, best_answers
from orientc.evaluation.squad.windows import Window, windows

FIRST = 3  # tokens before the context in the windows made here


def asked(id: str, words: int) -> Question:
    """A question on a context of numbered words, so that an answer's text tells its place."""
    return Question(id, "?", " ".join(f"w{number}" for number in range(words)), ("w0",), (0,))


def cut(index: int, question: Question, length: int, step: int) -> list[Window]:
    """The windows of a context with one token per word."""
    ends = np.cumsum([len(word) + 1 for word in question.context.split()])
    starts = np.concatenate([[0], ends[:-1]])
    offsets = np.stack([starts, ends - 1], axis=1).astype(np.int32)
    return [
        Window(index, [0] * (FIRST + len(piece) + 1), None, FIRST, piece, None)
        for piece in (offsets[start : start + length] for start in range(0, len(offsets) - length + step, step))
    ]


def one(scores: dict[int, float], length: int) -> Scores:
    """A window's scores: low but where a context token is given one, and tempting outside the context."""
    row = np.full((1, FIRST + length + 4), 1000, dtype=np.float32)
    row[0, FIRST : FIRST + length] = [scores.get(number, -50.0) for number in range(length)]
    return row


def plain_answers(
    questions: list[Question], cuts: list[Window], starts: Scores, ends: Scores, n_best: int, max_answer: int
) -> dict[str, str]:
    found: dict[str, tuple[float, str]] = {question.id: (-np.inf, "") for question in questions}
    for window, start_row, end_row in zip(cuts, starts.tolist(), ends.tolist(), strict=True):
        question = questions[window.question]
        places = range(len(window.offsets))
        first, last = (
            sorted(sorted(places, key=lambda place: -row[FIRST + place])[:n_best]) for row in (start_row, end_row)
        )
        for start, end in itertools.product(first, last):
            total = start_row[FIRST + start] + end_row[FIRST + end]
            if start <= end < start + max_answer and total > found[question.id][0]:
                text = question.context[window.offsets[start][0] : window.offsets[end][1]]
                found[question.id] = (total, text)
    return {id: text for id, (_, text) in found.items()}


@pytest.mark.parametrize(("n_best", "max_answer"), [(20, 30), (3, 4), (1, 1), (1, 100), (100, 2), (5, 1)])
def test_against_a_plain_search(n_best: int, max_answer: int) -> None:
    rng = np.random.default_rng(n_best)
    questions = [asked(str(number), int(rng.integers(12, 40))) for number in range(60)]
    cuts = [window for index, question in enumerate(questions) for window in cut(index, question, 12, 5)]
    for levels in (3, 1000):  # of few levels many are equal
        starts, ends = (
            rng.integers(-levels, levels, size=(len(cuts), FIRST + 20)).astype(np.float32) / 8 for _ in range(2)
        )
        expected = plain_answers(questions, cuts, starts, ends, n_best, max_answer)
        assert best_answers(questions, cuts, starts, ends, n_best=n_best, max_answer=max_answer) == expected
        assert len(set(expected.values())) > 20 or max_answer == n_best == 1


def test_of_equals_the_first_window_the_earliest_start_the_shortest() -> None:
    question = asked("q", 12)
    cuts = cut(0, question, 8, 4)
    assert len(cuts) == 2
    flat = np.zeros((2, FIRST + 8))
    assert best_answers([question], cuts, flat, flat) == {"q": "w0"}
    starts, ends = one({2: 5, 4: 5}, 8), one({3: 5, 4: 5, 6: 5}, 8)
    assert best_answers([question], cuts[:1], starts, ends) == {"q": "w2 w3"}
    assert best_answers([question], cuts, np.repeat(starts, 2, 0), np.repeat(ends, 2, 0)) == {"q": "w2 w3"}


def test_the_best_window_wins_wherever_it_is() -> None:
    question = asked("q", 12)
    cuts = cut(0, question, 8, 4)
    starts = np.concatenate([one({0: 5}, 8), one({6: 5}, 8)])
    ends = np.concatenate([one({1: 5}, 8), one({7: 5.5}, 8)])
    assert best_answers([question], cuts, starts, ends) == {"q": "w10 w11"}
    assert best_answers([question], cuts, starts[::-1], ends[::-1]) == {"q": "w6 w7"}
    # each of two questions has the best of its own windows
    both = [question, asked("r", 12)]
    other = cut(1, both[1], 8, 4)
    answers = best_answers(both, [cuts[0], other[1]], starts, ends)
    assert answers == {"q": "w0 w1", "r": "w10 w11"}


def test_an_answer_has_at_most_so_many_tokens() -> None:
    question = asked("q", 40)
    [window] = cut(0, question, 40, 40)
    starts, ends = one({0: 9, 1: 8}, 40), one({29: 5, 30: 9}, 40)
    assert best_answers([question], [window], starts, ends)["q"].split()[::29] == ["w1", "w30"]
    assert best_answers([question], [window], starts, ends, max_answer=31)["q"].split()[::30] == ["w0", "w30"]
    assert best_answers([question], [window], starts, ends, max_answer=28, n_best=2) == {"q": ""}


def test_without_a_valid_pair_there_is_no_answer() -> None:
    question = asked("q", 8)
    [window] = cut(0, question, 8, 8)
    backwards = one({5: 5}, 8), one({2: 5}, 8)
    assert best_answers([question], [window], *backwards, n_best=1) == {"q": ""}
    assert best_answers([question], [], np.zeros((0, 9)), np.zeros((0, 9))) == {"q": ""}
    nothing = Window(0, [0] * 4, None, FIRST, window.offsets[:0], None)
    assert best_answers([question], [nothing], np.ones((1, 9)), np.ones((1, 9))) == {"q": ""}
    nan = np.full((1, 12), np.nan)
    assert best_answers([question], [window], nan, nan) == {"q": ""}
    nan[0, FIRST + 4] = 1
    assert best_answers([question], [window], nan, nan) == {"q": "w4"}
    lowest = np.full((1, 12), -np.inf)
    assert best_answers([question], [window], lowest, lowest) == {"q": "w0"}


def test_half_precision_sums_are_not_rounded() -> None:
    question = asked("q", 8)
    [window] = cut(0, question, 8, 8)
    starts, ends = one({4: 2048}, 8).astype(np.float16), one({5: 0.25, 6: 0.5}, 8).astype(np.float16)
    assert best_answers([question], [window], starts, ends) == {"q": "w4 w5 w6"}


def test_blanks_inside_byte_level_tokens_are_no_part_of_the_answer() -> None:
    question = Question("q", "?", "in  Zürich today", ("Zürich",), (4,))
    offsets = np.array([(0, 2), (2, 3), (3, 10), (10, 16)], dtype=np.int32)
    window = Window(0, [0] * 8, None, FIRST, offsets, None)
    for start in (1, 2):
        assert best_answers([question], [window], one({start: 5}, 4), one({2: 5}, 4)) == {"q": "Zürich"}


@pytest.mark.assets
@pytest.mark.parametrize(("max_length", "step"), [(384, 128), (100, 32)])
def test_scores_that_know_the_answer_give_it_back(assets: Path, max_length: int, step: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(assets / "minilm-l6-mlm")
    questions = load(assets / "squad", limit_eval=2000, train=False).evaluation
    cuts = windows(questions, tokenizer, max_length=max_length, step=step, labels=True)
    rng = np.random.default_rng(0)
    starts, ends = rng.normal(size=(2, len(cuts), max_length)).astype(np.float32)
    golds = {}
    for row, window in enumerate(cuts):
        first, last = window.labels or (0, 0)
        if first:
            starts[row, first] += 20
            ends[row, last] += 20
            question = questions[window.question]
            span = window.offsets[[first - window.first, last - window.first]]
            # the tokenizer can't part "8" from "18"; and longer answers are not looked for
            if question.context[span[0, 0] : span[1, 1]] == question.answers[0] and last - first < 30:
                golds[question.id] = question.answers[:1]
    answers = best_answers(questions, cuts, starts, ends)
    assert list(answers) == [question.id for question in questions]
    assert len(golds) > 1900
    assert score(golds, answers) == {"exact_match": 100, "f1": 100}
