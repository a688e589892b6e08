"""Bodies in 8 and 4 bits: those that a checkpoint came with, and those that an export makes.

What runs a quantizer's package is marked `clients`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from support import quantized
from support.compact_models import own_modules_cache
from support.data import SENTENCES
from support.models import save_bert
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import ExportError, ModelError, UsageError
from orientc.evaluation.causal_lm import sees_later_tokens
from orientc.evaluation.perplexity import perplexity
from orientc.exporters import bodies
from orientc.exporters.export import Exported, export
from orientc.exporters.forms import BODIES, INT4, INT8
from orientc.models.inspect import TableInspection, inspect
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts

WIDTH = 128  # numbers in a group that share a scale
IDS = torch.arange(3, 21)[None]
PACKAGES = {INT8: "torchao", INT4: "bitsandbytes"}
KEPT: dict[str, tuple[str, Callable[[Path], Path], torch.dtype]] = {  # package, maker, type of the codes in the file
    "bitsandbytes-int8": ("bitsandbytes", lambda folder: quantized.bitsandbytes(folder, 8), torch.int8),
    "bitsandbytes-nf4": ("bitsandbytes", lambda folder: quantized.bitsandbytes(folder, 4), torch.uint8),
    "torchao-int8": ("torchao", quantized.torchao, torch.int8),
    "compressed-tensors-w8a16": ("compressed_tensors", quantized.compressed_tensors, torch.int32),
}
kept = pytest.mark.parametrize("kind", KEPT)


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_modules_cache(tmp_path_factory.mktemp("modules")):
        yield


@pytest.fixture
def plain(tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    return quantized.llama(tmp_path / "plain", bytes_bpe, width=WIDTH)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(" ".join(SENTENCES[:12]))
    return path


def quantized_folder(kind: str, plain: Path) -> Path:
    package, make, _ = KEPT[kind]
    pytest.importorskip(package)
    tokenizer = ModelSource.resolve(plain).tokenizer
    return make(quantized.llama(plain.with_name(kind), tokenizer, width=WIDTH))


def artifact_of(model: Path) -> Path:
    path = model.with_name(f"{model.name}.safetensors")
    artifacts.save(fit_table(read_table(model), SvdConfig(rank=8)), path)
    return path


def measured(model: Path, text: Path) -> float:
    place = {} if model.suffix == ".safetensors" else {"out": text.parent / "runs"}
    return perplexity(model, text=text, device="cpu", **place).records[-1].perplexity  # type: ignore[arg-type]


def loaded(folder: Path, **options: Any) -> PreTrainedModel:
    """The model as transformers loads it, with all that is in the folder and nothing else."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True, **options
    )
    assert not any(info.values()), info
    return model


def codes_in(folder: Path) -> dict[str, torch.dtype]:
    """Types of what the file holds for the first layer's projections, where it is a matrix of codes."""
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in list(file.keys()) if "up_proj" in key}
    largest = max(tensors, key=lambda key: tensors[key].nbytes)
    return {largest: tensors[largest].dtype}


# -- bodies that a checkpoint came with


@pytest.mark.clients
@kept
def test_a_table_is_counted_among_the_numbers_that_codes_stand_for(kind: str, plain: Path) -> None:
    model, expected = quantized_folder(kind, plain), inspect(plain)
    for folder in (model, export(artifact_of(model), plain.with_name("compact")).folder):
        found = inspect(folder)
        assert isinstance(found, TableInspection)
        assert isinstance(expected, TableInspection)
        assert (found.share, found.table.model_parameters) == (expected.share, expected.table.model_parameters)


@pytest.mark.clients
@kept
@pytest.mark.parametrize("form", ["compact", "dense"])
def test_a_body_stays_as_it_is_in_both_forms(kind: str, form: str, plain: Path, text: Path) -> None:
    model = quantized_folder(kind, plain)
    artifact = artifact_of(model)
    made = export(artifact, plain.with_name("made"), form=form)
    assert codes_in(made.folder) == codes_in(model)
    assert {*codes_in(model).values()} == {KEPT[kind][2]}
    assert measured(made.folder, text) == pytest.approx(measured(artifact, text), rel=0.02)
    again, own = loaded(made.folder), loaded(model)
    layer, expected = again.model.layers[0].mlp, own.model.layers[0].mlp
    assert type(layer.up_proj) is type(expected.up_proj)
    assert type(layer.up_proj.weight) is type(expected.up_proj.weight) if hasattr(layer.up_proj, "weight") else True
    if form == "dense":
        table = artifacts.load(artifact).factors.dense().to(torch.bfloat16)
        assert torch.equal(again.get_input_embeddings().weight, table)
        assert again.lm_head.weight is again.get_input_embeddings().weight
    package = KEPT[kind][0].replace("_", "-")
    assert made.facts.needs == (package,)
    assert f"`pip install {package}`" in (made.folder / "README.md").read_text()


