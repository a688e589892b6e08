"""The text an artifact is tuned on: which one, what of it is held out, and the rest in batches."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from orientc.calibration.tokenized_text import TokenizedText
from orientc.errors import EvaluationError
from orientc.evaluation import texts
from orientc.evaluation.scoring import Example
from orientc.evaluation.texts import Text, calibration_text
from orientc.models.argument import DEMO
from orientc.models.source import ModelSource

HELD_OUT = 0.05  # of a text's characters
FEWEST = 256  # tokens held out; fewer tell nothing
MOST = 8192  # tokens held out; more take long, and tell little more
_POOL = 16  # batches put together at a time, of examples of like length


def tuning_text(
    source: ModelSource,
    text: str | Path | Text | None = None,
    dataset: str | None = None,
    column: str = "text",
    languages: str | None = None,
) -> Text:
    """Find the text to tune on, by the arguments and defaults of `calibration_text`.

    Raises:
        UsageError: for both `text` and `dataset`.
        EvaluationError: where the text can't be had, or is the one that the model's perplexity is measured on.
    """
    found = calibration_text(source, text, dataset, column, languages)
    scored = {texts.WIKITEXT_TEST_SHA256} | ({texts.demo_evaluation().sha256} if source.id == DEMO else set())
    if found.sha256 in scored or found.name == texts.WIKITEXT_TEST:
        raise EvaluationError(f"{found.name} is what perplexity is measured on: tune on another text")
    return found


def split(text: Text) -> tuple[Text, Text]:
    """Cut a text in two, the held-out part last: at a line's end, or between words where there is one line."""
    content = text.content
    at = int(len(content) * (1 - HELD_OUT))
    ends = (content.rfind(sign, 0, at) for sign in ("\n", " "))
    end = next((end for end in ends if end > at / 2), None)
    train, held_out = (content[:at], content[at:]) if end is None else (content[:end], content[end + 1 :])
    return Text(text.name, train), Text(text.name, held_out)


def held_out_examples(held_out: TokenizedText, seed: int) -> list[Example]:
    """Inputs that tuning is evaluated on. Raises `EvaluationError` where the held-out part has too few."""
    examples, positions = held_out.examples(MOST, seed)
    if positions < FEWEST:
        raise EvaluationError(
            f"{held_out.text.name} has too little text: its last {HELD_OUT:.0%}, held out, gives {positions} tokens, "
            f"at least {FEWEST} are needed"
        )
    return examples


def by_length(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Batches of examples of like length."""
    ordered = sorted(examples, key=lambda example: len(example.input_ids), reverse=True)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def batches(train: TokenizedText, seed: int, size: int) -> Iterator[list[Example]]:
    """Batches without end; each pass over the text has its own order and masks. None where there are no examples."""
    for number in itertools.count():
        examples, rng, some = train.stream(seed + number), random.Random(f"{seed}:{number}"), False
        while pool := list(itertools.islice(examples, size * _POOL)):
            some = True
            alike = by_length(pool, size)
            rng.shuffle(alike)
            yield from alike
        if not some:
            return
