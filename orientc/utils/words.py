"""The words on screen that a reader may not know, and what they mean: the one place where they are explained."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """What a word means.

    Attributes:
        meaning: In a clause; the line under a table that the word stands in.
        more: What the glossary says besides.
        familiar: Whether the field's readers know it, so that no table explains it.
    """

    meaning: str
    more: str = ""
    familiar: bool = True


WORDS = {
    "table": Word("the token-embedding table, `[vocab, dim]`: a row for each token"),
    "head": Word("the output projection of a language model, from its last states back to tokens"),
    "tied": Word(
        "lookup and head share one table, and both run from the compressed one", "this makes a model small", False
    ),
    "input-only": Word(
        "the lookup alone is compressed, the head keeps its table or there is none",
        "where they share one the model gets no smaller",
        False,
    ),
    "head-only": Word("the head alone is compressed, which has a table of its own", familiar=False),
    "both": Word("lookup and head have a table each, and both are compressed", familiar=False),
    "rank": Word("numbers kept per token, of which a small decoder makes its row"),
    "ratio": Word("numbers in the table per number stored; *byte ratio*: bytes in the checkpoint per byte stored"),
    "bits per weight": Word("bits stored per number of the table, everything counted"),
    "calibration": Word("how often tokens occur in a text, and how much the model's loss minds errors of their rows"),
    "row groups": Word(
        "rows that share bits and scales, by how much these count, frequent tokens the most", familiar=False
    ),
    "predicted loss": Word(
        "nats per token that the calibration expects (0.01 is 1 % of a perplexity), not measured",
        "of a sentence encoder half the squared turn of its vectors",
        False,
    ),
    "artifact": Word("one `.safetensors` file that holds a compressed table, and how it was made"),
}


def explained(*texts: str) -> tuple[str, ...]:
    """A line for each word in some texts that may not be known."""
    return tuple(
        f"{name}: {word.meaning}"
        for name, word in WORDS.items()
        if not word.familiar and any(re.search(rf"(?<![\w/-]){name}(?![\w/-])", text) for text in texts)
    )


def glossary() -> str:
    """All words as a list in Markdown."""
    lines = (f"- **{name}**: {'; '.join(filter(None, (word.meaning, word.more)))}" for name, word in WORDS.items())
    return "\n".join(lines)
