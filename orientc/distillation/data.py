"""The texts an artifact is tuned on: which, what of them is held out, and the rest in batches."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from orientc.calibration.mixture import Mixture, TokenizedMixture
from orientc.errors import EvaluationError
from orientc.evaluation import texts
from orientc.evaluation.scoring import Example
from orientc.evaluation.texts import Text
from orientc.models.argument import DEMO
from orientc.models.source import ModelSource
from orientc.utils.progress import Progress

HELD_OUT = 0.05  # of each text's characters
FEWEST = 256  # tokens held out; fewer tell nothing
MOST = 8192  # tokens held out; more take long, and tell little more
_POOL = 16  # batches put together at a time, of examples of like length


def tuning_texts(
    source: ModelSource,
    text: str | Path | Text | Mixture | Sequence[str | Path] | None = None,
    dataset: str | Sequence[str] | None = None,
    column: str = texts.COLUMN,
    languages: str | None = None,
) -> Mixture:
    """Find the texts to tune on, by the arguments and defaults of `Mixture.of`.

    Raises:
        UsageError: for a weight that is no number above 0, or a column without a data set.
        EvaluationError: where a text can't be had, or is the one that the model's perplexity is measured on.
    """
    found = Mixture.of(source, text, dataset, column, languages)
    scored = {texts.WIKITEXT_TEST_SHA256} | ({texts.demo_evaluation().sha256} if source.id == DEMO else set())
    for part, _ in found.parts:
        if part.sha256 in scored or part.name == texts.WIKITEXT_TEST:
            raise EvaluationError(f"{part.name} is what perplexity is measured on: tune on another text")
    return found


def split(mixture: Mixture) -> tuple[Mixture, Mixture]:
    """Cut each text in two, the held-out part last: at a line's end, or between words where there is one line."""
    halves = [(*_cut(text), weight) for text, weight in mixture.parts]
    return (
        Mixture(tuple((train, weight) for train, _, weight in halves)),
        Mixture(tuple((held_out, weight) for _, held_out, weight in halves)),
    )


def _cut(text: Text) -> tuple[Text, Text]:
    content = text.content
    at = int(len(content) * (1 - HELD_OUT))
    ends = (content.rfind(sign, 0, at) for sign in ("\n", " "))
    end = next((end for end in ends if end > at / 2), None)
    train, held_out = (content[:at], content[at:]) if end is None else (content[:end], content[end + 1 :])
    return Text(text.name, train), Text(text.name, held_out)


def held_out_examples(held_out: TokenizedMixture, seed: int, progress: Progress) -> list[Example]:
    """Inputs that tuning is evaluated on. Raises `EvaluationError` where the held-out part has too few."""
    examples, positions = held_out.examples(MOST, seed, progress)
    if positions < FEWEST:
        raise EvaluationError(
            f"{held_out.texts.name} has too little text: its last {HELD_OUT:.0%}, held out, gives {positions} tokens, "
            f"at least {FEWEST} are needed"
        )
    return examples


def by_length(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Batches of examples of like length."""
    ordered = sorted(examples, key=lambda example: len(example.input_ids), reverse=True)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def batches(train: TokenizedMixture, seed: int, size: int) -> Iterator[list[Example]]:
    """Batches without end, of the examples of `TokenizedMixture.stream`."""
    examples, rng = train.stream(seed), random.Random(seed)
    while pool := list(itertools.islice(examples, size * _POOL)):
        alike = by_length(pool, size)
        rng.shuffle(alike)
        yield from alike
