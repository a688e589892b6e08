"""What a model argument stands for, and what transformers makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from support.architectures import build
from transformers import PreTrainedTokenizerFast

from orientc.errors import EvaluationError, ModelError, ModelNotFoundError, TrustError, UsageError
from orientc.models.source import ModelSource
from orientc.models.table import read_table

COMMIT = "0123456789abcdef0123456789abcdef01234567"

# A model whose code lies beside its weights, and leaves a trace where it is run.
CONFIGURATION_CODE = """
from pathlib import Path
from transformers import BertConfig

Path({trace!r}).touch()

class OwnConfig(BertConfig):
    model_type = "own"
"""
MODELING_CODE = """
from transformers import BertForMaskedLM
from .configuration_own import OwnConfig

class OwnForMaskedLM(BertForMaskedLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folder of a model that needs its own code, and the file that appears where the code is run."""
    folder, trace = tmp_path / "own", tmp_path / "trace"
    build("bert").save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "own",
        "architectures": ["OwnForMaskedLM"],
        "auto_map": {
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForMaskedLM": "modeling_own.OwnForMaskedLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_own.py").write_text(CONFIGURATION_CODE.format(trace=str(trace)))
    (folder / "modeling_own.py").write_text(MODELING_CODE)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return folder, trace


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the hub nor whoever sits at the terminal: a question on stdin would stop a script for good."""

    def asked(*_: object) -> str:
        pytest.fail("asked on stdin")

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


# -- forms of the argument


def test_a_hub_id_is_taken_as_it_is_without_a_question() -> None:
    source = ModelSource.resolve("some/model", revision="v1")

    assert (source.id, source.local, source.revision, source.gguf) == ("some/model", None, "v1", None)
    assert ModelSource.resolve("bert-base-uncased").local is None


def test_a_folder_is_local_by_any_spelling(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bert_folder.parent)
    monkeypatch.setenv("HOME", str(bert_folder.parent))

    for spelling in (str(bert_folder), bert_folder.name, f"./{bert_folder.name}", f"~/{bert_folder.name}"):
        source = ModelSource.resolve(spelling)
        assert source.id == spelling
        assert source.local is not None
        assert source.local.resolve() == bert_folder.resolve()
        assert (source.gguf, source.commit) == (None, None)


def test_demo_is_the_packaged_model_whatever_lies_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)

    table = read_table(ModelSource.resolve("demo"))

    assert (table.info.id, table.info.revision) == ("demo", None)
    assert tuple(table.weight.shape) == (table.info.vocab, table.info.dim)


@pytest.mark.parametrize("name", ["model.gguf", "M.GGUF"])
def test_a_gguf_file_is_a_model(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()

    source = ModelSource.resolve(str(path))

    assert source.local == source.gguf == path


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("missing.gguf", "there is no file missing.gguf"),
        ("/no/such/folder", "there is no folder /no/such/folder"),
        ("./missing", "there is no folder ./missing"),
        ("../missing/folder", "there is no folder ../missing/folder"),
        ("~/missing", "there is no folder ~/missing"),
        ("~nobody-of-that-name/model", "there is no folder ~nobody-of-that-name/model"),
        ("runs/some/model", "there is no folder runs/some/model"),
    ],
)
def test_a_path_to_nothing_is_not_looked_for_on_the_hub(
    argument: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelNotFoundError) as raised:
        ModelSource.resolve(argument)

    assert str(raised.value) == message


def test_a_file_of_another_kind_is_no_model(text_file: Path) -> None:
    with pytest.raises(ModelError, match="is neither a model folder nor a"):
        ModelSource.resolve(str(text_file))


@pytest.mark.parametrize("argument", ["not a hub id", "some/model!", "model.", "a--b"])
def test_an_impossible_hub_id_is_one_line(argument: str) -> None:
    with pytest.raises(ModelNotFoundError) as raised:
        _ = ModelSource.resolve(argument).config

    assert str(raised.value).startswith(f"there is no model {argument}: neither a folder here nor one on the hub")


