"""Text that is not scored is counted and said; numbers that are none are errors."""

from __future__ import annotations

import math
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.commands import Ended, one_line
from support.data import SENTENCES
from transformers import PreTrainedTokenizerFast

from orientc.evaluation.left_out import Cut, cut, other_line_ends
from orientc.evaluation.masked_lm import select
from orientc.evaluation.squad.data import Question
from orientc.evaluation.squad.windows import windows
from orientc.evaluation.texts import Text
from orientc.utils.progress import Progress

LINES = [*SENTENCES, "short", " ".join(SENTENCES)]


def with_nan(folder: Path, where: Path, parameter: str) -> Path:
    """A copy of a model with one number of a tensor NaN."""
    copy = shutil.copytree(folder, where)
    tensors = load_file(copy / "model.safetensors")
    (name,) = [name for name in tensors if name.endswith(parameter)]
    tensors[name].flatten()[0] = math.nan
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    return copy


# -- counts


def test_what_a_tokenizer_cuts_is_what_it_gives_without_a_limit(wordpiece: PreTrainedTokenizerFast) -> None:
    texts = [SENTENCES[0], " ".join(SENTENCES[:5]), SENTENCES[1]]
    whole = [len(ids) for ids in wordpiece(texts, truncation=False)["input_ids"]]
    for limit in (8, max(whole[0], whole[2]), max(whole), 500):
        lengths = [len(ids) for ids in wordpiece(texts, truncation=True, max_length=limit)["input_ids"]]
        lost = [max(0, length - limit) for length in whole]
        assert cut(wordpiece, lengths, limit, texts) == Cut(sum(count > 0 for count in lost), sum(lost))


def test_the_masked_protocol_counts_up_to_the_last_line_it_scores(wordpiece: PreTrainedTokenizerFast) -> None:
    long = " ".join(SENTENCES)
    text = "\n".join(["short", SENTENCES[0], "", "too short", long, "short again"])
    lost = len(wordpiece(long, truncation=False)["input_ids"]) - 64
    found = select(text, wordpiece, max_ids=64, seed=0)
    assert found.left_out == {"short_lines": 3, "cut_lines": 1, "cut_tokens": lost}
    assert len(found.examples) == 2
    for limit, left_out in ((1, {"short_lines": 1}), (2, {"short_lines": 2, "cut_lines": 1, "cut_tokens": lost})):
        limited = select(text, wordpiece, max_ids=64, seed=0, limit=limit)
        assert limited.left_out == left_out
        assert limited.examples == found.examples[:limit]


@pytest.mark.parametrize("end", ["\r", "\u2028", "\u2029", "\x85", "\v", "\f"])
def test_signs_that_look_like_line_ends_are_told_of(end: str) -> None:
    assert other_line_ends(Text("text", "one\r\ntwo\nthree\r\n")) is None
    told = other_line_ends(Text("text", f"one{end}two\r\nthree{end}"))
    assert told
    assert told.startswith("text: 2 signs")


# -- what commands say


def test_perplexity_says_once_what_it_left_out_and_again_when_it_finds_the_record(
    orientc: Callable[..., Ended], bert_folder: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(LINES) + "\rold\n")
    command = ("perplexity", bert_folder, "--text", text, "--out", tmp_path / "runs", "--json")
    first, again = orientc(*command), orientc(*command)
    metrics = first.document["records"][0]["metrics"]
    assert (metrics["short_lines"], metrics["cut_lines"]) == (1, 1)
    ends, left_out = first.err.splitlines()
    assert "1 signs that look like line ends" in ends
    assert "1 lines of fewer than 20 tokens" in left_out
    assert f"{metrics['cut_tokens']} tokens of 1 lines that are cut to 64" in left_out
    assert (again.out, again.err) == (first.out, first.err)


