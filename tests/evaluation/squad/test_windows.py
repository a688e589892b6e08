"""Windows hold what they should, place labels on the answer, and agree with transformers' own sliding windows."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.data import SENTENCES
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer, DataCollatorWithPadding, PreTrainedTokenizerFast

from orientc.errors import EvaluationError
from orientc.evaluation.squad.data import Question, load
from orientc.evaluation.squad.windows import Window, features, windows

CONTEXT = " ".join(SENTENCES[::9])
ODD = "  “Zürich”, naïve café – 東京 😀 fox; re\u0301sume\u0301s\u00a0dog\tthe  unbelievable (philosopher's) village.\n"


def asked(context: str, answer: str = "fox", question: str = "the quick fox ?") -> Question:
    return Question("q", question, context, (answer,), (context.index(answer),))


@pytest.fixture(scope="session")
def roberta(bytes_bpe: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Byte-level BPE with RoBERTa's special tokens: two between the texts, and no token types."""
    tokenizer = Tokenizer.from_str(bytes_bpe.backend_tokenizer.to_str())
    tokenizer.add_special_tokens(["</s>", "<pad>"])
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", end), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def xlnet(wordpiece: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """WordPiece with XLNet's special tokens: the CLS token last, padding on the left."""
    tokenizer = Tokenizer.from_str(wordpiece.backend_tokenizer.to_str())
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP] [CLS]:2",
        pair="$A [SEP] $B:1 [SEP]:1 [CLS]:2",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", padding_side="left"
    )