def test_without_the_hub_an_unknown_model_is_one_line() -> None:
    with pytest.raises(ModelNotFoundError) as raised:
        read_table(ModelSource.resolve("some/model-nobody-has"))

    message = str(raised.value)
    assert message.startswith("some/model-nobody-has is not on this machine and can't be had from ")
    assert "HF_HUB_OFFLINE" in message
    assert "\n" not in message


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json: it is not a transformers model"):
        _ = ModelSource.resolve(str(tmp_path)).config


@pytest.mark.parametrize("name", ["gpt2", "org/model"])
def test_a_folder_that_hides_a_model_of_the_hub_is_told_as_such(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs lie in it, say. transformers would look into it, too, and never ask the hub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "svd-r4-12345678.safetensors").touch()

    with pytest.raises(
        ModelError, match=f"^the folder {name} has no config.json: .*, and hides one of that name on the hub"
    ):
        ModelSource.resolve(name)

    with pytest.raises(ModelError, match=r"has no config\.json: it is not a transformers model"):
        _ = ModelSource.resolve(f"./{name}").config
    build("bert").save_pretrained(tmp_path / name)
    assert ModelSource.resolve(name).config.model_type == "bert"


# -- the hub's cache


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder of some/model in shards, as a download of the whole repository leaves it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    build("bert").save_pretrained(repository / "snapshots" / COMMIT, max_shard_size="20KB")
    return repository


def test_a_cached_model_needs_no_hub(cached: Path) -> None:
    for revision in (None, "main", COMMIT):
        source = ModelSource.resolve("some/model", revision=revision)
        table = read_table(source)

        assert torch.equal(table.weight, build("bert").get_input_embeddings().weight)
        assert source.commit == table.info.revision == COMMIT
        model = source.load(transformers.AutoModelForMaskedLM, dtype=torch.float32)
        assert torch.equal(model.get_input_embeddings().weight, table.weight)


def test_what_is_not_in_the_cache_is_named_as_not_there(cached: Path) -> None:
    source = ModelSource.resolve("some/model")

    with pytest.raises(ModelNotFoundError, match="offline mode is enabled"):
        source.file("model.safetensors")
    for shard in (cached / "snapshots" / COMMIT).glob("model*"):
        shard.unlink()
    for allow_pickle in (False, True):
        with pytest.raises(ModelNotFoundError, match="offline mode is enabled"):
            read_table(ModelSource.resolve("some/model", allow_pickle=allow_pickle))
    with pytest.raises(ModelNotFoundError, match="offline mode is enabled"):
        _ = ModelSource.resolve("some/model", revision="v2").commit


