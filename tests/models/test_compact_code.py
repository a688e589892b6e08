"""The compact form as others load it: by transformers' auto classes and the code in the folder, never by orientc."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.architectures import ARCHITECTURES, OTHERS, WIDTH, build, inputs_of
from support.coded import KEPT, made
from support.compact_models import (
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
    own_modules_cache,
    saved,
    trained,
)
from torch import Tensor
from transformers import PreTrainedModel

from orientc.errors import SubstitutionError
from orientc.methods import svd
from orientc.modeling.factors import Factors
from orientc.modeling.layout import Layout
from orientc.modeling.modules import CompressedEmbedding, CompressedHead, CompressedTable
from orientc.models import compact, compact_code
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute

MASKED, CAUSAL, SEQ2SEQ = "AutoModelForMaskedLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
PROMPT = {"input_ids": torch.tensor([[5, 6, 7]]), "max_new_tokens": 6, "do_sample": False}
DISTINCT = ["bert", "roberta", "electra", "deberta-v2", "modernbert", "xlnet", "gpt2", "llama", "gemma3", "t5", "bart"]
# These go by other names than the class that was saved: transformers itself gives them a base drawn at random.
FOREIGN = {
    *(f"{family}ForQuestionAnswering" for family in ("Llama", "Qwen2", "Qwen3")),
    "BartForCausalLM",
}


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_modules_cache(tmp_path_factory.mktemp("modules")):
        yield


@pytest.fixture
def unset_memory_is_no_number() -> Iterator[None]:
    """What nobody has set in a new tensor is NaN, not what happened to lie there."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def loaded(folder: Path, auto_name: str, **options: Any) -> PreTrainedModel:
    """The model as others load it; nothing may be missing, and nothing left over."""
    auto_class = getattr(transformers, auto_name)
    model, info = auto_class.from_pretrained(folder, trust_remote_code=True, output_loading_info=True, **options)
    assert not any(info.values()), info
    result: PreTrainedModel = model
    return result.eval()


def auto_map(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "config.json").read_text())["auto_map"]
    return found


def assert_finite(model: PreTrainedModel) -> None:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert not [name for name, tensor in tensors.items() if tensor.is_meta]
    assert not [name for name, tensor in tensors.items() if not tensor.isfinite().all()]


def shared(model: PreTrainedModel) -> list[Any]:
    """The model's compressed modules, of the folder's own classes, whose parameters must be the very same."""
    kinds = (CompressedEmbedding.__name__, CompressedHead.__name__)
    found: list[Any] = [module for module in model.modules() if type(module).__name__ in kinds]
    for name in ("latents", "decoder_weight", "decoder_bias"):
        assert len({id(getattr(module, name)) for module in found}) == 1
    return found


# -- there and back


@pytest.mark.parametrize(("name", "auto_name"), cases())
def test_it_computes_what_was_saved_and_saves_the_same(name: str, auto_name: str, tmp_path: Path) -> None:
    for head in head_policies(dense(name, auto_name)):
        model = dense(name, auto_name)
        trained(substitute(model, factors_of(model, "elu" if head == "input-only" else None), head))
        folder, again = tmp_path / head, tmp_path / f"{head}-again"
        compact.save(model, folder, head)

        mine = loaded(folder, auto_name)

        assert_equal(outputs_of(mine), outputs_of(model))
        assert type(mine).__name__ == type(model).__name__
        assert isinstance(mine, type(model))
        assert len(shared(mine)) == len([module for module in model.modules() if isinstance(module, CompressedTable)])
        mine.save_pretrained(again)
        assert contents(again) == contents(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(OTHERS))
