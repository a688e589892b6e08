"""What `export` writes: each form for each kind of model, with all that goes along, and what it refuses."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file
from support.architectures import ARCHITECTURES, build
from support.coded import made
from support.compact_models import assert_equal, factors_of, outputs_of, own_modules_cache, trained
from support.compact_models import dense as dense_model
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from orientc.comparison.formats import escaped
from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import OrientcError
from orientc.exporters import dense, model_card
from orientc.exporters.export import Exported, export
from orientc.exporters.facts import Facts, TableFacts
from orientc.models import compact, compact_code
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.utils.progress import Progress

TEXTS = ["the quick fox jumps over the dog", "a tiny philosopher", "the village was still asleep ."]


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_modules_cache(tmp_path_factory.mktemp("modules")):
        yield


def fitted(model: Path, **trust: bool) -> Path:
    """An artifact of a model, beside its folder."""
    path = model.with_name(f"{model.name}.safetensors")
    table = read_table(ModelSource.resolve(str(model), **trust))
    artifacts.save(fit_table(table, SvdConfig(rank=4, center=True)), path)
    return path


def exported(model: Path, form: str = "compact", *, trust_remote_code: bool = False, **options: Any) -> Exported:
    artifact = fitted(model, trust_remote_code=trust_remote_code)
    options["trust_remote_code"] = trust_remote_code
    return export(artifact, model.with_name(f"{model.name}-{form}"), form=form, **options)


def refusal(model: Path, form: str = "compact", **trust: bool) -> str:
    """The one line that an export ends with, having written nothing."""
    artifact = fitted(model, **trust)
    before = {*model.parent.rglob("*")}
    with pytest.raises(OrientcError) as raised:
        export(artifact, model.with_name("refused") / "deeper", form=form, **trust)
    assert {*model.parent.rglob("*")} == before
    assert "\n" not in str(raised.value)
    return str(raised.value)


def keys_of(file: Path) -> set[str]:
    with safe_open(file, framework="pt") as opened:
        return {*opened.keys()}


def values_of(folder: Path, name: str = "config.json") -> Any:
    return json.loads((folder / name).read_text())


# -- the dense form


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_dense_form_is_a_plain_model_of_the_same_size(name: str, tmp_path: Path) -> None:
    model = build(name)
    model.config.eos_token_id = 2
    model.save_pretrained(tmp_path / "original")
    factors, head = factors_of(model), head_policies(model)[-1]
    trained(substitute(model, factors, head))

    dense.save(model, tmp_path / "dense")

    auto_name = next(
        auto
        for auto, kind in reversed(compact_code.classes(type(model.config)).items())
        if kind == type(model).__name__
    )
    plain, info = getattr(transformers, auto_name).from_pretrained(
        tmp_path / "dense", trust_remote_code=False, output_loading_info=True
    )
    assert not any(info.values()), info
    assert type(plain) is getattr(transformers, type(model).__name__)
    for one, other in zip(outputs_of(plain), outputs_of(model), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    files = [tmp_path / folder / "model.safetensors" for folder in ("original", "dense")]
    assert keys_of(files[0]) == keys_of(files[1])
    assert abs(files[0].stat().st_size - files[1].stat().st_size) < 1024
    assert values_of(tmp_path / "dense") == values_of(tmp_path / "original")
    assert not list((tmp_path / "dense").glob("*.py"))


def test_a_checkpoint_without_a_pooler_is_exported_without_one(tmp_path: Path) -> None:
    transformers.BertModel(build("bert").config, add_pooling_layer=False).save_pretrained(tmp_path / "one")
    for form in ("compact", "dense"):
        folder = exported(tmp_path / "one", form, overwrite=True).folder
        assert not [key for key in keys_of(folder / "model.safetensors") if key.startswith("pooler.")]
    plain = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
    mine = transformers.AutoModel.from_pretrained(
        tmp_path / "one-compact", trust_remote_code=True, add_pooling_layer=False
    )
    torch.testing.assert_close(outputs_of(plain)[0], outputs_of(mine)[0], atol=1e-5, rtol=1e-5)


CONFIGURATION = """
from transformers import BertConfig


class OwnConfig(BertConfig):
    model_type = "own"
"""
MODELING = """
from transformers import BertForMaskedLM

from .configuration_own import OwnConfig


