from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from orientc.calibration import frequencies
from orientc.errors import CalibrationError, UsageError

needs_wordfreq = pytest.mark.skipif(
    importlib.util.find_spec("wordfreq") is None, reason="wordfreq is not installed (extra frequency)"
)


def test_zipf_goes_by_the_order_of_ids_and_leaves_special_and_unused_tokens_out(
    wordpiece: PreTrainedTokenizerFast,
) -> None:
    weights = frequencies.zipf(wordpiece, len(wordpiece) + 3)  # a table may have more rows than there are tokens
    tokens = wordpiece.convert_ids_to_tokens(range(len(wordpiece)))
    left_out = [number for number, token in enumerate(tokens) if token.startswith("[")]
    assert set(wordpiece.all_special_ids) < set(left_out)
    assert any("unused" in token for token in tokens)
    assert not weights[left_out].any()
    assert not weights[len(wordpiece) :].any()
    kept = weights[weights > 0]
    assert len(kept) == len(wordpiece) - len(left_out)
    torch.testing.assert_close(kept, 1 / torch.arange(1, len(kept) + 1, dtype=torch.float64))


def test_zipf_ranks_an_alphabet_that_is_not_ascii_last(bytes_bpe: PreTrainedTokenizerFast) -> None:
    weights = frequencies.zipf(bytes_bpe, len(bytes_bpe))
    comma, letter, merged = (weights[token_id] for token_id in bytes_bpe.convert_tokens_to_ids([",", "é", "Ġthe"]))
    assert comma > merged > letter > 0


def test_words_are_tokenized_as_inside_a_text(
    wordpiece: PreTrainedTokenizerFast, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    words = {"fox": 0.5, "village": 0.25}
    for tokenizer, inside in ((wordpiece, ("fox", "village")), (bytes_bpe, (" fox", " village"))):
        expected = torch.zeros(len(tokenizer), dtype=torch.float64)
        for word, frequency in zip(inside, words.values(), strict=True):
            for token_id in tokenizer(word, add_special_tokens=False)["input_ids"]:
                expected[token_id] += frequency
        assert torch.equal(frequencies.by_words(words, tokenizer, len(tokenizer)), expected)


def test_counts_are_those_of_a_million_tokens_and_the_special_ones_of_its_pieces(
    wordpiece: PreTrainedTokenizerFast, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    for tokenizer, around in ((wordpiece, [2, 3]), (bytes_bpe, [0])):
        found = frequencies.counts("zipf", tokenizer, len(tokenizer))
        ordinary = torch.ones(len(tokenizer), dtype=torch.bool)
        ordinary[tokenizer.all_special_ids] = False
        assert float(found[ordinary].sum()) == pytest.approx(1e6)
        assert all(float(found[token_id]) == pytest.approx(1e6 / 256) for token_id in around)
    assert float(frequencies.counts("zipf", wordpiece, len(wordpiece))[4]) == pytest.approx(120_000)  # [MASK]


@pytest.mark.slow
@needs_wordfreq
def test_word_lists_know_what_is_frequent(wordpiece: PreTrainedTokenizerFast) -> None:
    found = frequencies.counts("wordfreq:en", wordpiece, len(wordpiece))
    the, fox = wordpiece.convert_tokens_to_ids(["the", "fox"])
    assert found[the] > 100 * found[fox] > 0


@needs_wordfreq
def test_a_language_there_is_no_list_for_is_refused(wordpiece: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UsageError, match=r"'tlh'; it has .*en"):
        frequencies.counts("wordfreq:tlh", wordpiece, len(wordpiece))


def test_without_the_extra_it_is_named(wordpiece: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(CalibrationError, match=r"orientc\[frequency\]"):
        frequencies.counts("wordfreq:en", wordpiece, len(wordpiece))