def test_so_do_more_architectures(name: str, tmp_path: Path) -> None:
    model = build(name)
    head = head_policies(model)[-1]
    trained(substitute(model, factors_of(model), head))
    compact.save(model, tmp_path / "one", head)
    auto_name = next(
        auto
        for auto, place in reversed(auto_map(tmp_path / "one").items())
        if place.rpartition(".")[2] == type(model).__name__
    )

    mine = loaded(tmp_path / "one", auto_name)

    assert_equal(outputs_of(mine), outputs_of(model))
    mine.save_pretrained(tmp_path / "again")
    kept = ("model.safetensors", compact_code.FILE)
    assert all((tmp_path / "again" / file).read_bytes() == (tmp_path / "one" / file).read_bytes() for file in kept)
    assert_equal(outputs_of(loaded(tmp_path / "again", auto_name)), outputs_of(model))


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_a_half_precision_model_keeps_its_type_and_loads_in_another(half: str, tmp_path: Path) -> None:
    dtype = getattr(torch, half)
    build("llama").save_pretrained(tmp_path / "dense")
    model = ModelSource.resolve(str(tmp_path / "dense")).load(None, dtype=dtype)
    trained(substitute(model, factors_of(build("llama")), "tied"))
    compact.save(model, tmp_path / "one", "tied")

    mine = loaded(tmp_path / "one", CAUSAL)
    assert {parameter.dtype for parameter in mine.parameters()} == {dtype}
    assert {tensor.dtype for tensor in load_file(tmp_path / "one" / "model.safetensors").values()} == {dtype}
    assert_equal(outputs_of(mine), outputs_of(model))
    as_float = loaded(tmp_path / "one", CAUSAL, dtype=torch.float32)
    assert {parameter.dtype for parameter in as_float.parameters()} == {torch.float32}
    assert_equal(outputs_of(as_float), outputs_of(model.float()))


@pytest.mark.parametrize(("name", "auto_name"), [("bert", MASKED), ("gpt2", CAUSAL), ("t5", SEQ2SEQ), ("opt", CAUSAL)])
@pytest.mark.parametrize("decoder", [True, False])
def test_a_table_without_a_bias_or_without_a_decoder_loads_too(
    name: str, auto_name: str, decoder: bool, tmp_path: Path
) -> None:
    model = dense(name, auto_name)
    table = model.get_input_embeddings().weight.detach()
    trained(substitute(model, svd.truncated_svd(table, RANK) if decoder else Factors.plain(table.clone()), "tied"))
    compact.save(model, tmp_path, "tied")

    mine = loaded(tmp_path, auto_name)

    lookup = mine.get_input_embeddings()
    assert (lookup.decoder_weight is None, lookup.decoder_bias is None) == (not decoder, True)
    assert_equal(outputs_of(mine), outputs_of(model))