class OwnForMaskedLM(BertForMaskedLM):
    config_class = OwnConfig
"""


def test_a_model_with_code_of_its_own_takes_it_along_in_the_dense_form(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    build("bert").save_pretrained(folder)
    own = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForMaskedLM": "modeling_own.OwnForMaskedLM"}
    values = values_of(folder) | {"model_type": "own", "architectures": ["OwnForMaskedLM"], "auto_map": own}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELING)
    said = refusal(folder, trust_remote_code=True)
    assert said.endswith("is code of its repository: export it in the dense or the onnx form")
    dense_folder = exported(folder, "dense", trust_remote_code=True).folder

    shutil.rmtree(folder)
    mine, info = transformers.AutoModelForMaskedLM.from_pretrained(
        dense_folder, trust_remote_code=True, output_loading_info=True
    )
    assert not any(info.values()), info
    assert type(mine).__name__ == "OwnForMaskedLM"


def test_transformers_own_architecture_needs_no_code_that_its_repository_has(tmp_path: Path) -> None:
    """Many repositories name code from the time before transformers knew the architecture."""
    folder = tmp_path / "one"
    build("bert").save_pretrained(folder)
    values = values_of(folder) | {"auto_map": {"AutoModelForMaskedLM": "modeling_gone.BertForMaskedLM"}}
    (folder / "config.json").write_text(json.dumps(values))
    for form in ("compact", "dense"):
        target = exported(folder, form, overwrite=True).folder
        transformers.AutoModelForMaskedLM.from_pretrained(target, trust_remote_code=True)
    assert "auto_map" not in values_of(target)


# -- what goes along


def test_the_encoder_of_t5_loads_by_its_auto_class(tmp_path: Path) -> None:
    model = build("t5-encoder")
    model.save_pretrained(tmp_path / "one")
    made = exported(tmp_path / "one")
    assert made.facts.auto_class == "AutoModelForTextEncoding"
    mine, info = transformers.AutoModelForTextEncoding.from_pretrained(
        made.folder, trust_remote_code=True, output_loading_info=True
    )
    assert not any(info.values()), info
    assert type(mine).__name__ == "T5EncoderModel"


def test_the_generation_settings_go_along(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gpt2_folder, tmp_path / "one")
    settings = transformers.GenerationConfig(max_new_tokens=7, do_sample=True, top_k=3, eos_token_id=0)
    settings.save_pretrained(folder)
    for form in ("compact", "dense"):
        target = exported(folder, form, overwrite=True).folder
        assert values_of(target, "generation_config.json") == values_of(folder, "generation_config.json")
        mine = transformers.AutoModelForCausalLM.from_pretrained(target, trust_remote_code=form == "compact")
        assert mine.generation_config.top_k == 3


def tokenizers() -> dict[str, Callable[[], Any]]:
    """One of each kind: what transformers makes of a folder goes by its configuration's model type, too."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", *(f"##{letter}" for letter in "abcdefghij")]
    pieces = {piece: number for number, piece in enumerate(words)}
    letters = {
        letter: number for number, letter in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdefghijĠ"])
    }
    unigram = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in "abcdefghij")]
    merges = [("a", "b"), ("Ġ", "c")]
    bpe = letters | {"ab": len(letters), "Ġc": len(letters) + 1}
    return {
        "bert": lambda: transformers.BertTokenizer(vocab=pieces),
        "gpt2": lambda: transformers.GPT2Tokenizer(vocab=bpe, merges=merges),
        "roberta": lambda: transformers.RobertaTokenizer(vocab=bpe, merges=merges),
        "t5": lambda: transformers.T5Tokenizer(vocab=unigram, extra_ids=0),
        "llama": lambda: transformers.LlamaTokenizer(vocab=bpe, merges=merges),
    }


