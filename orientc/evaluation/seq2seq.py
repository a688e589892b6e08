"""The protocol of encoder-decoders: a target's tokens, each predicted from the source and the target before it.

Source and target are tokenized as for training, with special tokens and tokens of languages as the tokenizer makes
them; the model itself makes the decoder's input of the target. Every token of a target counts, its end included.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from orientc.errors import EvaluationError
from orientc.evaluation.left_out import Cut, cut, present
from orientc.evaluation.pairs import Pair
from orientc.evaluation.scoring import Example, Selection
from orientc.models.source import ModelSource

_BATCH = 512  # pairs tokenized at a time


def tokenizer_of(source: ModelSource, languages: Pair | None) -> PreTrainedTokenizerBase:
    """A copy of the model's tokenizer that is set to two languages, where it has any.

    Raises `EvaluationError` where it has languages and none is chosen for the target, or does not know one.
    """
    tokenizer = copy.deepcopy(source.tokenizer)
    if languages_in(tokenizer) is None:
        return tokenizer
    if languages is None and tokenizer.tgt_lang is None:
        raise EvaluationError(
            f"the tokenizer of {source.id} is for several languages: say with `languages` which one the source is in "
            "and which one the target"
        )
    for attribute, language in zip(("src_lang", "tgt_lang"), languages or (), strict=False):
        unknown = EvaluationError(
            f"the tokenizer of {source.id} knows no language {language}: name its own with `languages`, and give "
            "pairs without names, as TSV"
        )
        try:
            setattr(tokenizer, attribute, language)
            made = tokenizer(text_target="") if attribute == "tgt_lang" else tokenizer("")
        except (KeyError, ValueError):
            raise unknown from None
        if tokenizer.unk_token_id in made["input_ids"]:
            raise unknown
    return tokenizer


def languages_in(tokenizer: PreTrainedTokenizerBase) -> Pair | None:
    """The languages that a tokenizer is set to; None where it has none."""
    if not (hasattr(tokenizer, "src_lang") and hasattr(tokenizer, "tgt_lang")):
        return None
    return str(tokenizer.src_lang), str(tokenizer.tgt_lang)


def examples(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], max_ids: int) -> Iterator[tuple[Example, Cut]]:
    """Each pair as it is scored, and what was cut of it: source and target are cut to `max_ids` tokens each."""
    for start in range(0, len(pairs), _BATCH):
        sources, targets = ([*side] for side in zip(*pairs[start : start + _BATCH], strict=True))
        options: dict[str, Any] = {"truncation": True, "max_length": max_ids}
        read = tokenizer(sources, **options)["input_ids"]
        written = tokenizer(text_target=targets, **options)["input_ids"]
        for number, (ids, labels) in enumerate(zip(read, written, strict=True)):
            lost = cut(tokenizer, [len(ids)], max_ids, sources[number : number + 1])
            if len(labels) >= max_ids:
                whole = tokenizer(text_target=targets[number], verbose=False)["input_ids"]
                lost += Cut(int(len(whole) > len(labels)), len(whole) - len(labels))
            yield Example(ids, [*range(len(labels))], labels, decoded=True), lost


def select(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], *, max_ids: int, limit: int | None = None
) -> Selection:
    """The pairs that are scored; `limit` counts them.

    Left out, up to the last pair scored, are `blank_pairs`, with nothing on a side, and `cut_tokens` of `cut_texts`.
    """
    usable = [number for number, pair in enumerate(pairs) if all(side.strip() for side in pair)][:limit]
    passed = usable[-1] + 1 if len(usable) == limit else len(pairs)
    found: list[Example] = []
    lost = Cut()
    for example, own in examples(tokenizer, [pairs[number] for number in usable], max_ids):
        found.append(example)
        lost += own
    return Selection(found, present({"blank_pairs": passed - len(usable), **lost.counts("texts")}))