def test_a_file_that_the_hub_once_said_is_missing_is_not_asked_for(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that can't be reached is tried for half a minute."""
    asked = []

    def download(_id: str, name: str, **_: object) -> str:
        asked.append(name)
        return str(cached / "snapshots" / COMMIT / name)

    monkeypatch.setattr("orientc.models.hub.hf_hub_download", download)
    (cached / ".no_exist" / COMMIT).mkdir(parents=True)
    for name in ("model.safetensors", "adapter_config.json"):
        (cached / ".no_exist" / COMMIT / name).touch()

    read_table(ModelSource.resolve("some/model"))

    assert asked[:2] == ["config.json", "model.safetensors.index.json"]
    assert len(asked) == 3


# -- what is loaded


def test_the_skeleton_is_the_checkpoints_own_architecture_without_numbers(bert_folder: Path) -> None:
    skeleton = ModelSource.resolve(str(bert_folder)).skeleton

    assert type(skeleton) is transformers.BertForMaskedLM
    assert {parameter.device.type for parameter in skeleton.parameters()} == {"meta"}
    assert skeleton.get_output_embeddings().weight is skeleton.get_input_embeddings().weight


def test_a_loaded_model_is_the_saved_one_in_the_dtype_asked_for(bert_folder: Path) -> None:
    saved = transformers.BertForMaskedLM.from_pretrained(bert_folder)

    model = ModelSource.resolve(str(bert_folder)).load(transformers.AutoModelForMaskedLM, dtype=torch.bfloat16)

    assert not model.training
    assert model.dtype == torch.bfloat16
    assert all(torch.equal(tensor, saved.state_dict()[name].bfloat16()) for name, tensor in model.state_dict().items())


def test_a_checkpoint_without_the_head_is_not_given_a_random_one(tmp_path: Path) -> None:
    build("bert-encoder").save_pretrained(tmp_path)

    with pytest.raises(EvaluationError) as raised:
        ModelSource.resolve(str(tmp_path)).load(transformers.AutoModelForMaskedLM, dtype=torch.float32)

    message = str(raised.value)
    assert "lacks weights that BertForMaskedLM needs, cls.predictions" in message
    assert message.endswith("it was not saved with this head")


def test_pickled_weights_are_loaded_only_when_allowed(tmp_path: Path) -> None:
    model = build("bert")
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")

    with pytest.raises(TrustError, match="has no safetensors weights: allow"):
        ModelSource.resolve(str(tmp_path)).load(transformers.AutoModelForMaskedLM, dtype=torch.float32)
    loaded = ModelSource.resolve(str(tmp_path), allow_pickle=True).load(
        transformers.AutoModelForMaskedLM, dtype=torch.float32
    )

    assert torch.equal(loaded.get_input_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "llama", "deberta-v2", "mpnet"])
def test_a_missing_tokenizer_is_one_line(name: str, tmp_path: Path) -> None:
    """transformers makes an empty one up for most of these."""
    build(name).save_pretrained(tmp_path)

    with pytest.raises(ModelError) as raised:
        _ = ModelSource.resolve(str(tmp_path)).tokenizer

    assert "has no tokenizer that can be used" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_tokenizer_beside_the_weights_is_used(bert_folder: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    tokenizer = ModelSource.resolve(str(bert_folder)).tokenizer

    assert tokenizer.get_vocab() == wordpiece.get_vocab()


# -- code from a model's repository


def test_a_models_own_code_is_not_run_unasked(own_code: tuple[Path, Path]) -> None:
    folder, trace = own_code
    source = ModelSource.resolve(str(folder))

    with pytest.raises(TrustError) as raised:
        read_table(source)

    assert str(raised.value) == f"{folder} needs code from its own repository: allow it with `trust_remote_code`"
    assert not trace.exists()


def test_a_models_own_code_is_run_when_trusted(own_code: tuple[Path, Path]) -> None:
    folder, trace = own_code
    source = ModelSource.resolve(str(folder), trust_remote_code=True)

    table = read_table(source)
    loaded = source.load(transformers.AutoModelForMaskedLM, dtype=torch.float32)

    assert trace.exists()
    assert type(source.skeleton).__name__ == type(loaded).__name__ == "OwnForMaskedLM"
    assert table.info.tied
    assert torch.equal(table.weight, build("bert").get_input_embeddings().weight)
    assert torch.equal(loaded.get_input_embeddings().weight, table.weight)


def test_what_trusted_code_does_wrong_is_one_line(own_code: tuple[Path, Path]) -> None:
    folder, _ = own_code
    (folder / "configuration_own.py").write_text("raise RuntimeError('set trust_remote_code\\nto see this')")

    with pytest.raises(ModelError) as raised:
        read_table(ModelSource.resolve(str(folder), trust_remote_code=True))

    assert not isinstance(raised.value, TrustError)
    assert "set trust_remote_code" in str(raised.value)
    assert "\n" not in str(raised.value)


# -- positions


def test_a_revision_of_a_local_model_is_refused(bert_folder: Path) -> None:
    with pytest.raises(UsageError, match="on this machine"):
        ModelSource.resolve(str(bert_folder), revision="main")
