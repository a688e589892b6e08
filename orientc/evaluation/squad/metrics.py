"""SQuAD v1.1's two figures, to the last digit those of the benchmark's own script, and its predictions file."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from orientc.errors import EvaluationError
from orientc.evaluation.blocks import block_sums
from orientc.evaluation.squad.data import Question, read_json

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalized(text: str) -> str:
    """A text as it is compared: lower case, without ASCII punctuation and articles, one blank between words."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def score(golds: Mapping[str, Sequence[str]], predictions: Mapping[str, str]) -> dict[str, float]:
    """`exact_match` and `f1` in percent, over the questions in `golds`: id to gold answers, one at least.

    Each figure takes the gold answer that is best for it. A question without a prediction counts as wrong, a
    prediction without a question is ignored. Raises `EvaluationError` where there are no questions.
    """
    if not golds:
        raise EvaluationError("there are no questions to score")
    points = [_points(answers, predictions.get(id)) for id, answers in golds.items()]
    exact, f1 = map(sum, zip(*points, strict=True))
    return {"exact_match": 100.0 * exact / len(golds), "f1": 100.0 * f1 / len(golds)}


def blocks(questions: Sequence[Question], predictions: Mapping[str, str]) -> dict[str, list[float]]:
    """What errors of the figures are computed from, as a record has it: questions on one paragraph stay together."""
    units: list[list[float]] = []
    context = None
    for asked in questions:
        if asked.context != context:
            units.append([0.0, 0.0, 0.0])
            context = asked.context
        exact, f1 = _points(asked.answers, predictions.get(asked.id))
        units[-1] = [units[-1][0] + 1, units[-1][1] + 100.0 * exact, units[-1][2] + 100.0 * f1]
    return block_sums(dict(zip(("questions", "exact_match", "f1"), zip(*units, strict=True), strict=True))) or {}


def _points(answers: Sequence[str], prediction: str | None) -> tuple[float, float]:
    """Exact match and F1 of one question, by the gold answer that is best for each; 0 without a prediction."""
    if prediction is None:
        return 0.0, 0.0
    predicted = normalized(prediction)
    wanted = [normalized(answer) for answer in answers]
    return float(predicted in wanted), max(_f1(predicted.split(), answer.split()) for answer in wanted)


def differences(golds: Mapping[str, object], predictions: Mapping[str, object]) -> tuple[int, int]:
    """How many questions have no prediction, and how many predictions no question."""
    return len(golds.keys() - predictions.keys()), len(predictions.keys() - golds.keys())


def read_predictions(path: Path) -> dict[str, str]:
    """A predictions file of the benchmark: a JSON object from ids to answers.

    Raises `EvaluationError` where it can't be read or is anything else.
    """
    predictions = read_json(path)
    if not isinstance(predictions, dict):
        raise EvaluationError(f"{path} is not a predictions file: a JSON object from question ids to answers")
    for id, answer in predictions.items():
        if not isinstance(answer, str):
            raise EvaluationError(f"{path}: the answer to {id!r} is not a string")
    return predictions


def _f1(predicted: Sequence[str], wanted: Sequence[str]) -> float:
    """Of two bags of words. With none in common it is 0, even if both are empty: so has v1.1, unlike 2.0."""
    shared = (Counter(predicted) & Counter(wanted)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)