@pytest.fixture(params=["wordpiece", "bytes_bpe", "roberta", "xlnet"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    found: PreTrainedTokenizerFast = request.getfixturevalue(request.param)
    return found


def text_at(window: Window, question: Question, first: int, last: int) -> str:
    """The characters of two positions of a window and all between."""
    begin, end = window.offsets[first - window.first, 0], window.offsets[last - window.first, 1]
    return question.context[begin:end].strip()


@pytest.mark.parametrize(("max_length", "step"), [(64, 16), (64, 7), (50, 20), (3000, 128)])
def test_as_transformers_cuts_them(tokenizer: PreTrainedTokenizerFast, max_length: int, step: int) -> None:
    questions = [asked(CONTEXT), asked(ODD), asked(SENTENCES[0], question="who ?"), asked(CONTEXT, question="")]
    found = windows(questions, tokenizer, max_length=max_length, step=step, labels=False)
    assert {window.question for window in found} == {0, 1, 2, 3}
    for index, question in enumerate(questions):
        head = len(tokenizer(question.question, add_special_tokens=False)["input_ids"])
        room = max_length - head - tokenizer.num_special_tokens_to_add(pair=True)
        expected = tokenizer(
            question.question,
            question.context,
            truncation="only_second",
            max_length=max_length,
            stride=room - step,
            return_overflowing_tokens=True,
            return_token_type_ids=True,
        )
        own = [window for window in found if window.question == index]
        assert [window.input_ids for window in own] == expected["input_ids"]
        for number, window in enumerate(own):
            sequences = expected.sequence_ids(number)
            context = [at for at, part in enumerate(sequences) if part == 1]
            assert context == list(range(window.first, window.first + len(window.offsets)))
            offsets = [expected.encodings[number].offsets[at] for at in context]
            assert window.offsets.tolist() == [list(pair) for pair in offsets]
            assert window.labels is None
            if "token_type_ids" in tokenizer.model_input_names:
                assert window.token_type_ids == expected["token_type_ids"][number]
            else:
                assert window.token_type_ids is None


def test_they_start_every_step_and_end_where_the_context_does(tokenizer: PreTrainedTokenizerFast) -> None:
    question = asked(CONTEXT)
    [whole] = windows([question], tokenizer, max_length=10_000, labels=False)
    tokens = len(whole.offsets)
    frame = len(whole.input_ids) - tokens
    for room in (1, 2, 9, 10, 11, 30, tokens - 1, tokens, tokens + 1):
        found = windows([question], tokenizer, max_length=frame + room, step=10, labels=False)
        step = min(room, 10)  # a longer one would leave tokens out
        begins = [0]
        while begins[-1] + room < tokens:
            begins.append(begins[-1] + step)
        assert [window.offsets.tolist() for window in found] == [
            whole.offsets[begin : begin + room].tolist() for begin in begins
        ]
        assert all(len(window.input_ids) <= frame + room for window in found)


def test_the_question_is_cut(wordpiece: PreTrainedTokenizerFast) -> None:
    question = asked(SENTENCES[0], "dog", " ".join(["the", "dog"] * 50))
    [window] = windows([question], wordpiece, labels=True)
    the, dog = wordpiece.convert_tokens_to_ids(["the", "dog"])
    assert window.input_ids[1:65] == [the, dog] * 32
    assert window.input_ids[65] == wordpiece.sep_token_id
    [short] = windows([question], wordpiece, max_question=3, labels=True)
    assert short.input_ids[:5] == [wordpiece.cls_token_id, the, dog, the, wordpiece.sep_token_id]
    assert short.input_ids[4:] == window.input_ids[65:]
    assert [text_at(each, question, *each.labels) for each in (window, short) if each.labels] == ["dog", "dog"]


def test_labels_are_the_tokens_that_cover_the_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    words = [
        (context, match) for context in (CONTEXT, ODD, ODD[2:]) for match in re.finditer(r"\w[\w\u0301]*|😀", context)
    ]
    questions = [Question("q", "who ?", context, (match[0],), (match.start(),)) for context, match in words]
    # the blanks beside a word, which tokens may or may not have in them, are no reason to take another token
    questions += [
        Question("q", "who ?", context, (context[match.start() - 1 : match.end() + 1],), (match.start() - 1,))
        for context, match in words
        if match.start() > 0 and context[match.start() - 1] == context[match.end()] == " "
    ]
    assert len(questions) > 200
    for window in windows(questions, tokenizer, max_length=3000, labels=True):
        question = questions[window.question]
        assert window.labels
        first, last = window.labels
        answer = question.answers[0].strip()
        assert text_at(window, question, first, last) == answer
        if first < last and answer.isascii():  # other characters can be several tokens each
            assert text_at(window, question, first + 1, last) != answer
            assert text_at(window, question, first, last - 1) != answer


def test_parts_of_words_are_covered_by_whole_tokens(wordpiece: PreTrainedTokenizerFast) -> None:
    context = "the dog jumps over 東京 and 😀 ."
    for answer, covered in (("o", "dog"), ("g jum", "dog jumps"), ("京", "京"), ("😀 .", "😀 .")):
        question = asked(context, answer)
        [window] = windows([question], wordpiece, labels=True)
        assert window.labels
        assert text_at(window, question, *window.labels) == covered


def test_an_answer_no_token_stands_for_is_nowhere(wordpiece: PreTrainedTokenizerFast) -> None:
    context = "the fox \u200b\ufffd jumps"
    [window] = windows([asked(context, "\ufffd")], wordpiece, labels=True)
    assert window.labels == (0, 0)


def test_an_answer_not_wholly_inside_is_at_the_cls_token(tokenizer: PreTrainedTokenizerFast) -> None:
    middle = CONTEXT.index("over", len(CONTEXT) // 2)
    answer = CONTEXT[middle : CONTEXT.index("village", middle)].strip()
    question = Question("q", "who ?", CONTEXT, (answer,), (middle,))
    found = windows([question], tokenizer, max_length=70, step=5, labels=True)
    inside = 0
    for window in found:
        assert window.labels
        begin, end = window.offsets[0, 0], window.offsets[-1, 1]
        cls = window.input_ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id is not None else 0
        if begin <= middle and middle + len(answer) <= end:
            inside += 1
            assert text_at(window, question, *window.labels) == answer
        else:
            assert window.labels == (cls, cls)
    assert 0 < inside < len(found) - 4


def test_a_context_without_tokens_still_has_a_window(tokenizer: PreTrainedTokenizerFast) -> None:
    [window] = windows([Question("q", "who ?", "", ("x",), (0,))], tokenizer, labels=True)
    pair = tokenizer("who ?", "dog")
    around = [token for token, part in zip(pair["input_ids"], pair.sequence_ids(0), strict=True) if part != 1]
    assert window.input_ids == around
    assert window.offsets.shape == (0, 2)
    assert windows([], tokenizer, labels=True) == []


def test_what_a_tokenizer_was_set_to_stays(wordpiece: PreTrainedTokenizerFast) -> None:
    backend = wordpiece.backend_tokenizer
    expected = windows([asked(CONTEXT)], wordpiece, max_length=64, labels=True)
    backend.enable_truncation(10)
    backend.enable_padding(length=20)
    try:
        settings = backend.truncation, backend.padding
        found = windows([asked(CONTEXT)], wordpiece, max_length=64, labels=True)
        assert (backend.truncation, backend.padding) == settings
    finally:
        backend.no_truncation()
        backend.no_padding()
    assert [window.input_ids for window in found] == [window.input_ids for window in expected]


def test_features_are_what_the_collator_wants(tokenizer: PreTrainedTokenizerFast) -> None:
    padded = tokenizer.pad_token_id is not None
    questions = [asked(CONTEXT), asked(SENTENCES[0])] if padded else [asked(CONTEXT)]
    for labels in (True, False):
        found = windows(questions, tokenizer, max_length=64, step=48, labels=labels)[: None if padded else 2]
        batch = DataCollatorWithPadding(tokenizer)(features(found)) if padded else None
        names = {name for name in tokenizer.model_input_names if name != "token_type_ids"}
        names |= {"token_type_ids"} if found[0].token_type_ids else set()
        names |= {"start_positions", "end_positions"} if labels else set()
        assert all(set(feature) == names for feature in features(found))
        if batch is None:
            continue
        assert set(batch) == names
        assert batch["input_ids"].shape == (len(found), max(len(window.input_ids) for window in found))
        assert batch["attention_mask"].sum(1).tolist() == [len(window.input_ids) for window in found]
        if labels:
            positions = zip(batch["start_positions"].tolist(), batch["end_positions"].tolist(), strict=True)
            assert list(positions) == [window.labels for window in found]


def test_what_cant_be_cut(wordpiece: PreTrainedTokenizerFast) -> None:
    question = asked(CONTEXT, question="the dog")
    assert windows([question], wordpiece, max_length=6, labels=True)
    with pytest.raises(EvaluationError, match=r"maximum length of 5 leaves no room .* 2 tokens and 3 special"):
        windows([question], wordpiece, max_length=5, labels=True)
    with pytest.raises(EvaluationError, match="fast tokenizer"):
        windows([question], SimpleNamespace(is_fast=False), labels=True)


@pytest.mark.assets
def test_real_questions(assets: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(assets / "minilm-l6-mlm")
    questions = load(assets / "squad", limit_eval=400, train=False).evaluation
    for max_length, step in ((384, 128), (160, 64)):
        found = windows(questions, tokenizer, max_length=max_length, step=step, labels=True)
        by_question: dict[int, list[Window]] = {}
        for window in found:
            by_question.setdefault(window.question, []).append(window)
        assert list(by_question) == list(range(400))
        whole = 0
        for index, question in enumerate(questions):
            specials = tokenizer.num_special_tokens_to_add(pair=True)
            head = len(tokenizer(question.question, add_special_tokens=False)["input_ids"])
            assert head < 64
            expected = tokenizer(
                question.question,
                question.context,
                truncation="only_second",
                max_length=max_length,
                stride=max_length - head - specials - step,
                return_overflowing_tokens=True,
            )
            own = by_question[index]
            assert [window.input_ids for window in own] == expected["input_ids"]
            assert [window.token_type_ids for window in own] == expected["token_type_ids"]
            for window in own:
                assert window.labels
                if window.labels[0]:
                    text = text_at(window, question, *window.labels)
                    assert question.answers[0].strip() in text
                    whole += text == question.answers[0].strip()
        assert whole > 390


@pytest.mark.assets
def test_as_many_windows_as_berts_own_script_makes(assets: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(assets / "minilm-l6-mlm")
    questions = load(assets / "squad", train=False).evaluation
    found = windows(questions, tokenizer, labels=False)
    assert len(found) == 10_833
    assert np.bincount([window.question for window in found]).min() == 1
