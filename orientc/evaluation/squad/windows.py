"""Contexts cut into overlapping windows, each behind its question, as a model reads them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from orientc.errors import EvaluationError
from orientc.evaluation.left_out import in_words
from orientc.evaluation.squad.data import Question
from orientc.utils.progress import Progress

Offsets = NDArray[np.int32]
BATCH = 1000  # texts tokenized at a time, so that few encodings are held at once


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A question and a piece of its context.

    `question` is its index among the questions; `first` is the position of the first context token, and
    `offsets` [context tokens, 2] are where each context token begins and ends in the context's characters.
    `labels` are the positions of the answer's first and last token, or twice that of the CLS token (0 where there
    is none) if the answer is not wholly inside.
    """

    question: int
    input_ids: list[int]
    token_type_ids: list[int] | None
    first: int
    offsets: Offsets
    labels: tuple[int, int] | None


@dataclass(frozen=True)
class _Frame:
    """What a tokenizer puts before, between and after a pair of texts, and the token types of all five parts."""

    before: list[int]
    between: list[int]
    after: list[int]
    types: tuple[int, int, int, int, int]

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


def windows(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 384,
    step: int = 128,
    max_question: int = 64,
    labels: bool,
    progress: Progress | None = None,
) -> list[Window]:
    """The windows of each question, in order; every question has one.

    They begin every `step` context tokens, each as long as fits into `max_length` ids beside the question's first
    `max_question` tokens and the special tokens, up to the one that reaches the context's end. A step that would
    leave tokens out is shortened to the windows' length. What questions are cut by is said to `progress`. Raises
    `EvaluationError` where the tokenizer does not say which characters its tokens stand for, or `max_length` leaves no
    room for the context.
    """
    if not tokenizer.is_fast:
        raise EvaluationError("SQuAD needs a fast tokenizer: this model's doesn't tell a token's place in the text")
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    frame = _frame(backend)
    typed = "token_type_ids" in tokenizer.model_input_names
    contexts = dict.fromkeys(entry.context for entry in questions)
    tokenized = dict(zip(contexts, _tokenized(backend, list(contexts)), strict=True))
    asked = [ids for ids, _ in _tokenized(backend, [entry.question for entry in questions])]
    lost = [len(ids) - max_question for ids in asked if len(ids) > max_question]
    phrase = f"{{}} tokens of {len(lost)} of {len(asked)} questions that are cut to {max_question} tokens are left out"
    if progress and (told := in_words("SQuAD", {phrase: sum(lost)})):
        progress.warn(told)
    asked = [ids[:max_question] for ids in asked]

    found = []
    for index, (entry, head) in enumerate(zip(questions, asked, strict=True)):
        ids, offsets = tokenized[entry.context]
        room = max_length - frame.size - len(head)
        if room < 1:
            raise EvaluationError(
                f"a maximum length of {max_length} leaves no room for the context beside a question of {len(head)}"
                f" tokens and {frame.size} special ones: raise `max_length`"
            )
        answer = _answer(entry, offsets) if labels else None
        first = len(frame.before) + len(head) + len(frame.between)
        stride = min(step, room)
        for start in range(0, max(len(ids) - room, 0) + stride, stride):
            piece = ids[start : start + room]
            parts = (frame.before, head, frame.between, piece, frame.after)
            input_ids = [token for part in parts for token in part]
            types = [kind for kind, part in zip(frame.types, parts, strict=True) for _ in part] if typed else None
            positions = None
            if labels:
                if answer and start <= answer[0] and answer[1] < start + len(piece):
                    positions = (first + answer[0] - start, first + answer[1] - start)
                else:
                    nowhere = _position(input_ids, tokenizer.cls_token_id)
                    positions = (nowhere, nowhere)
            found.append(Window(index, input_ids, types, first, offsets[start : start + room], positions))
    return found


def features(windows: Sequence[Window]) -> list[dict[str, Any]]:
    """What a model's `forward` takes of each window, as `DataCollatorWithPadding` wants it; labels where they are."""
    found = []
    for window in windows:
        feature: dict[str, Any] = {"input_ids": window.input_ids, "attention_mask": [1] * len(window.input_ids)}
        if window.token_type_ids is not None:
            feature["token_type_ids"] = window.token_type_ids
        if window.labels is not None:
            feature["start_positions"], feature["end_positions"] = window.labels
        found.append(feature)
    return found


def _frame(backend: Any) -> _Frame:
    """Learned from the tokenizer's own treatment of a pair."""
    pair = backend.encode("a", "a")
    asked, context = ([at for at, part in enumerate(pair.sequence_ids) if part == wanted] for wanted in (0, 1))
    if not asked or not context:
        raise EvaluationError("this model's tokenizer makes nothing of the letter a: SQuAD is English")
    cuts = [0, asked[0], context[0], context[-1] + 1, len(pair.ids)]
    before, between, after = pair.ids[: cuts[1]], pair.ids[asked[-1] + 1 : cuts[2]], pair.ids[cuts[3] :]
    kinds = pair.type_ids
    return _Frame(
        before,
        between,
        after,
        (kinds[0], kinds[asked[0]], kinds[context[0] - 1], kinds[context[0]], kinds[-1]),
    )


def _tokenized(backend: Any, texts: Sequence[str]) -> list[tuple[list[int], Offsets]]:
    """Ids and offsets of texts by themselves."""
    return [
        (encoding.ids, np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2))
        for start in range(0, len(texts), BATCH)
        for encoding in backend.encode_batch(texts[start : start + BATCH], add_special_tokens=False)
    ]


def _answer(entry: Question, offsets: Offsets) -> tuple[int, int] | None:
    """The first and the last context token of the first gold answer; None if no token has a character of it."""
    text, start = entry.answers[0], entry.starts[0]
    # blanks at its ends are no reason to take a neighbour: byte-level tokens have the blank before a word in them
    begin, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    inside = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > begin))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def _position(ids: list[int], token: int | None) -> int:
    return ids.index(token) if token in ids else 0