@pytest.mark.parametrize("name", ["bert", "gpt2", "roberta", "t5", "llama"])
def test_the_tokenizer_is_the_same_and_needs_no_code(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    build(name).save_pretrained(folder)
    tokenizers()[name]().save_pretrained(folder)
    expected = AutoTokenizer.from_pretrained(folder)
    for form in ("compact", "dense"):
        target = exported(folder, form, overwrite=True).folder
        for trust in (False, True):
            found = AutoTokenizer.from_pretrained(target, trust_remote_code=trust)
            assert type(found) is type(expected)
            assert found("ab cd hij")["input_ids"] == expected("ab cd hij")["input_ids"]
            assert found.get_vocab() == expected.get_vocab()
            assert found.model_max_length == expected.model_max_length


# -- sentence encoders


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, wordpiece: PreTrainedTokenizerFast) -> Path:
    """A sentence encoder with every kind of module that is taken along, as sentence-transformers saves it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling

    folder = tmp_path_factory.mktemp("sentences")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(wordpiece),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(folder / "bert")
    wordpiece.save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert")), Pooling(32, "mean"), Dense(32, 16), LayerNorm(16), Dropout(0.1)]
    model = SentenceTransformer(modules=[*modules, Normalize()], prompts={"query": "the "}, device="cpu")
    model.max_seq_length = 6
    model.save(str(folder / "encoder"))
    return folder / "encoder"


def vectors_of(folder: Path, artifact: Path | None = None, **options: Any) -> Any:
    """What sentence-transformers makes of the texts; with an artifact put in by orientc's own substitution."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", **options)
    if artifact:
        substitute(model[0].auto_model, artifacts.load(artifact), "input-only")
    return model.encode(TEXTS, prompt_name="query")