@pytest.mark.parametrize(
    ("coding", "shape", "name", "auto_name", "dtype"),
    [
        ("one row group", "linear", "bert", MASKED, torch.float32),
        ("row groups", "elu", "gpt2", CAUSAL, torch.float32),
        ("trellis", "bias", "t5", SEQ2SEQ, torch.float32),
        ("row groups", "linear", "llama", TASKS[0], torch.bfloat16),
        ("trellis", "linear", "llama", CAUSAL, torch.float32),
    ],
)
def test_a_table_in_codes_with_rows_kept_loads_too(
    coding: str, shape: str, name: str, auto_name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = dense(name, auto_name)
    for parameter in model.parameters():  # and not the buffers, which are float32 in a loaded model
        parameter.data = parameter.data.to(dtype)
    factors = made(coding, shape, vocab=97, dim=WIDTH, kept=KEPT)
    head = head_policies(model)[-1]
    trained(substitute(model, factors, head))
    compact.save(model, tmp_path / "one", head)

    mine = loaded(tmp_path / "one", auto_name, dtype=dtype)

    kinds = {str(tensor.dtype) for tensor in mine.get_input_embeddings().state_dict().values()}
    levels = {"torch.int8"} if coding == "trellis" else set()
    assert kinds == {str(dtype), "torch.uint8", "torch.int32"} | levels
    assert all(parameter.is_floating_point() for parameter in mine.parameters())
    assert_equal(outputs_of(mine), outputs_of(model))
    mine.save_pretrained(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "one")
    source = ModelSource.resolve(str(tmp_path / "one"))
    assert source.compact is not None
    assert source.compact.tables == {"input": factors.layout}
    assert_equal(outputs_of(source.load(getattr(transformers, auto_name), dtype=dtype).eval()), outputs_of(model))


@pytest.mark.parametrize("resident", ["int8", "dense"])
def test_the_form_a_head_runs_in_is_chosen_on_loading(resident: str, tmp_path: Path) -> None:
    model = dense("llama", CAUSAL)
    substitute(model, made("trellis", "linear", vocab=97, dim=WIDTH), "tied")
    compact.save(model, tmp_path / "one", "tied")

    mine = loaded(tmp_path / "one", CAUSAL, orientc_resident=resident)
    assert mine.get_output_embeddings().resident.form.name == resident
    for ours, theirs in zip(outputs_of(mine), outputs_of(model), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)

    mine.save_pretrained(tmp_path / "again")
    one, again = contents(tmp_path / "one"), contents(tmp_path / "again")
    assert [name for name in one if one[name] != again[name]] == ["config.json"]
    assert json.loads(again["config.json"])["orientc_resident"] == resident
    assert loaded(tmp_path / "again", CAUSAL).get_output_embeddings().resident.form.name == resident
    source = ModelSource.resolve(str(tmp_path / "again"))
    ours = source.load(transformers.AutoModelForCausalLM, dtype=torch.float32)
    assert ours.get_output_embeddings().resident.form.name == resident
    assert "orientc_resident" not in compact.plain_config(ours).to_dict()


def test_a_form_that_there_is_not_is_refused_on_loading(tmp_path: Path) -> None:
    saved(tmp_path, MASKED, "tied")
    with pytest.raises(ValueError, match="can't be resident as int8: the latents are no codes"):
        loaded(tmp_path, MASKED, orientc_resident="int8")
    config = json.loads((tmp_path / "config.json").read_text()) | {"orientc_resident": "int4"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="resident as codes, int8, dense, not as 'int4'"):
        loaded(tmp_path, MASKED)


def test_peft_finds_the_embedding_by_the_name_it_looks_for(tmp_path: Path) -> None:
    saved(tmp_path, CAUSAL, "tied", "llama")
    mine = loaded(tmp_path, CAUSAL)
    assert mine.get_submodule("embeddings.word_embeddings") is mine.get_input_embeddings()
    with pytest.raises(AttributeError):
        mine.get_submodule("embeddings.others")


def test_saved_in_many_files_it_loads_too(tmp_path: Path) -> None:
    model = saved(tmp_path / "one", CAUSAL, "tied", "gpt2")
    loaded(tmp_path / "one", CAUSAL).save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 2
    assert_equal(outputs_of(loaded(tmp_path / "many", CAUSAL)), outputs_of(model))


def test_orientc_reads_what_transformers_saved_again(tmp_path: Path) -> None:
    model = saved(tmp_path / "one", SEQ2SEQ, "tied", "bart")
    loaded(tmp_path / "one", SEQ2SEQ).save_pretrained(tmp_path / "again")
    source = ModelSource.resolve(str(tmp_path / "again"))
    assert source.compact == compact.Compact("bart", "tied", {"input": Layout(97, WIDTH, RANK, bias=True)})
    assert_equal(outputs_of(source.load(transformers.AutoModelForSeq2SeqLM, dtype=torch.float32)), outputs_of(model))


# -- the other classes of an architecture


@pytest.mark.slow
@pytest.mark.usefixtures("unset_memory_is_no_number")
@pytest.mark.parametrize(
    ("name", "auto_name"),
    [*((name, None) for name in DISTINCT), *((name, "AutoModel") for name in ("electra", "distilbert", "gpt2", "t5"))],
)
def test_every_class_of_the_map_takes_the_base_and_draws_a_new_head(
    name: str, auto_name: str | None, tmp_path: Path
) -> None:
    """None of it by chance: transformers itself would go on with a table that is not there."""
    own = ARCHITECTURES[name][0]
    autos = ("AutoModel", MASKED, SEQ2SEQ, CAUSAL)
    model = dense(name, auto_name or next(auto for auto in autos if str(class_of(name, auto)).endswith(f".{own}'>")))
    head = head_policies(model)[-1]
    trained(substitute(model, factors_of(model), head))
    compact.save(model, tmp_path, head)
    expected = {key.removeprefix(f"{model.base_model_prefix}."): tensor for key, tensor in model.state_dict().items()}

    found = auto_map(tmp_path)
    assert found.pop("AutoConfig") == f"{compact_code.FILE[:-3]}.Orientc{ARCHITECTURES[name][1]}"
    assert {"AutoModel"} < {*found}
    for auto, place in found.items():
        options = {"num_labels": 2, "ignore_mismatched_sizes": True}  # of another kind of task
        if place.rpartition(".")[2] in FOREIGN and auto_name is None:
            with pytest.raises(ValueError, match="part of the compressed table, is not among its weights"):
                getattr(transformers, auto).from_pretrained(tmp_path, trust_remote_code=True, **options)
            continue
        mine = getattr(transformers, auto).from_pretrained(tmp_path, trust_remote_code=True, **options)
        assert type(mine).__name__ == place.rpartition(".")[2]
        assert_finite(mine)
        state = {key.removeprefix(f"{mine.base_model_prefix}."): tensor for key, tensor in mine.state_dict().items()}
        common = [key for key in state.keys() & expected.keys() if state[key].shape == expected[key].shape]
        assert {key.rpartition(".")[2] for key in common} >= {*PLAIN_PARAMETERS}
        assert all(torch.equal(state[key], expected[key]) for key in common)
        shared(mine)
        mine.tie_weights()
        assert_finite(mine)


@pytest.mark.parametrize(
    ("name", "part"), [*(("bert", part) for part in PLAIN_PARAMETERS), ("gpt2", "latents"), ("t5", "latents")]
)
def test_a_table_that_is_not_all_there_is_never_drawn_at_random(name: str, part: str, tmp_path: Path) -> None:
    auto_name = next(auto for auto in (MASKED, CAUSAL, SEQ2SEQ) if class_of(name, auto))
    saved(tmp_path, auto_name, "tied", name)
    tensors = load_file(tmp_path / "model.safetensors")
    key = next(key for key in tensors if key.endswith(f".{part}"))
    del tensors[key]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})

    for auto in (auto_name, "AutoModel", TASKS[0]):
        with pytest.raises(ValueError, match=f"{part}, part of the compressed table") as raised:
            getattr(transformers, auto).from_pretrained(tmp_path, trust_remote_code=True)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "bart", "t5", "gemma3"])
