from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from support.architectures import build
from support.data import PAIRS, SENTENCES
from support.models import cut_table
from transformers import PreTrainedTokenizerFast

from orientc.calibration.tokenized_text import CAUSAL, CLASSES, MASKED, SENTENCE, TokenizedText, objective_of
from orientc.errors import CalibrationError, ModelError
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource
from orientc.utils.progress import Progress

TEXT = "\n\n".join([*SENTENCES, "the fox = the dog"])


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    """The small masked language model without its head."""
    folder = tmp_path_factory.mktemp("models") / "tiny-encoder"
    transformers.BertModel.from_pretrained(bert_folder).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    return folder


def tokenized(folder: Path, text: str = TEXT) -> TokenizedText:
    return TokenizedText(ModelSource.resolve(str(folder)), Text("some", text))


def counts(folder: Path, text: str = TEXT) -> torch.Tensor:
    found = tokenized(folder, text)
    return found.counts(ModelSource.resolve(str(folder)).config.vocab_size, Progress())


def test_the_objective_goes_by_the_head(
    bert_folder: Path, gpt2_folder: Path, encoder_folder: Path, tmp_path: Path
) -> None:
    transformers.AutoModelForSequenceClassification.from_pretrained(bert_folder).save_pretrained(tmp_path)
    folders = (bert_folder, gpt2_folder, encoder_folder, tmp_path)
    found = [objective_of(ModelSource.resolve(str(folder))) for folder in folders]
    assert found == [MASKED, CAUSAL, SENTENCE, CLASSES]


def test_an_encoder_decoder_that_writes_no_text_is_refused(tmp_path: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    transformers.BartForSequenceClassification(build("bart").config).save_pretrained(tmp_path)
    with pytest.raises(CalibrationError, match=r"encoder-decoder.*`frequency`"):
        objective_of(ModelSource.resolve(str(tmp_path)))


def test_of_pairs_both_sides_are_counted_as_they_are_looked_up(t5_folder: Path) -> None:
    """The decoder looks up its start, which is T5's padding, in the place of the end that it predicts."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5_folder)
    sources, targets = ([*side] for side in zip(*PAIRS, strict=True))
    read, written = tokenizer(sources)["input_ids"], tokenizer(text_target=targets)["input_ids"]
    looked_up = [token for ids in read for token in ids] + [token for ids in written for token in ids[:-1]]
    expected = torch.bincount(torch.tensor(looked_up), minlength=len(tokenizer)).double()
    expected[tokenizer.pad_token_id] += len(PAIRS)
    text = "".join(f"{source}\t{target}\n" for source, target in PAIRS)
    assert torch.equal(counts(t5_folder, text), expected)
    found, positions = tokenized(t5_folder, text).examples(10**9, 0)
    assert sorted(one.targets for one in found) == sorted(written)
    assert positions == len([token for token in looked_up if token not in tokenizer.all_special_ids])


def test_masked_counts_are_those_of_all_lines_with_special_tokens_and_the_masks_of_the_protocol(
    bert_folder: Path, wordpiece: PreTrainedTokenizerFast
) -> None:
    ids = [token_id for line in TEXT.split("\n") if line for token_id in wordpiece(line)["input_ids"]]
    expected = torch.bincount(torch.tensor(ids), minlength=len(wordpiece)).double()
    expected[wordpiece.mask_token_id] = round(0.12 * len(ids))
    assert torch.equal(counts(bert_folder), expected)


def test_causal_counts_are_those_of_the_stream_and_a_bos_token_for_each_window(
    gpt2_folder: Path, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    ids = bytes_bpe(TEXT, add_special_tokens=False)["input_ids"]
    expected = torch.bincount(torch.tensor(ids), minlength=len(bytes_bpe)).double()
    expected[bytes_bpe.bos_token_id] += -(-len(ids) // 63)  # 64 positions, one of them BOS's
    assert torch.equal(counts(gpt2_folder), expected)


def test_sentence_counts_have_no_masks(encoder_folder: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    found = counts(encoder_folder)
    assert found[wordpiece.mask_token_id] == 0
    assert found[wordpiece.cls_token_id] == len(SENTENCES) + 1


@pytest.mark.parametrize("kind", ["bert_folder", "gpt2_folder", "encoder_folder"])
def test_a_tokenizer_with_more_tokens_than_the_table_has_rows_is_refused(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    read = tokenized(cut_table(request.getfixturevalue(kind), tmp_path / "cut", 50))
    with pytest.raises(ModelError, match=r"the tokenizer gives token \d+, the table has 50 rows"):
        read.counts(50, Progress())
    with pytest.raises(ModelError, match=r"the tokenizer gives token \d+, the table has 50 rows"):
        list(read.stream(0))


def test_as_many_inputs_are_taken_as_are_asked_for_and_spread_over_the_text(
    bert_folder: Path, gpt2_folder: Path, encoder_folder: Path
) -> None:
    for folder in (bert_folder, gpt2_folder, encoder_folder):
        read = tokenized(folder)
        special = set(read.tokenizer.all_special_ids)
        everything, total = read.examples(10**9, 0)
        some, positions = read.examples(total // 2, 0)
        assert total // 2 <= positions < total // 2 + 64
        assert positions == sum(token_id not in special for one in some for token_id in one.input_ids)
        assert some == everything[: len(some)]
        assert read.examples(total // 2, 0) == (some, positions)
        assert read.examples(total // 2, 1) != (some, positions)


def test_windows_begin_with_bos_and_cover_the_text_once(gpt2_folder: Path, bytes_bpe: PreTrainedTokenizerFast) -> None:
    read = tokenized(gpt2_folder)
    found, _ = read.examples(10**9, 0)
    assert all(one.input_ids[0] == bytes_bpe.bos_token_id for one in found)
    assert all(one.positions == list(range(len(one.input_ids))) for one in found)
    predicted = sorted(token_id for one in found for token_id in one.targets)
    assert predicted == sorted(bytes_bpe(TEXT, add_special_tokens=False)["input_ids"])


def test_masked_inputs_are_the_protocols_lines(bert_folder: Path) -> None:
    found, _ = tokenized(bert_folder).examples(10**9, 0)
    assert len(found) == len(SENTENCES)  # the last line is too short
    assert all(one.positions for one in found)
