"""The protocol of masked language models: the paper's whole-word masking, line by line, made reproducible.

Every draw comes from a generator seeded by (seed, line number) alone, so the masks of a text do not depend
on batch sizes, on the order in which lines are scored, or on the number of processes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from orientc.evaluation.left_out import Cut, cut, present
from orientc.evaluation.scoring import Example, Selection

SHARE = 0.15  # of a line's ids that may be masked, special tokens counted
MIN_IDS = 20  # a shorter line is not scored; special tokens counted


@dataclass(frozen=True)
class Line:
    """A tokenized line.

    Attributes:
        number: Its number in the text.
        ids: Its ids.
        words: The positions of each of its words.
        length: How many ids there were before any were deleted.
    """

    number: int
    ids: list[int]
    words: list[list[int]]
    length: int = 0


class WholeWordMasker:
    """Masks lines for one tokenizer.

    Words are the tokenizer's own (`word_ids` of a fast tokenizer: `##` continues a word in WordPiece).

    Args:
        tokenizer: The tokenizer.
        max_ids: Ids that a line is truncated to.
        drawable: How many ids, from 0 on, a random one is drawn from; all of the vocabulary unless given.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_ids: int, drawable: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.max_ids = max_ids
        self.drawable = drawable or len(tokenizer)

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids)

    @cached_property
    def _equals_ids(self) -> frozenset[int]:
        """Ids that stand for `=`, with or without a word-boundary mark: WikiText's headings are full of them."""
        vocabulary = self.tokenizer.get_vocab()
        return frozenset(token_id for token, token_id in vocabulary.items() if token.lstrip("Ġ▁") == "=")

    def tokenize(self, texts: Sequence[str], numbers: Sequence[int]) -> list[Line]:
        """Ids with special tokens, truncated to `max_ids`, `=` deleted; lines under 20 ids dropped."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.max_ids)
        lines = []
        for index, number in enumerate(numbers):
            kept = [
                (token_id, word)
                for token_id, word in zip(encoded["input_ids"][index], encoded.word_ids(index), strict=True)
                if token_id not in self._equals_ids
            ]
            if len(kept) >= MIN_IDS:
                words: dict[int, list[int]] = {}
                for position, (token_id, word) in enumerate(kept):
                    if word is not None and token_id not in self._special_ids:
                        words.setdefault(word, []).append(position)
                ids = [token_id for token_id, _ in kept]
                lines.append(Line(number, ids, list(words.values()), len(encoded["input_ids"][index])))
        return lines

    def mask(self, line: Line, seed: int | str) -> Example:
        """Mask one line.

        Its words are shuffled and taken while the tokens taken stay within `max(1, round(0.15 * ids))`; a
        word that would go over is skipped. Of the tokens taken 80 % become the mask, 10 % a random id of
        the vocabulary, 10 % stay.
        """
        rng = random.Random(f"{seed}:{line.number}")
        budget = max(1, round(SHARE * len(line.ids)))
        words = list(line.words)
        rng.shuffle(words)
        taken: list[int] = []
        for word in words:
            if len(taken) + len(word) <= budget:
                taken.extend(word)
        taken.sort()
        masked = list(line.ids)
        for position in taken:
            draw = rng.random()
            if draw < 0.8:
                masked[position] = self.tokenizer.mask_token_id
            elif draw < 0.9:
                masked[position] = rng.randrange(self.drawable)
        return Example(masked, taken, [line.ids[position] for position in taken])


def select(
    text: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_ids: int,
    seed: int,
    limit: int | None = None,
    drawable: int | None = None,
) -> Selection:
    """The scored lines of `text`, masked; `limit` counts kept lines. Lines are numbered from 0, blank ones too.

    Left out, up to the last line scored, are `short_lines`, `unmasked_lines`, of which no whole word could be taken,
    and `cut_tokens` of `cut_lines`.
    """
    masker = WholeWordMasker(tokenizer, max_ids, drawable)
    numbered = [(number, line) for number, line in enumerate(text.split("\n")) if line.strip()]
    found: list[Example] = []
    passed, kept, lost = 0, 0, Cut()
    for start in range(0, len(numbered), 512):
        numbers, texts = zip(*numbered[start : start + 512], strict=True)
        for line in masker.tokenize(texts, numbers):
            if len(found) == limit:
                break
            example = masker.mask(line, seed)
            if example.positions:
                found.append(example)
            place = numbers.index(line.number)
            passed, kept = start + place + 1, kept + 1
            lost += cut(tokenizer, [line.length], max_ids, [texts[place]])
        if len(found) == limit:
            break
        passed = min(start + 512, len(numbered))
    left_out = {"short_lines": passed - kept, "unmasked_lines": kept - len(found), **lost.counts("lines")}
    return Selection(found, present(left_out))