def test_a_fresh_model_can_be_made_from_the_configuration(name: str, tmp_path: Path) -> None:
    auto_name = next(auto for auto in (MASKED, CAUSAL, SEQ2SEQ) if class_of(name, auto))
    saved(tmp_path, auto_name, "tied", name)
    config = transformers.AutoConfig.from_pretrained(tmp_path, trust_remote_code=True)
    for auto in (auto_name, "AutoModel", TASKS[0]):
        mine = getattr(transformers, auto).from_config(config, trust_remote_code=True).eval()
        assert_finite(mine)
        lookup = shared(mine)[0]
        assert lookup.latents.shape == (97, RANK)
        assert 0.5 < lookup.latents.std() / (getattr(config, "initializer_range", None) or 0.02) < 2
        assert mine.config.model_type == f"orientc_{build(name).config.model_type}"
        mine.config.eos_token_id, mine.config.pad_token_id = 2, 0
        assert outputs_of(mine)


def test_two_fresh_models_differ(tmp_path: Path) -> None:
    saved(tmp_path, MASKED, "tied")
    config = transformers.AutoConfig.from_pretrained(tmp_path, trust_remote_code=True)
    one, other = (transformers.AutoModel.from_config(config, trust_remote_code=True) for _ in range(2))
    assert not torch.equal(one.get_input_embeddings().latents, other.get_input_embeddings().latents)


