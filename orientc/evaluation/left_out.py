"""What of a text goes unmeasured: counted, and said in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from orientc.evaluation.texts import Text

# what str.splitlines and editors take for a line's end, and the protocols, which go by \n, do not
_OTHER_ENDS = re.compile("\r(?!\n)|[\v\f\x1c-\x1e\x85\u2028\u2029]")


@dataclass(frozen=True)
class Cut:
    """How many texts were cut, and how many of their tokens are lost."""

    texts: int = 0
    tokens: int = 0

    def __add__(self, other: Cut) -> Cut:
        return Cut(self.texts + other.texts, self.tokens + other.tokens)

    def counts(self, what: str) -> dict[str, int]:
        """Both as a record's metrics, where there is something to count; `what` the texts are: "lines"."""
        return present({f"cut_{what}": self.texts, "cut_tokens": self.tokens})


def cut(tokenizer: PreTrainedTokenizerBase, lengths: Sequence[int], max_length: int, *texts: Sequence[str]) -> Cut:
    """Count what a tokenizer has cut away.

    Args:
        tokenizer: It is run once more, without a limit, on texts that reach the limit.
        lengths: Tokens of each text, cut to `max_length`, special ones included.
        max_length: The limit.
        texts: The texts, or the first and second texts of pairs.
    """
    full = [number for number, length in enumerate(lengths) if length >= max_length]
    if not full:
        return Cut()
    again = tokenizer(*([text[number] for number in full] for text in texts), truncation=False, verbose=False)
    lost = [len(ids) - lengths[number] for number, ids in zip(full, again["input_ids"], strict=True)]
    return Cut(sum(count > 0 for count in lost), sum(lost))


def present(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts that are not 0."""
    return {name: count for name, count in counts.items() if count}


def in_words(name: str, parts: Mapping[str, int]) -> str | None:
    """One line on a text: the phrases whose count is not 0, with their counts; None where all are."""
    told = [phrase.format(count) for phrase, count in parts.items() if count]
    return f"{name}: {'; '.join(told)}" if told else None


def other_line_ends(text: Text) -> str | None:
    """A line that says so where a text has signs that look like line ends and are none to a protocol of lines."""
    count = len(_OTHER_ENDS.findall(text.content))
    return in_words(
        text.name,
        {"{} signs that look like line ends (a lone CR, U+2028 and such) do not end a line, only \\n does": count},
    )
