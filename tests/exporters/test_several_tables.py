"""Models with several tables, exported: they load without orientc, compute the same, and weigh what was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support import quantized
from support.data import SENTENCES
from support.documents import valid
from support.untied import OWN_HEAD, SPECIAL, UNTIED, lossless, outputs, save_untied, several
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import orientc
from orientc.evaluation.texts import Text
from orientc.exporters import model_card
from orientc.exporters.export import Exported, export
from orientc.models.inspect import ArtifactInspection
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.models.tables import tables_of
from orientc.storage import artifact as artifacts

HEADER = 8_000  # bytes of a weight file's header, at most


def saved(name: str, folder: Path, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    model = several(name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def fitted(folder: Path, model: PreTrainedModel, out: Path) -> list[Path]:
    """An artifact for each table, at full rank: nothing is lost."""
    return [
        orientc.svd(folder, rank=factors.dim, table=name, out=out, device="cpu").path
        for name, factors in lossless(model).items()
    ]


def loaded(made: Exported) -> PreTrainedModel:
    """The model by transformers alone, with the folder's own code where it has some."""
    options: dict[str, Any] = {"trust_remote_code": True} if made.facts.code else {}
    auto = getattr(transformers, made.facts.auto_class)
    model: PreTrainedModel = auto.from_pretrained(made.folder, **options).eval()
    assert type(model).__module__.startswith("transformers_modules" if made.facts.code else "transformers.models")
    return model


FEW = ["bert-untied", "llama-untied", "rembert-untied", "mamba2-untied", "bart-untied", *SPECIAL]
MANY = [name for name in (*OWN_HEAD, *UNTIED) if name not in FEW]