# -- what it can do


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "opt", "gpt-neox-untied", "xlnet", "t5", "bart-scaled"])
def test_it_generates_what_the_substituted_model_generates(name: str, tmp_path: Path) -> None:
    auto_name = SEQ2SEQ if class_of(name, SEQ2SEQ) else CAUSAL
    model = dense(name, auto_name)
    model.generation_config.max_new_tokens = 6
    head = head_policies(model)[-1]
    trained(substitute(model, factors_of(model), head))
    compact.save(model, tmp_path, head)

    mine = loaded(tmp_path, auto_name)

    expected = model.generate(**PROMPT)
    assert expected.shape[1] > 3
    assert torch.equal(mine.generate(**PROMPT), expected)
    assert torch.equal(mine.generate(PROMPT["input_ids"]), expected)  # the length is in its generation config


def loss_of(model: PreTrainedModel) -> Tensor:
    ids = inputs_of(model, padded=False)
    if type(model).__name__.endswith("SequenceClassification"):
        return model(**ids, labels=torch.tensor([0, 1])).loss
    return model(**ids, labels=ids["input_ids"]).loss


@pytest.mark.parametrize(
    ("name", "auto_name", "head"),
    [
        ("bert", MASKED, "tied"),
        ("bert", MASKED, "input-only"),
        ("bert", TASKS[0], "input-only"),
        ("gpt2", CAUSAL, "tied"),
        ("llama", TASKS[0], "input-only"),
        ("bart", SEQ2SEQ, "tied"),
        ("t5", SEQ2SEQ, "tied"),
    ],
)
def test_it_trains_as_the_substituted_model_does(name: str, auto_name: str, head: str, tmp_path: Path) -> None:
    model = saved(tmp_path, auto_name, head, name)
    mine = loaded(tmp_path, auto_name)
    before = {key: tensor.clone() for key, tensor in mine.state_dict().items()}

    for one in (model, mine):
        loss_of(one).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    for key, parameter in mine.named_parameters():
        if key in gradients:
            torch.testing.assert_close(parameter.grad, gradients[key], atol=1e-6, rtol=1e-6)
    torch.optim.AdamW(mine.parameters(), lr=1e-3).step()

    lookup = shared(mine)[0]
    assert all(parameter.grad.abs().max() > 0 for parameter in (lookup.latents, lookup.decoder_weight))
    after = mine.state_dict()
    changed = {key.rpartition(".")[2] for key, tensor in before.items() if not torch.equal(tensor, after[key])}
    assert changed >= {"latents", "decoder_weight"}
    mine.eval().save_pretrained(tmp_path / "again")
    assert_equal(outputs_of(loaded(tmp_path / "again", auto_name)), outputs_of(mine))


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize(("name", "auto_name"), [("bert", MASKED), ("llama", CAUSAL), ("t5", SEQ2SEQ)])
def test_gradient_checkpointing_gives_the_same_gradients(name: str, auto_name: str, tmp_path: Path) -> None:
    saved(tmp_path, auto_name, "tied", name)
    gradients = []
    for checkpointing in (False, True):
        mine = loaded(tmp_path, auto_name).train()
        if checkpointing:
            mine.gradient_checkpointing_enable()
            mine.enable_input_require_grads()
        torch.manual_seed(0)
        loss_of(mine).backward()
        gradients.append(shared(mine)[0].latents.grad)
    torch.testing.assert_close(gradients[1], gradients[0])
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize("head", ["input-only", "tied"])
def test_tying_again_changes_nothing(head: str, tmp_path: Path) -> None:
    model = saved(tmp_path, MASKED, head)
    mine = loaded(tmp_path, MASKED)
    mine.tie_weights()
    modules = shared(mine)
    kinds = ["CompressedEmbedding", *(["CompressedHead"] if head == "tied" else [])]
    assert [type(module).__name__ for module in modules] == kinds
    assert mine.cls.predictions.decoder.bias is mine.cls.predictions.bias
    assert_equal(outputs_of(mine), outputs_of(model))


def test_it_is_not_resized(tmp_path: Path) -> None:
    saved(tmp_path, CAUSAL, "tied", "gpt2")
    mine = loaded(tmp_path, CAUSAL)
    for request in ({"new_num_tokens": 98}, {"new_num_tokens": 96}, {"pad_to_multiple_of": 64}):
        with pytest.raises(NotImplementedError, match="can't be resized: resize the original, then compress that"):
            mine.resize_token_embeddings(**request)
    assert mine.resize_token_embeddings() is mine.resize_token_embeddings(97) is mine.get_input_embeddings()
    assert mine.resize_token_embeddings(97, mean_resizing=False) is mine.get_input_embeddings()


