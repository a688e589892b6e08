"""What an artifact is tuned on: which text, what of it is held out, and how the rest comes in batches."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from orientc.calibration import calibrate
from orientc.calibration.tokenized_text import Passages
from orientc.errors import EvaluationError
from orientc.evaluation import texts
from orientc.evaluation.scoring import Example
from orientc.evaluation.texts import Text
from orientc.models.source import DEMO, ModelSource

HELD_OUT = 0.05  # of a text's characters
FEWEST = 256  # tokens held out; by fewer nothing can be told
MOST = 8192  # tokens held out: more would take long, and tell little more
_POOL = 16  # batches put together at a time, of examples of like length


def text_for(
    source: ModelSource, *, path: Path | None = None, dataset: str | None = None, column: str = "text"
) -> Text:
    """What an artifact is tuned on: what a model is calibrated on, and by the same arguments.

    Raises `EvaluationError` where the model can't be tuned, or for the text that its perplexity is measured on.
    """
    check(source)
    found = calibrate.text_for(source, path=path, dataset=dataset, column=column)
    assert found
    scored = {texts.WIKITEXT_TEST_SHA256} | ({texts.demo_evaluation().sha256} if source.id == DEMO else set())
    if found.sha256 in scored or found.name == texts.WIKITEXT_TEST:
        raise EvaluationError(f"{found.name} is what perplexity is measured on: tune on another text")
    return found


def check(source: ModelSource) -> None:
    """Raise `EvaluationError` for a model whose artifacts can't be tuned."""
    if source.config.is_encoder_decoder:
        raise EvaluationError(f"{source.id} is an encoder-decoder, whose artifacts can't be tuned")


def parted(text: str) -> tuple[str, str]:
    """A text cut in two, the held-out part last: at a line's end, or between words where there is one line."""
    at = int(len(text) * (1 - HELD_OUT))
    for sign in ("\n", " "):
        if (found := text.rfind(sign, 0, at)) > at / 2:
            return text[:found], text[found + 1 :]
    return text[:at], text[at:]


def held_out_examples(passages: Passages, name: str, seed: int) -> list[Example]:
    """What the held-out part of the text `name` is scored by. Raises `EvaluationError` where that is too little."""
    examples, positions = passages.examples(MOST, seed)
    if positions < FEWEST:
        raise EvaluationError(
            f"{name} has too little text: its last {HELD_OUT:.0%}, held out, gives {positions} tokens, at least "
            f"{FEWEST} are needed"
        )
    return examples


def by_length(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Batches of examples of like length."""
    ordered = sorted(examples, key=lambda example: len(example.input_ids), reverse=True)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def batches(passages: Passages, seed: int, size: int) -> Iterator[list[Example]]:
    """Batches without end; each pass over the text has its own order and masks. None where there are no examples."""
    for number in itertools.count():
        examples, rng, some = passages.stream(seed + number), random.Random(f"{seed}:{number}"), False
        while pool := list(itertools.islice(examples, size * _POOL)):
            some = True
            alike = by_length(pool, size)
            rng.shuffle(alike)
            yield from alike
        if not some:
            return
