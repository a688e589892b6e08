"""Token counts without a text: from the word lists of `wordfreq`, or from Zipf's law over the order of token ids.

Both are scaled to a text of a million tokens. Special tokens of a model's inputs, which no word list has, are added at
the rate that a text in inputs of 256 tokens has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from orientc.errors import CalibrationError, UsageError

ZIPF = "zipf"
TOTAL = 1_000_000
_PIECE = 256  # tokens
_MASKS = 0.12  # of the tokens, where a tokenizer has a mask: 80 % of the 15 % that masking takes
_BEFORE = "a"  # a word stands inside a text, so something is before it
_BATCH = 4096  # words tokenized at a time
_RESERVED = re.compile(r"[\[<].*(unused|reserved).*[\]>]", re.IGNORECASE)
_BYTE = re.compile("<0x[0-9A-F]{2}>")  # a byte that no piece of SentencePiece covers


def counts(name: str, tokenizer: PreTrainedTokenizerBase, vocab: int) -> Tensor:
    """Count each token in a million, float64 `[vocab]`, by a `frequency` of `CalibrationConfig`.

    Raises:
        UsageError: for a language that wordfreq has no list of.
        CalibrationError: where wordfreq is missing, or nothing listed is in the vocabulary.
    """
    found = zipf(tokenizer, vocab) if name == ZIPF else by_words(_listed(name.partition(":")[2]), tokenizer, vocab)
    if not found.any():
        raise CalibrationError(f"`frequency` {name} says nothing of this tokenizer's tokens")
    found *= TOTAL / found.sum()
    for token_id in around(tokenizer):
        found[token_id] += TOTAL / _PIECE
    if tokenizer.mask_token_id is not None:
        found[tokenizer.mask_token_id] += _MASKS * TOTAL
    return found


def zipf(tokenizer: PreTrainedTokenizerBase, vocab: int) -> Tensor:
    """Zipf's law, 1 / (rank + 1) over the order of token ids: float64 `[vocab]`, 0 for special and reserved tokens.

    Tokenizers are trained by frequency: BPE's merges and WordPiece's pieces come in about the order of theirs. Before
    them comes an alphabet; what of it is not ASCII is there to leave nothing unknown, and is ranked last. It is a rough
    guess; a text or a word list is better.
    """
    special = frozenset(tokenizer.all_special_ids)
    ranked = sorted(
        (_BYTE.fullmatch(token) is not None or (len(token.removeprefix("##")) == 1 and not token.isascii()), token_id)
        for token, token_id in tokenizer.get_vocab().items()
        if token_id < vocab and token_id not in special and not _RESERVED.fullmatch(token)
    )
    weights = torch.zeros(vocab, dtype=torch.float64)
    order = [token_id for _, token_id in ranked]
    weights[order] = 1 / torch.arange(1, len(order) + 1, dtype=torch.float64)
    return weights


def by_words(words: Mapping[str, float], tokenizer: PreTrainedTokenizerBase, vocab: int) -> Tensor:
    """Frequencies of tokens from those of words, float64 `[vocab]`; a word is tokenized as inside a text."""
    before = len(tokenizer(_BEFORE, add_special_tokens=False)["input_ids"])
    weights = torch.zeros(vocab, dtype=torch.float64)
    listed = list(words)
    for start in range(0, len(listed), _BATCH):
        batch = listed[start : start + _BATCH]
        inside = [f"{_BEFORE} {word}" for word in batch]
        encoded = tokenizer(inside, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        pairs = [
            (token_id, words[word])
            for word, ids in zip(batch, encoded, strict=True)
            for token_id in ids[before:]
            if token_id < vocab
        ]
        if pairs:
            ids, values = zip(*pairs, strict=True)
            weights.index_add_(0, torch.tensor(ids), torch.tensor(values, dtype=torch.float64))
    return weights


def _listed(language: str) -> Mapping[str, float]:
    try:
        import wordfreq
    except ImportError:
        raise CalibrationError("word frequencies need the extra: pip install 'orientc[frequency]'") from None
    if language not in wordfreq.available_languages():
        known = ", ".join(sorted(wordfreq.available_languages()))
        raise UsageError(f"wordfreq has no list for {language!r}; it has {known}")
    listed: Mapping[str, float] = wordfreq.get_frequency_dict(language)
    return listed


def special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens of a model's inputs, which no list has."""
    return [*around(tokenizer), *([] if tokenizer.mask_token_id is None else [tokenizer.mask_token_id])]


def around(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens around a text: those that the tokenizer adds, else BOS where it has one."""
    added: list[int] = tokenizer("")["input_ids"]
    return added or [token_id for token_id in [tokenizer.bos_token_id] if token_id is not None]