# -- what is refused


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "llama"])
def test_nothing_of_it_loads_unless_its_code_is_trusted(name: str, tmp_path: Path) -> None:
    auto_name = next(auto for auto in (MASKED, CAUSAL, SEQ2SEQ) if class_of(name, auto))
    saved(tmp_path, auto_name, "tied", name)
    for trust in ({"trust_remote_code": False}, {}):
        for auto in auto_map(tmp_path):
            with pytest.raises(ValueError, match="trust_remote_code=True"):
                getattr(transformers, auto).from_pretrained(tmp_path, **trust)


@pytest.mark.parametrize("auto_name", ["AutoModelForNextSentencePrediction", "AutoModelForObjectDetection", MASKED])
def test_a_class_that_is_not_in_the_map_is_refused_not_loaded_with_a_new_table(auto_name: str, tmp_path: Path) -> None:
    saved(tmp_path, MASKED, "tied")
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"].pop(auto_name, None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="Unrecognized configuration class"):
        getattr(transformers, auto_name).from_pretrained(tmp_path, trust_remote_code=True)


def test_a_head_that_is_read_and_not_called_is_refused() -> None:
    small = {"vocab_size": 97, "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.MobileBertConfig(**small, embedding_size=16, intra_bottleneck_size=WIDTH)
    model = transformers.MobileBertForMaskedLM(config)
    for head in ("input-only", "tied"):
        with pytest.raises(SubstitutionError, match="head of MobileBertForMaskedLM reads the table's weight directly"):
            substitute(model, factors_of(model), head)
    assert not [module for module in model.modules() if isinstance(module, CompressedTable)]


def test_lookups_of_another_kind_are_refused_in_one_line() -> None:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    quantized = transformers.IBertModel(transformers.IBertConfig(vocab_size=97, **sizes))
    two = transformers.FSMTConfig(
        src_vocab_size=97, tgt_vocab_size=97, langs=["a", "b"], d_model=WIDTH, encoder_layers=1, decoder_layers=1
    )
    for model, said in ((quantized, "QuantEmbedding does more"), (transformers.FSMTModel(two), "what is no table")):
        with pytest.raises(SubstitutionError, match=said):
            substitute(model, Factors.plain(torch.zeros(97, RANK), torch.zeros(WIDTH, RANK)), "input-only")


# -- the code itself


def imports_of(text: str) -> list[str]:
    """What a file imports, one entry for each name."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found += [f"{node.module}.{name.name}" for name in node.names]
    return found


def test_the_code_stands_by_itself(tmp_path: Path) -> None:
    for name in ARCHITECTURES:
        text = compact_code.source(getattr(transformers, ARCHITECTURES[name][1]))
        imported = imports_of(text)
        assert len({*imported}) == len(imported)
        roots = {entry.partition(".")[0] for entry in imported}
        assert roots - {"torch", "transformers"} <= {
            "__future__",
            "collections",
            "contextlib",
            "dataclasses",
            "functools",
            "typing",
        }
        for word in (
            "orientc.forms",
            "from orientc",
            "import orientc",
            "/work",
            str(Path(compact_code.__file__).parent),
        ):
            assert word not in text
        assert text.count("\n\n\n\n") == 0


REACHING_OUT = {"open", "exec", "eval", "compile", "__import__", "globals", "input", "print", "load", "save", "hub"}


def test_the_code_has_nothing_that_it_does_not_use_and_nothing_that_opens_files() -> None:
    tree = ast.parse(compact_code.source(transformers.BertConfig))
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    made = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert [name for name in made if name not in names] == []
    assert not REACHING_OUT & {*names, *attributes}


def test_a_linter_has_nothing_to_say_of_it(tmp_path: Path) -> None:
    if not importlib.util.find_spec("ruff"):
        pytest.skip("ruff is in the extra dev")
    for name in ("BertConfig", "LlamaConfig", "BigBirdPegasusConfig", "T5Config"):
        (tmp_path / f"{name}.py").write_text(compact_code.source(getattr(transformers, name)))
    ruff = [sys.executable, "-m", "ruff"]
    project = ["--config", str(Path(__file__).parents[2] / "pyproject.toml")]
    for command in (["check", "--ignore", "D1", *project], ["format", "--check", *project]):
        done = subprocess.run([*ruff, *command, "--no-cache", str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


# what Python opens; of weights the test above says that the code has nothing to open them with
OPENED = """
import json, os, sys
import torch, transformers
from transformers.models.bert import modeling_bert

*folders, modules = map(os.path.realpath, sys.argv[1:])
always = [modules, *map(os.path.realpath, (sys.prefix, sys.base_prefix, "/dev", "/proc", "/sys"))]
outside, allowed = [], always

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        path = os.path.realpath(arguments[0])
        if not any(path == root or path.startswith(root + os.sep) for root in allowed):
            outside.append(path)
    elif event in ("socket.connect", "subprocess.Popen", "os.system", "os.exec"):
        outside.append(event)

sys.addaudithook(watch)
for folder in folders:
    allowed = [folder, *always]
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True)
    model.eval()(torch.tensor([[5, 6, 7]]))