@pytest.mark.parametrize("spelling", ["new", "old"])
def test_a_sentence_encoder_gives_the_vectors_of_the_substituted_one(
    spelling: str, encoder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(encoder, tmp_path / "one")
    listed = values_of(folder, "modules.json")
    assert listed[0]["type"] == "sentence_transformers.base.modules.transformer.Transformer"
    if spelling == "old":  # before version 5.4
        for module in listed:
            module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
        (folder / "modules.json").write_text(json.dumps(listed))
    expected = vectors_of(folder, fitted(folder))
    assert np.abs(expected - vectors_of(folder)).max() > 1e-2

    compact_folder, dense_folder = (exported(folder, form, overwrite=True).folder for form in ("compact", "dense"))

    np.testing.assert_allclose(vectors_of(compact_folder, trust_remote_code=True), expected, atol=1e-6)
    np.testing.assert_allclose(vectors_of(dense_folder), expected, atol=1e-6)
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        vectors_of(compact_folder)
    for target in (compact_folder, dense_folder):
        assert values_of(target, "modules.json") == listed
        assert "SentenceTransformer(" in (target / model_card.FILE).read_text()
        assert ModelCard.load(target / model_card.FILE).data.library_name == "sentence-transformers"


def test_a_sentence_encoder_saved_again_stays_small(encoder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = exported(shutil.copytree(encoder, tmp_path / "one")).folder
    expected = vectors_of(folder, trust_remote_code=True)
    model = SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")
    model.save(str(tmp_path / "again"))
    weights = [(path / "model.safetensors").read_bytes() for path in (folder, tmp_path / "again")]
    assert weights[0] == weights[1]
    np.testing.assert_allclose(vectors_of(tmp_path / "again", trust_remote_code=True), expected, atol=0)


def test_settings_of_the_first_years_go_along(encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "one")
    (folder / "sentence_bert_config.json").rename(folder / "sentence_roberta_config.json")
    (folder / "sentence_roberta_config.json").write_text('{"max_seq_length": 4, "do_lower_case": false}')
    expected = vectors_of(folder, fitted(folder))
    assert np.abs(expected - vectors_of(encoder, fitted(folder))).max() > 1e-3
    np.testing.assert_allclose(vectors_of(exported(folder).folder, trust_remote_code=True), expected, atol=1e-6)


def test_pickled_modules_go_along_only_if_allowed(encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "one")
    file = folder / "2_Dense" / "model.safetensors"
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    exported(folder)  # the safetensors are there as well
    assert not list((tmp_path / "one-compact").rglob("*.bin"))
    file.unlink()

    assert "no safetensors weights in 2_Dense: allow .bin files with `allow_pickle`" in refusal(folder)
    made = exported(folder, overwrite=True, allow_pickle=True)
    assert made.weights == (made.folder / "model.safetensors").stat().st_size
    np.testing.assert_allclose(
        vectors_of(made.folder, trust_remote_code=True), vectors_of(encoder, fitted(folder)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("number", "module", "said"),
    [
        (1, {"type": "sentence_transformers.models.LSTM"}, "can't take along: sentence_transformers.models.LSTM in 1_"),
        (1, {"type": "custom_st.Pooling"}, "can't take along: custom_st.Pooling in 1_Pooling"),
        (1, {"path": "../1_Pooling"}, "can't take along"),
        (1, {"path": "/1_Pooling"}, "can't take along"),
        (1, {"path": ""}, "can't take along"),
        (1, {"path": None}, "can't be read"),
        (0, {"path": "0_Transformer"}, "Transformer in 0_Transformer"),
        (0, {"type": "custom_st.Transformer"}, "can't take along: custom_st.Transformer"),
        (0, {"type": "sentence_transformers.models.StaticEmbedding"}, "can't take along"),
    ],
)
def test_a_module_that_cant_be_taken_along_is_one_line(
    number: int, module: dict[str, Any], said: str, encoder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(encoder, tmp_path / "one")
    listed = values_of(folder, "modules.json")
    listed[number] |= module
    (folder / "modules.json").write_text(json.dumps(listed))
    assert said in refusal(folder)
    assert said in refusal(folder, "dense")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"path": 1}', "null"])
def test_a_list_of_modules_that_is_none_is_one_line(text: str, encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "one")
    (folder / "modules.json").write_text(text)
    assert "modules.json that can't be read" in refusal(folder)


def test_a_model_in_a_folder_of_its_own_is_one_line(encoder: Path, tmp_path: Path) -> None:
    """As in the first years: there is no configuration beside the list of modules."""
    folder = shutil.copytree(encoder, tmp_path / "one")
    artifact = fitted(folder)
    (folder / "config.json").unlink()
    with pytest.raises(OrientcError, match=r"has no config.json: it is not a transformers model$"):
        export(artifact, tmp_path / "two")


def test_sentence_encoders_that_are_loaded_by_a_class_of_their_own_are_refused(tmp_path: Path) -> None:
    """By T5's encoder itself, that is: with a table drawn at random."""
    folder = tmp_path / "one"
    build("t5-encoder").save_pretrained(folder)
    (folder / "modules.json").write_text('[{"path": "", "type": "sentence_transformers.models.Transformer"}]')
    assert "knows no compressed table: export it in the dense form" in refusal(folder)
    exported(folder, "dense")


# -- the card


def facts_of(**other: Any) -> Facts:
    known = Facts(
        base="org/model", form="compact", head="tied", dtype="float32", auto_class="AutoModelForMaskedLM",
        library="transformers", code="orientc", tokenizer_code=None,
        tables=(TableFacts("input", 25_000, 100, "svd", 4, 2_000_000, 10_000_000),), base_weights=30_000_000,
    )  # fmt: skip
    return replace(known, **other)


@pytest.mark.parametrize("local", [False, True])
def test_only_a_model_of_the_hub_is_named_as_the_base(local: bool, tmp_path: Path) -> None:
    source = ModelSource("org/model", tmp_path / "somewhere" / "model" if local else None)
    base = str(tmp_path / "somewhere" / "model") if local else "org/model"
    model_card.write(tmp_path, facts_of(base=base), Subject(source), fingerprint="f" * 64, weights=22_000_000)

    written = ModelCard.load(tmp_path / model_card.FILE)
    assert written.data.base_model == (None if local else "org/model")
    assert written.data.library_name == "transformers"
    assert written.data.tags == ["orientc", "embedding-compression"]
    assert str(tmp_path) not in written.content
    assert written.data.to_dict().get("base_model_relation") == (None if local else "quantized")
    assert "# model, token table at 6.40 bits" in written.content
    assert "| table, MB | 10.00 | 2.00 |" in written.content
    assert "| bits per weight of the table | 32.0 | 6.40 |" in written.content
    assert "| all weights, MB | 30.00 | 22.00 |" in written.content


def test_the_card_says_how_each_form_is_loaded(tmp_path: Path) -> None:
    source = Subject(ModelSource("org/model", None))
    said = {}
    for form in ("compact", "dense", "onnx"):
        facts = facts_of(form=form, code="orientc" if form == "compact" else None)
        model_card.write(tmp_path, facts, source, fingerprint="f" * 64, weights=1)
        said[form] = (tmp_path / model_card.FILE).read_text()
    assert 'AutoModelForMaskedLM.from_pretrained("path/or/repository", trust_remote_code=True)' in said["compact"]
    assert 'AutoTokenizer.from_pretrained("path/or/repository", trust_remote_code=False)' in said["compact"]
    assert f"`{compact_code.FILE}` is the code this needs" in said["compact"]
    assert 'AutoModelForMaskedLM.from_pretrained("path/or/repository")' in said["dense"]
    assert "trust_remote_code" not in said["dense"] + said["onnx"]
    assert "the table is rebuilt" in said["dense"]
    assert 'await pipeline("fill-mask", "path/or/repository")' in said["onnx"]
    assert 'onnxruntime.InferenceSession(folder + "/onnx/model.onnx")' in said["onnx"]
    facts = replace(facts_of(form="onnx", code=None), library="sentence-transformers", auto_class="AutoModel")
    model_card.write(tmp_path, facts, source, fingerprint="f" * 64, weights=1)
    assert 'SentenceTransformer("path/or/repository", backend="onnx")' in (tmp_path / model_card.FILE).read_text()


def test_the_card_says_in_which_forms_a_head_in_codes_may_run(tmp_path: Path) -> None:
    said = {}
    for coding in ("trellis", "row groups", "plain"):
        for head in ("tied", "input-only"):
            model = dense_model("llama", "AutoModelForCausalLM")
            table = model.get_input_embeddings()
            substitute(model, made(coding, "bias", vocab=table.num_embeddings, dim=table.embedding_dim), head)
            place = tmp_path / f"{coding} {head}"
            compact.save(model, place, head)
            export(place, tmp_path / f"{coding} {head} again")
            text = (tmp_path / f"{coding} {head} again" / model_card.FILE).read_text()
            said[coding, head] = set(re.findall(r'`orientc_resident="(\w+)"`', text))
    assert said == {
        ("trellis", "tied"): {"int8", "dense"}, ("row groups", "tied"): {"dense"}, ("plain", "tied"): set(),
        **{(coding, "input-only"): set() for coding in ("trellis", "row groups", "plain")},
    }  # fmt: skip


CARD = """---
license: apache-2.0
language: [en, de]
tags: [sentence-similarity, orientc, 7]
pipeline_tag: sentence-similarity
datasets: [s2orc]
base_model: someone/else
model-index: {name: "x"}
---
# Theirs
"""


def test_the_card_keeps_what_the_base_cards_readers_look_for(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text(CARD)
    source = Subject(ModelSource(str(base), base))
    model_card.write(tmp_path, facts_of(base=str(base)), source, fingerprint="f" * 64, weights=1, name="Mine")
    written = ModelCard.load(tmp_path / model_card.FILE)
    assert written.data.to_dict() == {
        "license": "apache-2.0", "language": ["en", "de"], "pipeline_tag": "sentence-similarity",
        "library_name": "transformers", "tags": ["sentence-similarity", "orientc", "embedding-compression"],
    }  # fmt: skip
    assert "# Mine" in written.content


@pytest.mark.parametrize(
    "card", ["", "---\n- a\n---\n", "---\na: [\n---\n", "---\nlicense: {a: 1}\ntags: x\x00\n---\n", b"\xff"]
)
def test_a_base_card_that_says_nothing_usable_is_no_obstacle(card: str | bytes, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    source = Subject(ModelSource(str(base), base))
    model_card.write(tmp_path, facts_of(base=str(base)), source, fingerprint="f" * 64, weights=1)
    assert ModelCard.load(tmp_path / model_card.FILE).data.to_dict().keys() == {"library_name", "tags"}


NASTY = ["a|b", "x\n---\ny: 1", "<script>x</script>", "[to](https://x.y)", "# x", '"quoted": x', "- x", "caf\udce9",
         "$x$", "`x`"]  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("local", [False, True])
def test_any_name_is_text_on_the_card(local: bool, name: str, tmp_path: Path) -> None:
    source = ModelSource(name, Path(name) if local else None)
    facts = facts_of(base=name, tables=(replace(facts_of().tables[0], method=name),))
    model_card.write(tmp_path, facts, Subject(source), fingerprint="f" * 64, weights=1)

    text = (tmp_path / model_card.FILE).read_text(encoding="utf-8")
    _, _, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    card = ModelCard.load(tmp_path / model_card.FILE)
    assert card.data.to_dict().keys() == {
        "library_name",
        "tags",
        *([] if local else ["base_model", "base_model_relation"]),
    }
    assert local or "caf" in name or card.data.base_model == name
    heading, first = body.strip().split("\n\n")[:2]
    base = Path(name).name if local else name
    shown = escaped(base)
    assert heading == f"# {escaped(base.rpartition('/')[2])}, token table at 6.40 bits"
    assert first.startswith(f"This is {shown} with its token-embedding table")
    assert f"compressed by {escaped(name)} to rank 4" in first
    assert "<script>" not in body


def test_names_and_settings_of_a_strangers_artifact_are_text_on_the_card(bert_folder: Path, tmp_path: Path) -> None:
    path = fitted(shutil.copytree(bert_folder, tmp_path / "one"))
    held = artifacts.load(path)
    nasty = "<img src=x> | [a](b)\n# x"
    settings = held.description.settings | {nasty: nasty}
    base = replace(held.description.base, sha256=nasty)
    held = replace(held, description=replace(held.description, settings=settings, method=nasty, base=base))
    subject = Subject(ModelSource("org/m", None), None, held)
    model_card.write(
        tmp_path,
        facts_of(tables=(replace(facts_of().tables[0], method=nasty),)),
        subject,
        fingerprint="f" * 64,
        weights=1,
    )
    text = (tmp_path / model_card.FILE).read_text()
    assert "<img" not in text
    assert "[a](b)" not in text.replace(r"\[", "")
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# model, token table at 6.40 bits"]


@pytest.mark.parametrize("place", ['a "quoted" one', r"back\slash", "two\nlines", "größe", "'"])
def test_the_line_that_loads_is_python_whatever_the_folders_name(place: str) -> None:
    for facts in (facts_of(), facts_of(form="dense", code=None), facts_of(library="sentence-transformers")):
        for line in (facts.load(place), facts.tokenizer(place)):
            (call,) = [node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call)]
            assert ast.literal_eval(call.args[0]) == place


@pytest.mark.parametrize("head", ["tied", "input-only", None])
def test_the_lines_on_the_card_run(head: str | None, tmp_path: Path, bert_folder: Path) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "one")
    if head is None:
        transformers.BertForSequenceClassification.from_pretrained(folder).save_pretrained(folder)
    made = exported(folder, head=head)
    text = (made.folder / model_card.FILE).read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found: dict[str, Any] = {}
    exec(lines.replace("path/or/repository", str(made.folder)), found)
    assert type(found["model"]).__name__ == f"BertFor{'MaskedLM' if head else 'SequenceClassification'}"
    assert found["tokenizer"].get_vocab() == AutoTokenizer.from_pretrained(folder).get_vocab()


# -- once more


def test_an_exported_folder_can_be_exported_again(bert_folder: Path, tmp_path: Path) -> None:
    first = exported(shutil.copytree(bert_folder, tmp_path / "one"))
    second = export(first.folder, tmp_path / "two")
    for name in ("model.safetensors", "config.json", compact_code.FILE):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    assert [(table.method, table.rank) for table in second.facts.tables] == [(None, 4)]
    assert second.facts.head == "tied"
    assert (second.facts.table, second.facts.base_table) == (first.facts.table, first.facts.base_table)
    third = export(first.folder, tmp_path / "three", form="dense")
    assert third.facts.table == third.facts.base_table
    models = [
        transformers.AutoModelForMaskedLM.from_pretrained(path, trust_remote_code=path != third.folder)
        for path in (first.folder, second.folder, third.folder)
    ]
    assert_equal(outputs_of(models[1]), outputs_of(models[0]))
    torch.testing.assert_close(outputs_of(models[2]), outputs_of(models[0]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "said"), [("float32", True), (None, False)])
def test_a_model_that_becomes_larger_is_said_to(
    dtype: str | None, said: bool, bert_folder: Path, tmp_path: Path
) -> None:
    """Where the body was stored in fewer bits than it is written in."""
    folder = shutil.copytree(bert_folder, tmp_path / "half")
    transformers.AutoModelForMaskedLM.from_pretrained(folder).half().save_pretrained(folder)
    told: list[str] = []
    made = export(fitted(folder), tmp_path / "out", dtype=dtype, progress=Progress(warn=told.append))
    assert any("written out as float32" in line for line in told) == said
    assert (made.halved is None) == (dtype is None)
    if made.halved is not None:
        again = export(fitted(folder), tmp_path / "again")
        assert abs(made.halved - again.weights) < 0.03 * again.weights
