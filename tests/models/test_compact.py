"""Models saved with their compressed table: what is loaded is what was saved, or one clear line says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.architectures import WIDTH, build, inputs_of
from support.coded import KEPT, made
from support.compact_models import (
    LANGUAGE,
    PLAIN_PARAMETERS,
    RANK,
    TASKS,
    assert_equal,
    cases,
    class_of,
    contents,
    dense,
    factors_of,
    outputs_of,
    saved,
    trained,
)
from transformers import PreTrainedModel

from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import EvaluationError, ModelError
from orientc.methods import svd
from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedTable
from orientc.models import compact
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute
from orientc.models.table import read_table, table_info

HEADER = 1024  # bytes: more than the headers of two files can differ by
TABLE = "bert.embeddings.word_embeddings"


def load(folder: Path, auto_name: str = LANGUAGE[0], **options: Any) -> PreTrainedModel:
    auto_class = getattr(transformers, auto_name)
    return ModelSource.resolve(str(folder)).load(auto_class, dtype=torch.float32, **options)


def configure(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def drop(folder: Path, *keys: str) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({key: tensor for key, tensor in tensors.items() if key not in keys}, path, {"format": "pt"})
    assert len(load_file(path)) == len(tensors) - len(keys)


def refusal(folder: Path, auto_name: str = TASKS[0], **options: Any) -> str:
    """The one line that loading this ends with."""
    with pytest.raises((ModelError, EvaluationError)) as raised:
        load(folder, auto_name, **options)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)
    return str(raised.value)


# -- codes


@pytest.mark.parametrize("coding", ["one row group", "row groups", "trellis"])
def test_the_table_of_a_model_in_codes_is_read_from_it(coding: str, tmp_path: Path) -> None:
    model = dense("bert", LANGUAGE[0])
    factors = made(coding, "linear", vocab=97, dim=WIDTH, kept=KEPT)
    substitute(model, factors, "tied")
    compact.save(model, tmp_path, "tied")
    read = read_table(ModelSource.resolve(str(tmp_path)))
    torch.testing.assert_close(read.weight, factors.dense())
    assert (read.info.nbytes, read.info.dtype) == (factors.nbytes, "float32")
    assert table_info(tmp_path) == read.info
    assert_equal(outputs_of(load(tmp_path)), outputs_of(model))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("kept_ids", lambda ids: ids.flip(0)),
        ("kept_ids", lambda ids: ids + 97),
        ("kept_ids", lambda ids: ids.float()),
        ("latents_row_groups", lambda row_groups: row_groups + 1),
        ("latents_0_codes", lambda codes: codes.int()),
    ],
)
def test_codes_and_ids_that_can_not_be_are_refused(
    name: str, change: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    model = substitute(dense("bert", LANGUAGE[0]), made("row groups", "linear", vocab=97, dim=WIDTH, kept=KEPT), "tied")
    compact.save(model, tmp_path, "tied")
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith(f".{name}"))
    save_file(tensors | {key: change(tensors[key])}, path, {"format": "pt"})
    with pytest.raises(ModelError, match="is damaged") as raised:
        read_table(ModelSource.resolve(str(tmp_path)))
    assert "\n" not in str(raised.value)


# -- there and back


@pytest.mark.parametrize(("name", "auto_name"), [case for case in cases() if case[1] not in TASKS or "bert" in case])
def test_a_model_comes_back_as_it_was_saved(name: str, auto_name: str, tmp_path: Path) -> None:
    policies = head_policies(dense(name, auto_name))
    assert policies in (("input-only", "tied"), ("input-only",))
    for head in policies:
        model = dense(name, auto_name)
        model.save_pretrained(tmp_path / head / "dense")
        table = model.get_input_embeddings().weight.nbytes
        factors = factors_of(model, "elu" if head == "input-only" else None)
        trained(substitute(model, factors, head))
        expected = outputs_of(model)
        folder, again = tmp_path / head / "compact", tmp_path / head / "again"

        compact.save(model, folder, head)
        source = ModelSource.resolve(str(folder))
        loaded = source.load(getattr(transformers, auto_name), dtype=torch.float32)

        assert_equal(outputs_of(loaded), expected)
        assert loaded.get_input_embeddings().factors.layout == factors.layout
        sizes = [(tmp_path / head / kind / "model.safetensors").stat().st_size for kind in ("dense", "compact")]
        kept = head == "input-only" and "tied" in policies  # the head keeps the table
        gain = -factors.nbytes if kept else table - factors.nbytes
        assert sizes[0] - sizes[1] == pytest.approx(gain, abs=HEADER)
        assert abs(gain) > 2 * HEADER

        read = read_table(source)
        assert torch.equal(read.weight, compact.compressed_tables(model)["input"].factors.dense())
        assert (read.info.nbytes, read.info.dtype) == (factors.nbytes, "float32")
        others = sum(parameter.numel() for parameter in model.parameters()) - factors.nbytes // 4
        assert read.info.model_parameters == others + read.weight.numel()  # as if the table were dense
        assert read.info.tied == (head == "tied")

        compact.save(loaded, again, head)
        assert contents(again) == contents(folder)


@pytest.mark.parametrize(("name", "auto_name"), [("bert", TASKS[0]), ("gpt2", LANGUAGE[2]), ("t5", LANGUAGE[1])])
def test_transformers_alone_does_not_take_the_form_for_a_dense_model(name: str, auto_name: str, tmp_path: Path) -> None:
    head = head_policies(dense(name, auto_name))[-1]
    model = saved(tmp_path, auto_name, head, name)

    for auto_class in (getattr(transformers, auto_name), transformers.AutoConfig):
        with pytest.raises(ValueError, match="custom code which must be executed"):
            auto_class.from_pretrained(tmp_path, trust_remote_code=False)
    configure(tmp_path, lambda values: values.pop("auto_map"))
    for auto_class in (getattr(transformers, auto_name), transformers.AutoConfig):
        with pytest.raises(ValueError, match=f"orientc_{model.config.model_type}"):
            auto_class.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["bert", "roberta", "albert", "electra", "gpt2", "llama", "t5", "bart-scaled"])
def test_a_language_models_table_goes_into_a_task_model(name: str, tmp_path: Path) -> None:
    auto_name = next(auto for auto in LANGUAGE if class_of(name, auto))
    for head in ("input-only", "tied"):
        model = saved(tmp_path / head, auto_name, head, name)
        loaded = load(tmp_path / head, TASKS[0], new_head=True)
        factors = compact.compressed_tables(loaded)["input"].factors
        for key, tensor in compact.compressed_tables(model)["input"].factors.tensors.items():
            assert torch.equal(factors.tensors[key], tensor)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["bert", "bart"])
def test_a_table_without_a_bias_or_without_a_decoder_comes_back_too(bias: bool, name: str, tmp_path: Path) -> None:
    model = dense(name, TASKS[0])
    table = model.get_input_embeddings().weight.detach()
    factors = svd.truncated_svd(table, RANK) if bias is False else Factors.plain(table.clone())
    trained(substitute(model, factors, "input-only"))

    compact.save(model, tmp_path, "input-only")

    assert_equal(outputs_of(load(tmp_path, TASKS[0])), outputs_of(model))
    assert read_table(ModelSource.resolve(str(tmp_path))).info.nbytes == factors.nbytes


def test_a_half_precision_model_keeps_its_type_and_loads_in_another(tmp_path: Path) -> None:
    model = dense("bert", TASKS[0]).to(torch.bfloat16)
    trained(substitute(model, factors_of(model), "input-only"))
    compact.save(model, tmp_path, "input-only")

    table = read_table(ModelSource.resolve(str(tmp_path)))
    assert table.info.dtype == "bfloat16"
    assert table.info.nbytes * 2 == factors_of(dense("bert", TASKS[0])).nbytes
    loaded = load(tmp_path, TASKS[0])
    assert loaded.get_input_embeddings().latents.dtype == torch.float32
    assert_equal(outputs_of(loaded), outputs_of(model.float()))


def test_a_dense_model_is_saved_as_transformers_would(tmp_path: Path) -> None:
    model = dense("bert", TASKS[0])
    model.save_pretrained(tmp_path / "theirs")
    compact.save(model, tmp_path / "ours", "input-only")
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")


def test_the_configuration_says_how_the_table_is_held(tmp_path: Path) -> None:
    saved(tmp_path, "AutoModelForMaskedLM", "tied")
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["model_type"] == "orientc_bert"
    assert values["orientc"] == {
        "format_version": 2, "model_type": "bert", "head": "tied", "own_head": False,
        "tables": {
            "input": {
                "vocab": 97, "dim": 32, "rank": RANK, "decoder": True, "bias": True, "activation": None,
                "kept": 0, "codec": "plain", "group_size": 0, "bits": [], "row_group_sizes": [],
                "block": "", "window": 0, "rounded": False,
            },
        },
    }  # fmt: skip
    source = ModelSource.resolve(str(tmp_path))
    assert type(source.config) is transformers.BertConfig
    assert not hasattr(source.config, "auto_map")
    keys = load_file(tmp_path / "model.safetensors").keys()
    assert {key.rpartition(".")[2] for key in keys if key.startswith(TABLE)} == set(PLAIN_PARAMETERS)
    assert sum(key.endswith(".latents") for key in keys) == 1


def test_loaded_modules_share_their_parameters_and_train(tmp_path: Path) -> None:
    saved(tmp_path, "AutoModelForMaskedLM", "tied")
    model = load(tmp_path)
    lookup, head = (module for module in model.modules() if isinstance(module, CompressedTable))
    assert lookup.latents is head.latents
    assert lookup.decoder_weight is head.decoder_weight
    model.tie_weights()
    model(**inputs_of(model)).logits.square().mean().backward()
    assert lookup.latents.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("name", "auto_name", "head"),
    [
        ("bert", TASKS[0], "input-only"),
        ("gpt2", "AutoModelForCausalLM", "tied"),
        ("bart", "AutoModelForSeq2SeqLM", "tied"),
    ],
)
def test_a_compact_model_is_compressed_again_like_its_dense_twin(
    name: str, auto_name: str, head: str, tmp_path: Path
) -> None:
    model = saved(tmp_path, auto_name, head, name)
    table = compact.compressed_tables(model)["input"].factors.dense()
    source = ModelSource.resolve(str(tmp_path))

    artifact = fit_table(read_table(source), SvdConfig(rank=3, center=True))
    artifact.check_base(read_table(source).info.sha256)
    smaller = substitute(load(tmp_path, auto_name), artifact, head)

    twin = dense(name, auto_name)
    others = {key: tensor for key, tensor in model.state_dict().items() if key in twin.state_dict()}
    assert twin.load_state_dict(others, strict=False).unexpected_keys == []
    twin.get_input_embeddings().weight.data.copy_(table)
    assert_equal(outputs_of(smaller), outputs_of(substitute(twin, artifact, head)))
    assert any(not torch.equal(*pair) for pair in zip(outputs_of(smaller), outputs_of(model), strict=True))

    compact.save(smaller, tmp_path / "again", head)
    assert_equal(outputs_of(load(tmp_path / "again", auto_name)), outputs_of(smaller))
    assert compact.compressed_tables(load(tmp_path / "again", auto_name))["input"].latents.shape[1] == 3


def test_the_tables_hash_tells_compact_tables_apart(tmp_path: Path) -> None:
    def sha256(folder: str) -> str:
        return read_table(ModelSource.resolve(str(tmp_path / folder))).info.sha256

    model = saved(tmp_path / "one")
    saved(tmp_path / "same")
    with torch.no_grad():
        model.get_input_embeddings().decoder_bias[3] += 1
    compact.save(model, tmp_path / "other", "input-only")
    assert sha256("one") == sha256("same") != sha256("other")


def test_a_model_with_a_dense_table_has_no_compressed_one() -> None:
    assert not compact.compressed_tables(build("bert"))


# -- what is refused


@pytest.mark.parametrize(
    ("name", "auto_name", "head", "part"),
    [
        *(("bert", "AutoModelForMaskedLM", "tied", part) for part in PLAIN_PARAMETERS),
        ("bert", "AutoModelForMaskedLM", "input-only", "latents"),
        ("bert", TASKS[1], "input-only", "latents"),
        ("gpt2", "AutoModelForCausalLM", "tied", "latents"),
        ("bart", TASKS[0], "input-only", "latents"),  # shared by encoder and decoder
        ("t5", "AutoModelForSeq2SeqLM", "tied", "latents"),
        ("t5", TASKS[0], "input-only", "latents"),
        ("t5", TASKS[1], "input-only", "latents"),  # no encoder of its own name: all its keys look like a head's
    ],
)
def test_a_missing_tensor_of_the_table_is_never_made_up(
    name: str, auto_name: str, head: str, part: str, tmp_path: Path
) -> None:
    saved(tmp_path, auto_name, head, name)
    missing = next(key for key in load_file(tmp_path / "model.safetensors") if key.endswith(f".{part}"))
    drop(tmp_path, missing)

    for new_head in (False, True):
        assert part in refusal(tmp_path, auto_name, new_head=new_head)
    assert missing in refusal(tmp_path, auto_name)
    with pytest.raises(ModelError, match=part):
        read_table(ModelSource.resolve(str(tmp_path)))


@pytest.mark.parametrize("auto_name", TASKS)
@pytest.mark.parametrize("name", ["bert", "t5"])
def test_nor_is_a_whole_table(name: str, auto_name: str, tmp_path: Path) -> None:
    model = dense(name, auto_name)
    model.save_pretrained(tmp_path)
    table = model.get_input_embeddings().weight
    drop(tmp_path, next(key for key, parameter in model.named_parameters() if parameter is table))
    assert "lacks weights" in refusal(tmp_path, auto_name, new_head=True)


def test_a_table_of_another_shape_than_configured_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    configure(tmp_path, lambda values: values["orientc"]["tables"]["input"].update(rank=RANK + 1))
    for new_head in (False, True):
        assert TABLE in refusal(tmp_path, new_head=new_head)
    with pytest.raises(ModelError, match=f"97 × {RANK}, its configuration says 97 × {RANK + 1}"):
        read_table(ModelSource.resolve(str(tmp_path)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry: entry.clear(), "damaged"),
        (lambda entry: entry["tables"]["input"].pop("rank"), "rank"),
        (lambda entry: entry.pop("head"), "head"),
        (lambda entry: entry.pop("format_version"), "format_version"),
        (lambda entry: entry.update(format_version=3), "newer than 2: update orientc"),
        (lambda entry: entry.update(format_version="1"), "damaged"),
        (lambda entry: entry.update(format_version=None), "damaged"),
        (lambda entry: entry["tables"]["input"].update(rank="5"), "rank is '5'"),
        (lambda entry: entry["tables"]["input"].update(rank=5.0), "rank is 5.0"),
        (lambda entry: entry["tables"]["input"].update(rank=True), "rank is True"),
        (lambda entry: entry["tables"]["input"].update(rank=0), "rank is 0"),
        (lambda entry: entry["tables"]["input"].update(rank=-5), "rank is -5"),
        (lambda entry: entry["tables"]["input"].update(bias=1), "bias is 1"),
        (lambda entry: entry["tables"]["input"].update(decoder=None), "decoder is None"),
        (lambda entry: entry["tables"]["input"].update(activation="relu"), "activation is 'relu'"),
        (lambda entry: entry["tables"]["input"].update(activation=["elu"]), "activation is ['elu']"),
        (lambda entry: entry.update(head="all"), "head is 'all'"),
        (lambda entry: entry.update(tables={}), "tables is {}"),
        (lambda entry: entry.update(head=None), "head is None"),
        (lambda entry: entry.update(model_type="gpt2"), "model_type is 'gpt2'"),
        (lambda entry: entry.update(model_type=["bert"]), "model_type is ['bert']"),
        (lambda entry: entry.update(shape=3), "shape"),
    ],
)
def test_a_damaged_description_of_the_table_is_one_line(
    change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    saved(tmp_path)
    configure(tmp_path, lambda values: change(values["orientc"]))

    message = refusal(tmp_path)
    assert said in message
    assert "config.json" in message


@pytest.mark.parametrize("entry", [None, "compact", [1, 2], 3])
def test_a_description_that_is_none_is_one_line(entry: Any, tmp_path: Path) -> None:
    saved(tmp_path)
    configure(tmp_path, lambda values: values.update(orientc=entry))
    assert "damaged where it describes the compressed table" in refusal(tmp_path)
    configure(tmp_path, lambda values: values.pop("orientc"))
    assert "damaged where it describes the compressed table" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 10**5, "\udcff", "{}", "null"])
def test_a_configuration_that_is_none_is_one_line(text: str, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refusal(tmp_path)


def test_an_architecture_transformers_does_not_know_is_one_line(tmp_path: Path) -> None:
    saved(tmp_path)
    configure(tmp_path, lambda values: values.update(model_type="orientc_new"))
    configure(tmp_path, lambda values: values["orientc"].update(model_type="new"))
    assert "new" in refusal(tmp_path)


@pytest.mark.parametrize("auto_name", TASKS)
@pytest.mark.parametrize("left", ["bias", "decoder"])
def test_a_description_that_leaves_a_part_out_is_refused(left: str, auto_name: str, tmp_path: Path) -> None:
    saved(tmp_path, auto_name)
    configure(tmp_path, lambda values: values["orientc"].update({left: False}))
    refusal(tmp_path, auto_name)
    with pytest.raises(ModelError):
        read_table(ModelSource.resolve(str(tmp_path)))


@pytest.mark.parametrize(
    ("auto_name", "head"),
    [
        ("AutoModelForMaskedLM", "input-only"),
        ("AutoModelForMaskedLM", "tied"),
        *((auto, "input-only") for auto in TASKS),
    ],
)
@pytest.mark.parametrize("new_head", [False, True])
def test_a_naive_save_is_refused_not_read_as_a_dense_model(
    auto_name: str, head: str, new_head: bool, tmp_path: Path
) -> None:
    """What plain transformers would load with a table drawn at random, or with the original one back in its place."""
    model = dense("bert", auto_name)
    trained(substitute(model, factors_of(model), head))
    model.save_pretrained(tmp_path)
    getattr(transformers, auto_name).from_pretrained(tmp_path)  # no error there

    assert TABLE in refusal(tmp_path, auto_name, new_head=new_head)
    with pytest.raises(ModelError, match=TABLE):
        read_table(ModelSource.resolve(str(tmp_path)))


def test_a_head_that_was_not_saved_is_refused_unless_a_new_one_is_wanted(tmp_path: Path) -> None:
    saved(tmp_path, TASKS[1])
    assert "it was not saved with this head" in refusal(tmp_path, TASKS[0])
    assert "it was not saved with this head" in refusal(tmp_path, "AutoModelForMaskedLM")
    expected = load(tmp_path, TASKS[1]).bert.state_dict()
    loaded = load(tmp_path, TASKS[0], new_head=True).bert.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in expected.items())