@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in MANY)])
def test_lossless_artifacts_give_the_models_own_logits(
    name: str, form: str, tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    model = saved(name, tmp_path / "model", bytes_bpe)
    paths = fitted(tmp_path / "model", model, tmp_path / "runs")

    made = export(paths, tmp_path / "small", form=form)

    torch.testing.assert_close(outputs(loaded(made)), outputs(model), atol=1e-4, rtol=1e-4)
    assert made.facts.head == ("tied" if name == "gemma3n" else "both")
    document = valid(json.loads(json.dumps(made.as_dict())))
    assert "rank" not in document
    told = [orientc.inspect(path) for path in paths]
    sizes = [found.description.nbytes for found in told if isinstance(found, ArtifactInspection)]
    bases = [read_table(tmp_path / "model", table=table["table"]).info.nbytes for table in document["tables"]]
    assert [table["nbytes"] for table in document["tables"]] == (sizes if form == "compact" else bases)
    assert made.facts.base_table == sum(bases)
    expected = made.facts.base_weights - made.facts.base_table + made.facts.table
    assert made.weights == pytest.approx(expected, abs=HEADER)
    card = (made.folder / model_card.FILE).read_text()
    assert f"| tables, MB | {sum(bases) / 1e6:.2f} |" in card


def test_the_head_alone_is_exported_and_the_lookup_stays(tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> None:
    model = saved("llama-untied", tmp_path / "model", bytes_bpe)
    artifact = orientc.svd(tmp_path / "model", rank=4, table="head", out=tmp_path / "runs").path
    made = export(artifact, tmp_path / "small")
    assert made.facts.head == "head-only"
    again = loaded(made)
    assert torch.equal(again.get_input_embeddings().weight, model.get_input_embeddings().weight)
    with torch.no_grad():
        model.get_output_embeddings().weight.copy_(artifacts.load(artifact).dense())
    torch.testing.assert_close(outputs(again), outputs(model), atol=1e-5, rtol=1e-4)
    card = (made.folder / model_card.FILE).read_text()
    assert "the table of its head (97 × 32) compressed by svd to rank 4" in card
    second = export(made.folder, tmp_path / "again")
    assert (second.folder / "model.safetensors").read_bytes() == (made.folder / "model.safetensors").read_bytes()
    dense = export(made.folder, tmp_path / "dense", form="dense")
    torch.testing.assert_close(outputs(loaded(dense)), outputs(model), atol=1e-5, rtol=1e-4)


def test_what_transformers_trains_and_saves_of_both_is_loaded_again(
    tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    model = saved("llama-untied", tmp_path / "model", bytes_bpe)
    both = orientc.quantize(tmp_path / "model", bits=4, group_size=16, table="all", out=tmp_path / "runs")
    again = loaded(export(both.paths, tmp_path / "small"))
    before = outputs(again)
    assert (before - outputs(model)).abs().max() > 1e-4
    for parameter in again.parameters():
        parameter.data.add_(0.01)
    again.save_pretrained(tmp_path / "trained")
    options: dict[str, Any] = {"trust_remote_code": True}
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "trained", **options).eval()
    torch.testing.assert_close(outputs(trained), outputs(again), atol=0, rtol=0)
    body = transformers.AutoModel.from_pretrained(tmp_path / "small", **options)  # has no head
    assert body.get_input_embeddings().embedding_dim == 32
    coded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small", orientc_resident="dense", **options)
    torch.testing.assert_close(outputs(coded.eval()), before, atol=1e-4, rtol=1e-4)


def test_the_card_has_what_both_cost_together(tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> None:
    folder = save_untied(tmp_path / "untied", bytes_bpe)
    both = orientc.quantize(folder, bits=4, group_size=16, table="all", out=tmp_path / "runs")
    text = Text("sentences", "\n".join(SENTENCES))
    orientc.perplexity(both.path, text=text, limit=200, device="cpu")
    measured = orientc.perplexity([*both.paths], text=text, limit=200, device="cpu").records[1]
    card = (export(both.paths, tmp_path / "small").folder / model_card.FILE).read_text()
    assert "## What it cost" in card
    assert "ppl both" in card
    assert "ppl input-only" not in card
    assert f"{measured.perplexity:.4g}"[:4] in card


@pytest.mark.slow
def test_a_graph_runs_from_both_tables(tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    save_untied(tmp_path / "model", bytes_bpe)
    both = orientc.quantize(tmp_path / "model", bits=4, group_size=16, table="all", out=tmp_path / "runs")
    made = export(both.paths, tmp_path / "graph", form="onnx")
    dense = loaded(export(both.paths, tmp_path / "dense", form="dense"))
    session = onnxruntime.InferenceSession(made.folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    ids = torch.arange(3, 12).reshape(1, 9)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": torch.arange(9).unsqueeze(0)}
    feed = {entry.name: given[entry.name].numpy() for entry in session.get_inputs() if entry.name in given}
    for entry in session.get_inputs():
        if entry.name not in given:
            sizes = [size if isinstance(size, int) else 0 for size in entry.shape[1:]]  # of an empty cache
            feed[entry.name] = torch.zeros(1, *sizes).numpy()
    found = torch.from_numpy(session.run(["logits"], feed)[0])
    with torch.no_grad():
        torch.testing.assert_close(found, dense(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
    assert made.weights < export(both.path, tmp_path / "one", form="onnx").weights


@pytest.mark.parametrize("chosen", [("head",), ("input", "head")])
def test_tables_of_a_gguf_file_are_exchanged(
    chosen: tuple[str, ...], tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    gguf = pytest.importorskip("gguf")
    folder = save_untied(tmp_path / "model", bytes_bpe)
    base = quantized.gguf_file(folder, tmp_path / "base.gguf")
    assert [*tables_of(ModelSource.resolve(base).skeleton)] == ["input", "head"]
    made = [orientc.quantize(base, block="Q8_0", table=table, out=tmp_path / "runs") for table in chosen]
    exported = export([each.path for each in made], tmp_path / "small.gguf", form="gguf")
    assert exported.facts.head == ("both" if len(chosen) > 1 else "head-only")
    names = {"input": "token_embd.weight", "head": "output.weight"}
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(exported.folder).tensors}
    exchanged = {names[table]: each.artifact.dense() for table, each in zip(chosen, made, strict=True)}
    for tensor in gguf.GGUFReader(base).tensors:
        new = found[tensor.name]
        if tensor.name in exchanged:
            assert new.tensor_type.name == "Q8_0"
            read = gguf.dequantize(new.data, new.tensor_type)
            assert torch.equal(torch.from_numpy(read.copy()), exchanged[tensor.name])
        else:
            assert new.data.tobytes() == tensor.data.tobytes()