def test_the_first_token_of_a_window_without_bos_is_counted(
    orientc: Callable[..., Ended], gpt2_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    command = ("perplexity", gpt2_folder, "--text", text_file, "--limit", 100, "--window", 16, "--json")
    with_bos = orientc(*command, "--out", tmp_path / "a")
    assert with_bos.err == ""
    without = orientc(*command, "--no-bos", "--out", tmp_path / "b")
    metrics = without.document["records"][0]["metrics"]
    assert metrics["tokens"] + metrics["unscored_tokens"] == 100
    assert metrics["unscored_tokens"] == 7
    assert "7 tokens that begin a window are not scored" in without.err


@pytest.mark.parametrize("command", ["calibrate", "similarity", "tune"])
def test_other_readers_of_lines_say_what_they_cut(
    orientc: Callable[..., Ended], bert_folder: Path, tmp_path: Path, command: str
) -> None:
    artifact = tmp_path / "a.safetensors"
    orientc("svd", bert_folder, "--rank", 4, "--out", artifact)
    text = tmp_path / "text.txt"
    text.write_text("\n".join([*LINES, "one\u2028two"] * (15 if command == "tune" else 3)))
    options = ("--out", tmp_path / "runs", *(("--steps", 1) if command == "tune" else ()))
    ended = orientc(command, artifact if command == "tune" else bert_folder, "--text", text, *options)
    assert ended.code == 0, ended
    count = 14 if command == "tune" else 3  # of a tuning text the last part is held out
    assert re.search(rf"\d+ tokens of {count} (lines|sentences) that are cut to 64 tokens", ended.err), ended.err
    assert "signs that look like line ends" in ended.err


def test_glue_says_what_it_cuts(
    orientc: Callable[..., Ended], bert_folder: Path, glue_folder: Path, tmp_path: Path
) -> None:
    ended = orientc(
        "glue", "--task", "rte", "--model", bert_folder, "--data", glue_folder, "--epochs", 0, "--max-length", 8,
        "--out", tmp_path,
    )  # fmt: skip
    assert ended.code == 0, ended
    assert "examples that are cut to 8 tokens are left out" in ended.err


def test_squad_says_what_it_cuts_of_questions(wordpiece: PreTrainedTokenizerFast) -> None:
    said: list[str] = []
    asked = Question("1", "a" + " the fox" * 40, "a fox in the village", ("fox",), (2,))
    for most in (100, 10):
        windows(
            [asked] * 2, wordpiece, max_length=200, max_question=most, labels=False, progress=Progress(warn=said.append)
        )
    assert said == ["SQuAD: 142 tokens of 2 of 2 questions that are cut to 10 tokens are left out"]


# -- numbers that are none


def test_nan_is_an_error_and_nothing_is_recorded(
    orientc: Callable[..., Ended], bert_folder: Path, gpt2_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    for folder, parameter in ((bert_folder, "LayerNorm.weight"), (gpt2_folder, "ln_f.weight")):
        if folder is bert_folder:
            parameter = "embeddings.LayerNorm.weight"
        model = with_nan(folder, tmp_path / folder.name, parameter)
        for command in ("perplexity", "similarity"):
            ended = orientc(command, model, "--text", text_file, "--out", tmp_path / "runs")
            assert "are not numbers (NaN)" in one_line(Ended(ended.code, ended.out, ended.err), 1)
    assert not list((tmp_path / "runs").rglob("*.json"))


def test_float16_that_overflows_is_an_error_and_not_infinity(
    orientc: Callable[..., Ended], bert_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(bert_folder, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["bert.embeddings.LayerNorm.weight"] *= 1e6
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    ended = orientc("perplexity", model, "--text", text_file, "--dtype", "float16", "--out", tmp_path / "runs")
    assert "--dtype" in one_line(ended, 1)


def test_an_infinite_perplexity_is_shown_and_meets_no_gate(
    orientc: Callable[..., Ended], gpt2_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(gpt2_folder, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    tensors["transformer.ln_f.weight"] *= 1e5
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    artifact = tmp_path / "a.safetensors"
    assert orientc("svd", model, "--rank", 4, "--out", artifact).code == 0
    shown = orientc("perplexity", artifact, "--text", text_file, "--limit", 50)
    assert shown.code == 0, shown
    assert "∞" in shown.out
    assert "nan" not in shown.out
    for gate in ("<= 1.2x", ">= 0.1x", "!= 3", ">= 1", "<= 1e300"):
        assert orientc("compare", tmp_path, "--require", f"perplexity.tied {gate}").code == 3


def test_a_vector_of_zeros_has_no_direction_and_is_counted(
    orientc: Callable[..., Ended], bert_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(bert_folder, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    for name in tensors:
        if "output.LayerNorm" in name:
            tensors[name] = torch.zeros_like(tensors[name])
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    ended = orientc("similarity", model, "--text", text_file, "--out", tmp_path / "runs", "--json")
    metrics = ended.document["records"][0]["metrics"]
    assert metrics["zero_vectors"] == metrics["sentences"]
    assert metrics["cosine"] == 0
    assert "have a vector of zeros" in ended.err


def test_constant_scores_are_no_correlation_and_no_warning(
    orientc: Callable[..., Ended], bert_folder: Path, glue_folder: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(glue_folder, tmp_path / "glue")
    dev = data / "STS-B" / "dev.tsv"
    header, *rows = dev.read_text().splitlines()
    dev.write_text("\n".join([header, *("\t".join([*row.split("\t")[:-1], "2.5"]) for row in rows), ""]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended = orientc("similarity", bert_folder, "--data", data, "--out", tmp_path / "runs", "--json")
    assert ended.code == 0, ended
    assert ended.document["records"][0]["metrics"]["spearman"] == 0