print(json.dumps(outside))
"""


def test_it_reads_nothing_but_its_own_folder(tmp_path: Path) -> None:
    """Whatever a crafted configuration says of others."""
    folder, elsewhere, crafted = (tmp_path / name for name in ("folder", "elsewhere", "crafted"))
    for place in (folder, elsewhere, crafted):
        saved(place, MASKED, "tied")
    config = json.loads((crafted / "config.json").read_text())
    config |= dict.fromkeys(("_name_or_path", "name_or_path", "weights", "base_model"), str(elsewhere))
    config["orientc"] |= {"artifact": "../elsewhere/model.safetensors", "code": str(elsewhere / compact_code.FILE)}
    (crafted / "config.json").write_text(json.dumps(config))

    done = subprocess.run(
        [sys.executable, "-c", OPENED, str(folder), str(crafted), str(tmp_path / "modules")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "HF_MODULES_CACHE": str(tmp_path / "modules"),
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": "http://127.0.0.1:9",
        },
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


WITHOUT_ORIENTC = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "orientc":
            raise ImportError("orientc can't be imported here")

sys.meta_path.insert(0, Blocker())
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, again, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder)
ids = torch.tensor([[5, 6, 7, 8]])
with torch.no_grad():
    logits = model(ids).logits
found = {"logits": logits, "generated": model.generate(ids, max_new_tokens=5, do_sample=False)}
model.save_pretrained(again)
with torch.no_grad():
    found["again"] = AutoModelForCausalLM.from_pretrained(again, trust_remote_code=True)(ids).logits
found["tokens"] = tokenizer("The quick", return_tensors="pt")["input_ids"]
save_file(found, out)
assert not [name for name in sys.modules if name.partition(".")[0] == "orientc"]
"""


@pytest.mark.slow
def test_it_loads_where_there_is_no_orientc(gpt2_folder: Path, tmp_path: Path) -> None:
    source = ModelSource.resolve(str(gpt2_folder))
    model = source.load(None, dtype=torch.float32)
    trained(substitute(model, factors_of(model), "tied"))
    compact.save(model, tmp_path / "one", "tied")
    source.tokenizer.save_pretrained(tmp_path / "one")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = model(ids).logits

    script = tmp_path / "script.py"
    script.write_text(WITHOUT_ORIENTC)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "one"), str(tmp_path / "again"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        timeout=300,
        stdin=subprocess.DEVNULL,
    )

    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "out")
    torch.testing.assert_close(found["logits"], expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(found["again"], found["logits"])
    assert torch.equal(found["generated"], model.generate(ids, max_new_tokens=5, do_sample=False))
    assert torch.equal(found["tokens"], source.tokenizer("The quick", return_tensors="pt")["input_ids"])
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("one", "again")]
    assert weights[0] == weights[1]
