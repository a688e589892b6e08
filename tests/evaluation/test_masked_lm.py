from __future__ import annotations

import collections
from pathlib import Path

import pytest
from support.data import SENTENCES
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from orientc.evaluation.masked_lm import Line, WholeWordMasker, select


@pytest.fixture
def lines(wordpiece: PreTrainedTokenizerFast) -> list[Line]:
    return WholeWordMasker(wordpiece, 64).tokenize(SENTENCES, range(len(SENTENCES)))


def test_words_are_the_tokenizers_own(wordpiece: PreTrainedTokenizerFast, lines: list[Line]) -> None:
    """`##` continues a word, everything else begins one; specials are no words."""
    for line in lines:
        tokens = wordpiece.convert_ids_to_tokens(line.ids)
        expected: list[list[int]] = []
        for position, token in enumerate(tokens[1:-1], start=1):
            if token.startswith("##"):
                expected[-1].append(position)
            else:
                expected.append([position])
        assert line.words == expected
    assert any(len(word) > 1 for line in lines for word in line.words)


def test_equals_signs_are_deleted_and_short_lines_dropped(wordpiece: PreTrainedTokenizerFast) -> None:
    masker = WholeWordMasker(wordpiece, 64)
    equals = wordpiece.convert_tokens_to_ids("=")
    [line] = masker.tokenize([SENTENCES[0]], [7])
    assert equals in wordpiece(SENTENCES[0])["input_ids"]
    assert equals not in line.ids
    assert line.number == 7
    assert masker.tokenize(["= = = = = = = = = = = = = = = = = = = = = = = the fox ="], [0]) == []
    nineteen, twenty = (" ".join(["."] * (count - 2)) for count in (19, 20))
    assert [len(line.ids) for line in masker.tokenize([nineteen, twenty], [0, 1])] == [20]


def test_lines_are_truncated_before_equals_signs_are_deleted(wordpiece: PreTrainedTokenizerFast) -> None:
    [line] = WholeWordMasker(wordpiece, 30).tokenize(["= = = = = " + ". " * 60], [0])
    assert len(line.ids) == 25


def test_whole_words_within_the_budget_and_never_specials(
    wordpiece: PreTrainedTokenizerFast, lines: list[Line]
) -> None:
    masker = WholeWordMasker(wordpiece, 64)
    for line in lines:
        budget = max(1, round(0.15 * len(line.ids)))
        for seed in range(20):
            example = masker.mask(line, seed)
            taken = set(example.positions)
            assert len(taken) <= budget
            assert all(set(word) <= taken or not set(word) & taken for word in line.words)
            # nothing that would still have fitted was left out
            left = [len(word) for word in line.words if not set(word) & taken]
            assert min(left) > budget - len(taken)
            assert example.targets == [line.ids[position] for position in example.positions]
            untouched = set(range(len(line.ids))) - taken
            assert all(example.input_ids[position] == line.ids[position] for position in untouched)


def test_eighty_ten_ten(wordpiece: PreTrainedTokenizerFast, lines: list[Line]) -> None:
    masker = WholeWordMasker(wordpiece, 64)
    kinds: collections.Counter[str] = collections.Counter()
    for seed in range(60):
        for line in lines:
            example = masker.mask(line, seed)
            for position, target in zip(example.positions, example.targets, strict=True):
                token = example.input_ids[position]
                kinds["mask" if token == wordpiece.mask_token_id else "same" if token == target else "other"] += 1
    total = sum(kinds.values())
    assert total > 5000
    assert kinds["mask"] / total == pytest.approx(0.8, abs=0.02)
    assert kinds["same"] / total == pytest.approx(0.1, abs=0.02)
    assert kinds["other"] / total == pytest.approx(0.1, abs=0.02)


def test_masks_depend_on_seed_and_line_number_alone(wordpiece: PreTrainedTokenizerFast) -> None:
    text = "\n".join(SENTENCES)
    found = select(text, wordpiece, max_ids=64, seed=1).examples
    assert select(text, wordpiece, max_ids=64, seed=1).examples == found
    assert select(text, wordpiece, max_ids=64, seed=2).examples != found
    assert select(text, wordpiece, max_ids=64, seed=1, limit=5).examples == found[:5]
    # the same sentence at the same line number is masked alike whatever stands before it
    other = "\n".join(["", *["something else entirely"] * 9, *SENTENCES[10:]])
    assert select(other, wordpiece, max_ids=64, seed=1).examples[-1] == found[-1]


def test_blank_lines_count_for_numbers_but_are_not_scored(wordpiece: PreTrainedTokenizerFast) -> None:
    [single] = select(f"\n \n{SENTENCES[0]}\n\n", wordpiece, max_ids=64, seed=0).examples
    [line] = WholeWordMasker(wordpiece, 64).tokenize([SENTENCES[0]], [2])
    assert single == WholeWordMasker(wordpiece, 64).mask(line, 0)


@pytest.mark.assets
def test_wikitext_keeps_1869_lines_with_berts_vocabulary(assets: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(assets / "minilm-l6-mlm")
    text = (assets / "wikitext" / "wiki.test.raw").read_text()
    assert len(select(text, tokenizer, max_ids=512, seed=0).examples) == 1869