@pytest.mark.clients
@kept
def test_the_floats_beside_codes_have_the_type_that_is_asked_for(kind: str, plain: Path) -> None:
    """Of some methods transformers casts biases and not weights, and a model of both types does not run."""
    model = quantized_folder(kind, plain)
    made = export(artifact_of(model), plain.with_name("made"))
    for folder in (model, made.folder):
        source = ModelSource.resolve(folder).load(None, dtype=torch.float32)
        plain_floats = [*source.get_input_embeddings().parameters(), source.model.norm.weight]
        assert {parameter.dtype for parameter in plain_floats if parameter.is_floating_point()} == {torch.float32}
        with torch.no_grad():
            assert source(IDS).logits.isfinite().all()


@pytest.mark.clients
def test_int8_of_bitsandbytes_is_asked_token_by_token_whether_it_sees_later_tokens(plain: Path) -> None:
    """Columns with outliers are found in all tokens at once: that is no sign of a model that sees what it predicts."""
    model = ModelSource.resolve(quantized_folder("bitsandbytes-int8", plain)).load(None, dtype=torch.float32)
    with torch.no_grad():  # outliers in some tokens alone
        model.model.embed_tokens.weight[::2] *= 50
    assert not sees_later_tokens(model)
    assert model.model.layers[0].mlp.up_proj.state.threshold > 0


@pytest.mark.clients
@kept
def test_a_compact_folder_with_a_quantized_body_is_not_made_dense(kind: str, plain: Path) -> None:
    made = export(artifact_of(quantized_folder(kind, plain)), plain.with_name("compact"))
    with pytest.raises(ExportError, match="can be written dense from the artifact alone"):
        export(made.folder, plain.with_name("dense"), form="dense")


