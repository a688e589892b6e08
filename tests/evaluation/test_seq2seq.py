"""Perplexity of a target given its source, against what transformers' own loss and plain sums make of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.architectures import build
from support.commands import Ended
from support.data import PAIRS
from support.documents import valid

import orientc
from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import EvaluationError
from orientc.evaluation import seq2seq
from orientc.evaluation.scoring import PADDING, decoder_inputs
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.utils.progress import Progress

DEVICE = {"device": "cpu"}
LONG = ("a village " * 60, "the fox " * 70)


@pytest.fixture(scope="module", params=["t5", "bart-scaled", "marian", "m2m-100"])
def folder(request: pytest.FixtureRequest, t5_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder-decoder of each kind, with a bias on its logits where it has one, and T5's tokenizer."""
    place = tmp_path_factory.mktemp("models") / request.param
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5_folder)
    model = build(request.param)
    config = copy.deepcopy(model.config)
    config.update({"vocab_size": len(tokenizer), "decoder_vocab_size": len(tokenizer)})
    config.update({"pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0 if request.param == "t5" else 2})
    torch.manual_seed(0)
    model = type(model)(config)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias = torch.randn(1, len(tokenizer))
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def losses(model: Any, tokenizer: Any) -> tuple[list[float], list[float]]:
    """Each target token's loss in float64, pair by pair, and transformers' own sum of a pair's."""
    mine, theirs = [], []
    for source, target in PAIRS:
        inputs = tokenizer(source, text_target=target, return_tensors="pt")
        ids = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
        with torch.no_grad():
            output = model(**ids)
        logits = output.logits[0].double().log_softmax(-1)
        mine += [-float(row[label]) for row, label in zip(logits, ids["labels"][0], strict=True)]
        theirs.append(float(output.loss) * ids["labels"].shape[1])
    return mine, theirs


def test_the_figures_equal_a_direct_computation(folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    """Whole models, one with the table replaced by a dense one; every target token counts, the end among them."""
    path = tmp_path / "table.safetensors"
    artifact = fit_table(read_table(folder), SvdConfig(rank=2))
    artifacts.save(artifact, path)
    found = orientc.perplexity(path, text=pairs_file, batch_size=7, out=tmp_path, **DEVICE)
    assert found.protocol == "seq2seq"
    assert [record.head for record in found.records] == ["tied", "input-only", "tied"]
    valid(found.as_dict())
    assert {record.settings["protocol"] for record in found.records} == {"seq2seq"}  # so that no column has others
    original, _, tied = found.records
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for record, table in ((original, None), (tied, artifact.factors.dense())):
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        if table is not None:
            model.get_input_embeddings().weight.data.copy_(table)
        mine, theirs = losses(model, tokenizer)
        assert record.metrics["tokens"] == len(mine)
        assert record.metrics["loss"] == pytest.approx(math.fsum(mine) / len(mine), rel=1e-5)
        assert record.metrics["loss"] == pytest.approx(math.fsum(theirs) / len(mine), rel=1e-5)
        assert record.perplexity == pytest.approx(math.exp(math.fsum(mine) / len(mine)), rel=1e-4)
        assert record.standard_error("perplexity")
    assert tied.metrics["kl"] > 0
    assert tied.errors
    assert {"kl", "same_top"} <= tied.errors.keys()


def test_the_decoders_input_is_what_the_model_makes_of_labels(folder: Path) -> None:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    labels = torch.tensor([[7, 8, 9, 3], [10, 3, PADDING, PADDING]])
    found = decoder_inputs(model, labels)
    start, padding = model.config.decoder_start_token_id, model.config.pad_token_id
    assert found.tolist() == [[start, 7, 8, 9], [start, 10, 3, padding]]
    assert torch.equal(decoder_inputs(ModelSource.resolve(folder).outline, labels), found)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_what_is_cut_or_blank_is_counted_and_said(t5_folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "pairs.tsv"
    text.write_text("".join(f"{source}\t{target}\n" for source, target in [*PAIRS[:3], LONG, ("alone", " ")]))
    told: list[str] = []
    progress = Progress(warn=told.append)
    (record,) = orientc.perplexity(t5_folder, text=text, out=tmp_path, progress=progress, **DEVICE).records
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5_folder)
    lost = sum(len(tokenizer(side)["input_ids"]) - 64 for side in LONG)
    assert record.settings["max_ids"] == 64
    assert (record.metrics["cut_texts"], record.metrics["cut_tokens"], record.metrics["blank_pairs"]) == (2, lost, 1)
    assert told == [
        f"pairs.tsv: {lost} tokens of 2 sources or targets that are cut to 64 tokens are left out; "
        "1 pairs with nothing on a side are not scored"
    ]


def test_a_limit_counts_pairs(t5_folder: Path, pairs_file: Path, tmp_path: Path) -> None:
    (record,) = orientc.perplexity(t5_folder, text=pairs_file, limit=5, out=tmp_path, **DEVICE).records
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5_folder)
    assert record.metrics["tokens"] == sum(len(tokenizer(target)["input_ids"]) for _, target in PAIRS[:5])


@pytest.mark.parametrize("option", [{"window": 8}, {"stride": 4}, {"bos": False}, {"seed": 1}])
def test_options_of_the_other_protocols_are_refused(
    option: dict[str, Any], t5_folder: Path, bert_folder: Path, pairs_file: Path, tmp_path: Path
) -> None:
    (name,) = option
    with pytest.raises(EvaluationError, match=f"encoder-decoder: `{name}` is for"):
        orientc.perplexity(t5_folder, text=pairs_file, out=tmp_path, **option, **DEVICE)
    with pytest.raises(EvaluationError, match="no encoder-decoder: `languages` is for the pairs"):
        orientc.perplexity(bert_folder, text=pairs_file, languages="en,de", out=tmp_path, **DEVICE)


def test_the_command_reads_json_lines_and_shows_its_protocol(
    orientc: Callable[..., Ended], t5_folder: Path, tmp_path: Path
) -> None:
    text = tmp_path / "pairs.jsonl"
    text.write_text("".join(f'{{"de": "{target}", "en": "{source}"}}\n' for source, target in PAIRS))
    ended = orientc("perplexity", t5_folder, "--text", text, "--languages", "en,de", "--limit", 9, "--device", "cpu")
    assert ended.code == 0, ended
    assert "seq2seq perplexity on pairs.jsonl" in ended.out


# -- tokenizers of several languages


@pytest.fixture
def nllb(tmp_path: Path) -> ModelSource:
    """A tiny model with NLLB's tokenizer for two languages."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = transformers.NllbTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=[],
        extra_special_tokens=["eng_Latn", "deu_Latn"],
    )
    config = build("m2m-100").config
    config.update({"vocab_size": len(tokenizer), "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2})
    transformers.M2M100ForConditionalGeneration(config).save_pretrained(tmp_path / "nllb")
    tokenizer.save_pretrained(tmp_path / "nllb")
    return ModelSource.resolve(tmp_path / "nllb")


def test_languages_are_those_of_the_tokenizer(nllb: ModelSource, tmp_path: Path) -> None:
    text = tmp_path / "pairs.tsv"
    text.write_text("a house\tein haus\n" * 30)
    with pytest.raises(EvaluationError, match="for several languages: say with `languages`"):
        orientc.perplexity(nllb, text=text, out=tmp_path, **DEVICE)
    with pytest.raises(EvaluationError, match="knows no language de: name its own"):
        orientc.perplexity(nllb, text=text, languages="eng_Latn,de", out=tmp_path, **DEVICE)
    (record,) = orientc.perplexity(nllb, text=text, languages="eng_Latn,deu_Latn", out=tmp_path, **DEVICE).records
    assert record.settings["languages"] == "eng_Latn,deu_Latn"
    tokenizer = seq2seq.tokenizer_of(nllb, ("eng_Latn", "deu_Latn"))
    [(example, _)] = seq2seq.examples(tokenizer, [("a house", "ein haus")], 99)
    for ids, language in ((example.input_ids, "eng_Latn"), (example.targets, "deu_Latn")):
        assert [tokenizer.convert_ids_to_tokens(ids[place]) for place in (0, -1)] == [language, "</s>"]
    assert record.metrics["tokens"] == 30 * len(example.targets)
    assert nllb.tokenizer.tgt_lang is None