@pytest.mark.clients
@pytest.mark.parametrize("kind", ["bitsandbytes-int8", "bitsandbytes-nf4", "torchao-int8"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_compact_folder_is_quantized_on_loading_like_any_other(kind: str, dtype: torch.dtype, plain: Path) -> None:
    """Table first, body after: the module swap is left alone, and what is saved loads by itself."""
    pytest.importorskip(KEPT[kind][0])
    compact = export(artifact_of(plain), plain.with_name("compact")).folder
    expected = loaded(compact, dtype=torch.float32)
    how = loaded(quantized_folder(kind, plain)).config.quantization_config
    model = loaded(compact, quantization_config=how, dtype=dtype)
    model.save_pretrained(plain.with_name("again"))  # before it runs: bitsandbytes packs NF4 anew for a CPU
    again = loaded(plain.with_name("again"))
    with torch.no_grad():
        one, other, floats = (entry(IDS).logits.float() for entry in (model, again, expected))
    assert torch.equal(one, other)
    assert type(model.get_input_embeddings()).__name__ == "CompressedEmbedding"
    assert 0 < (one - floats).norm() / floats.norm() < (0.6 if kind.endswith("nf4") else 0.1)


@pytest.mark.clients
def test_tensors_that_would_be_left_out_are_an_error(plain: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = quantized_folder("bitsandbytes-int8", plain)
    state = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.other_scale"
    save_file(state | {name: torch.ones(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{name} in its weights would be left out"):
        ModelSource.resolve(folder).load(None, dtype=torch.float32)


# -- bodies that an export makes


def exported(plain: Path, body: str, form: str, **options: Any) -> Exported:
    pytest.importorskip(PACKAGES[body])
    return export(artifact_of(plain), plain.with_name(f"{form}-{body}"), form=form, body=body, **options)


@pytest.mark.clients
@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize("body", [INT8, INT4])
def test_a_body_in_fewer_bits_is_small_and_runs(body: str, form: str, plain: Path, text: Path) -> None:
    floats = export(artifact_of(plain), plain.with_name("floats"), form=form)
    made = exported(plain, body, form)
    info = read_table(plain).info
    weights = (info.model_bytes - info.nbytes) / 2
    assert {*codes_in(made.folder).values()} == {torch.int8 if body == INT8 else torch.uint8}
    assert made.weights < floats.weights
    assert (made.facts.table, made.halved) == (floats.facts.table, None)
    with safe_open(made.folder / "model.safetensors", framework="pt") as file:
        stored = sum(file.get_tensor(key).nbytes for key in list(file.keys())) - made.facts.table
    assert stored == pytest.approx(bodies.stored_bytes(ModelSource.resolve(plain).outline, body, 2), rel=0.02)
    assert stored < weights * (2 if body == INT8 else 1.9)
    assert measured(made.folder, text) == pytest.approx(measured(floats.folder, text), rel=0.3)
    assert type(loaded(made.folder)).__name__ == "LlamaForCausalLM"
    card = (made.folder / "README.md").read_text()
    assert f"(int8, {PACKAGES[body]})" in card or f"(int4, {PACKAGES[body]})" in card
    assert f"`pip install {PACKAGES[body]}`" in card
    assert json.loads(json.dumps(made.as_dict()))["needs"] == [PACKAGES[body]]


@pytest.mark.clients
@pytest.mark.parametrize("body", [INT8, INT4])
@pytest.mark.parametrize("form", ["compact", "dense"])
def test_a_sentence_encoder_loads_by_the_line_that_is_printed(
    body: str, form: str, tmp_path: Path, wordpiece: PreTrainedTokenizerFast
) -> None:
    st = pytest.importorskip("sentence_transformers")
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    folder, bert = tmp_path / "encoder", tmp_path / "bert"
    save_bert(bert, wordpiece, width=64)
    st.SentenceTransformer(modules=[Transformer(str(bert)), Pooling(64, "mean")]).save(str(folder))
    floats = export(artifact_of(folder), tmp_path / "floats", form=form)
    made = exported(folder, body, form)
    scope = {"SentenceTransformer": st.SentenceTransformer}
    expected, found = (
        eval(entry.facts.load(str(entry.folder)), scope).encode(SENTENCES[:4]) for entry in (floats, made)
    )
    off = ((found - expected) ** 2).sum() / (expected**2).sum()
    assert 0 < off < 0.02


@pytest.mark.clients
@pytest.mark.parametrize("body", [INT8, INT4])
def test_a_body_that_the_package_can_not_quantize_is_refused(
    body: str, gpt2_folder: Path, wordpiece: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """torchao knows no Conv1D; bitsandbytes runs no rows of 32 numbers in NF4."""
    pytest.importorskip(PACKAGES[body])
    save_bert(tmp_path / "narrow", wordpiece, width=16)
    model, artifact = gpt2_folder if body == INT8 else tmp_path / "narrow", tmp_path / "made.safetensors"
    artifacts.save(fit_table(read_table(model), SvdConfig(rank=8)), artifact)
    with pytest.raises(ExportError, match=f"no linear layers that {PACKAGES[body]} can quantize to {body}"):
        export(artifact, tmp_path / "made", body=body)
    assert not (tmp_path / "made").exists()


@pytest.mark.clients
@pytest.mark.parametrize("body", [INT8, INT4])
def test_a_body_is_not_quantized_twice(body: str, plain: Path) -> None:
    pytest.importorskip(PACKAGES[body])
    tokenizer = ModelSource.resolve(plain).tokenizer
    for stored, make in (("bitnet", quantized.bitnet), ("fp8", quantized.fp8)):
        model = make(quantized.llama(plain.with_name(stored), tokenizer))
        with pytest.raises(ExportError, match=rf"is quantized \({stored}\) already: export it without `body`"):
            export(artifact_of(model), plain.with_name("made"), body=body)


@pytest.mark.parametrize("body", [INT8, INT4])
def test_a_package_that_is_missing_is_one_line(body: str, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = artifact_of(plain)
    monkeypatch.setattr("orientc.models.quantized._installed", lambda package: False)
    with pytest.raises(ExportError, match=rf"needs {PACKAGES[body]}: pip install 'orientc\[body\]'"):
        export(artifact, plain.with_name("made"), body=body)


def test_a_compact_folder_of_which_the_package_is_missing_is_one_line(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(artifact_of(plain), plain.with_name("compact")).folder
    quantized.declare(folder, {"quant_method": "torchao"})
    monkeypatch.setattr("orientc.models.quantized._installed", lambda package: False)
    with pytest.raises(
        ModelError, match=r"compact, which is quantized \(torchao\), .* it needs torchao: pip install torchao$"
    ):
        export(folder, plain.with_name("made"))


def test_a_body_that_there_is_not_is_refused(plain: Path) -> None:
    with pytest.raises(UsageError, match=f"`body` must be one of {', '.join(BODIES)}"):
        export(artifact_of(plain), plain.with_name("made"), body="int3")
