from __future__ import annotations

import ast
import contextlib
import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.architectures import build
from support.opened import opened_below
from transformers import PreTrainedTokenizerFast

import orientc
from orientc.errors import ModelError
from orientc.evaluation import similarity
from orientc.evaluation.configs import SimilarityConfig
from orientc.models import fingerprint as fingerprints
from orientc.models.fingerprint import check_unchanged, fingerprint
from orientc.models.source import ModelSource

CODE = """
from transformers import BertForMaskedLM

from .helper import HELPED


class Own(BertForMaskedLM):
    vocab_files_names = {"vocab_file": "own.vocabulary"}
"""


def of(folder: Path | str, **options: bool) -> str:
    return fingerprint(ModelSource.resolve(folder, **options))


def configure(folder: Path, name: str = "config.json", **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def zeroed(path: Path, tensor: str) -> None:
    tensors = load_file(path)
    save_file(tensors | {tensor: torch.zeros_like(tensors[tensor])}, path, metadata={"format": "pt"})


@pytest.fixture
def folder(tmp_path: Path, bert_folder: Path) -> Path:
    """A masked language model in a folder that a test may change."""
    return Path(shutil.copytree(bert_folder, tmp_path / "m"))


def sharded(folder: Path) -> Path:
    """A checkpoint of two shards, one of them in a folder of its own; returns that one."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "sub").mkdir()
    parts = {"first.safetensors": {}, "sub/second.safetensors": {}}
    for number, (name, tensor) in enumerate(sorted(tensors.items())):
        parts[[*parts][number % 2]][name] = tensor
    for name, part in parts.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    shards = {name: shard for shard, part in parts.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    return folder / "sub" / "second.safetensors"


def sentences(folder: Path) -> None:
    """Make it the folder of a sentence encoder, its pooling in another place than most have it."""
    modules = [("", "Transformer"), ("2_Pooling", "Pooling"), ("3_Dense", "Dense")]
    listed = [{"idx": n, "name": str(n), "path": path, "type": kind} for n, (path, kind) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {}}')
    for place in ("2_Pooling", "3_Dense"):
        (folder / place).mkdir()
        (folder / place / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    save_file({"linear.weight": torch.ones(2, 2)}, folder / "3_Dense" / "model.safetensors")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a layer": lambda folder: zeroed(folder / "model.safetensors", "bert.encoder.layer.0.attention.self.query.weight"),
    "heads": lambda folder: configure(folder, num_attention_heads=4),
    "activation": lambda folder: configure(folder, hidden_act="relu"),
    "a tokenizer's normalizer": lambda folder: configure(folder, "tokenizer.json", normalizer=None),
    "a tokenizer's limit": lambda folder: configure(folder, "tokenizer_config.json", model_max_length=32),
    "a chat template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
    "special tokens": lambda folder: (folder / "special_tokens_map.json").write_text("{}"),
    "added tokens": lambda folder: (folder / "added_tokens.json").write_text("{}"),
    "a vocabulary appears": lambda folder: (folder / "vocab.txt").write_text("[PAD]\n"),
    "a sentencepiece model of any name": lambda folder: (folder / "any.model").write_text("x"),
    "a tokenizer goes": lambda folder: (folder / "tokenizer.json").unlink(),
    "generation settings": lambda folder: (folder / "generation_config.json").write_text("{}"),
    "a version's configuration": lambda folder: (folder / "config.4.0.0.json").write_text("{}"),
    "an adapter": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "it becomes a sentence encoder": sentences,
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "times": lambda folder: os.utime(folder / "model.safetensors", (0, 0)),
    "a card": lambda folder: (folder / "README.md").write_text("# Model"),
    "a pickle that is not read": lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"),
    "an index beside the one file": lambda folder: (folder / "model.safetensors.index.json").write_text("{}"),
    "a shard that no index names": lambda folder: (folder / "model-00002-of-00002.safetensors").write_bytes(b"x"),
    "another form's weights": lambda folder: (folder / "tf_model.h5").write_bytes(b"x"),
    "code that is not trusted": lambda folder: (folder / "modeling.py").write_text("x"),
    "a training's state": lambda folder: torch.save({}, folder / "optimizer.pt"),
    "a training's log": lambda folder: (folder / "trainer_state.json").write_text("{}"),
    "a record": lambda folder: (folder / "original.perplexity-tied-0f0f0f0f.json").write_text("{}"),
    "a checkpoint of a training": lambda folder: shutil.copytree(folder, folder.parent / "c").rename(
        folder / "checkpoint-5"
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_loading_reads_counts(folder: Path, change: str) -> None:
    before = of(folder)
    CHANGES[change](folder)
    assert of(folder) != before


@pytest.mark.parametrize("change", NO_CHANGES)
def test_what_it_does_not_read_does_not(folder: Path, change: str) -> None:
    before = of(folder)
    NO_CHANGES[change](folder)
    assert of(folder) == before


def test_an_artifact_and_its_records_in_the_models_folder_do_not_count(folder: Path, text_file: Path) -> None:
    before = of(folder)
    made = orientc.svd(folder, rank=4, out=folder / "small.safetensors")
    orientc.perplexity(made.path, text=text_file, device="cpu")
    assert len([*folder.glob("small.*")]) == 4
    assert of(folder) == before


def test_neither_the_place_nor_the_name_counts(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert of(copy) == of(folder) == of(tmp_path / "link")


def test_a_link_counts_as_what_it_points_to(folder: Path, tmp_path: Path) -> None:
    before, weights = of(folder), folder / "model.safetensors"
    weights.rename(tmp_path / "weights")
    weights.symlink_to(tmp_path / "weights")
    assert of(folder) == before
    zeroed(tmp_path / "weights", "cls.predictions.bias")
    save_file(load_file(tmp_path / "weights") | {"cls.predictions.bias": torch.ones(120)}, tmp_path / "weights")
    assert of(folder) != before


def test_the_shards_that_the_index_names_count_and_no_others(folder: Path) -> None:
    shard = sharded(folder)
    before = of(folder)
    (folder / "sub" / "other.safetensors").write_bytes(b"x")
    (folder / "third.safetensors").write_bytes(b"x")
    assert of(folder) == before
    zeroed(shard, sorted(load_file(shard))[0])
    assert of(folder) != before


def test_one_file_goes_before_an_index(folder: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.safetensors"
    shutil.copy(folder / "model.safetensors", one)
    shard = sharded(folder)
    before = of(folder)
    shutil.copy(one, folder / "model.safetensors")
    assert (within := of(folder)) != before
    zeroed(shard, sorted(load_file(shard))[0])
    assert of(folder) == within


def test_pickled_weights_count_where_they_are_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    assert of(folder, allow_pickle=True) == of(folder)  # safetensors go first
    (folder / "model.safetensors").unlink()
    before = of(folder, allow_pickle=True)
    torch.save({"x": torch.ones(1)}, folder / "pytorch_model.bin")
    assert of(folder, allow_pickle=True) != before


def test_weights_that_the_configuration_names_count(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "named.safetensors")
    configure(folder, transformers_weights="named.safetensors")
    before = of(folder)
    zeroed(folder / "named.safetensors", "bert.embeddings.LayerNorm.weight")
    assert of(folder) != before


def test_an_index_that_names_files_outside_is_refused(folder: Path) -> None:
    sharded(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../../secret"}}')
    with pytest.raises(ModelError, match="not a file beside it"):
        of(folder)


@pytest.mark.parametrize("name", ["modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
                                  "2_Pooling/config.json", "3_Dense/model.safetensors"])  # fmt: skip
def test_a_sentence_encoders_files_count(folder: Path, name: str) -> None:
    sentences(folder)
    before = of(folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert of(folder) != before


@pytest.mark.parametrize("path", ["../m2", "/etc", ".", "none", "README.md"])
def test_a_list_of_modules_leads_nowhere_else(folder: Path, path: str) -> None:
    (folder / "README.md").write_text("")
    shutil.copytree(folder, folder.parent / "m2")
    (folder / "modules.json").write_text(json.dumps([{"path": path, "type": "x"}, 3, None, {"path": 5}]))
    before = of(folder)
    (folder / "README.md").write_text("changed")
    configure(folder.parent / "m2", hidden_act="relu")
    assert of(folder) == before


def test_a_gguf_file_counts_with_the_tokenizers_settings_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    before = of(path)
    (tmp_path / "other.gguf").write_bytes(b"x")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert of(path) == before
    assert of(path.rename(tmp_path / "renamed.gguf")) == before
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert (within := of(tmp_path / "renamed.gguf")) != before
    (tmp_path / "renamed.gguf").write_bytes(b"GGUF2")
    assert of(tmp_path / "renamed.gguf") != within


def test_a_file_that_cannot_be_read_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(fingerprints, "content_hash", refused)
    with pytest.raises(ModelError, match=r"can't be read: .*/m/\S+: Permission denied$"):
        of(folder)


def test_a_model_that_changes_while_it_is_read_is_refused(folder: Path) -> None:
    source = ModelSource.resolve(folder)
    before = fingerprint(source)
    check_unchanged(source, before)
    configure(folder, hidden_act="relu")
    with pytest.raises(ModelError, match="changed while it was read: start again"):
        check_unchanged(source, before)


# -- code


@pytest.fixture
def coded(folder: Path) -> Path:
    """A model with code of its own, which is not the folder's only Python file."""
    configure(folder, auto_map={"AutoModelForMaskedLM": "modeling.Own"})
    (folder / "modeling.py").write_text(CODE)
    (folder / "helper.py").write_text("HELPED = 1\n")
    (folder / "own.vocabulary").write_text("a b c")
    return folder


@pytest.mark.parametrize("name", ["modeling.py", "helper.py", "own.vocabulary", "deep/er.py"])
def test_trusted_code_counts_and_what_it_names(coded: Path, name: str) -> None:
    (coded / "deep").mkdir()
    before, untrusted = of(coded, trust_remote_code=True), of(coded)
    path = coded / name
    path.write_text((path.read_text() if path.exists() else "") + "\n# changed")
    assert of(coded, trust_remote_code=True) != before
    assert of(coded) == untrusted


def test_whether_code_is_trusted_counts_where_there_is_some(coded: Path, bert_folder: Path) -> None:
    assert of(coded, trust_remote_code=True) != of(coded)
    assert of(bert_folder, trust_remote_code=True) != ""


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Commits of repositories on the hub."""
    known = {"some/model": "a" * 40, "other/code": "b" * 40, "third/code": "c" * 40}
    for module in ("orientc.models.fingerprint", "orientc.models.files"):
        monkeypatch.setattr(
            sys.modules[module], "resolve_revision", lambda id, **_: SimpleNamespace(resolved=known[id])
        )
    return known


REFERENCES: dict[str, tuple[str, dict[str, object]]] = {
    "a configuration": ("config.json", {"auto_map": {"AutoConfig": "other/code--configuration.C"}}),
    "a tokenizer": ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["other/code--t.T", None]}}),
    "an old tokenizer": ("tokenizer_config.json", {"auto_map": ["other/code--t.T", None]}),
    "a nested configuration": ("config.json", {"text_config": {"auto_map": {"AutoModel": "other/code--m.M"}}}),
}


@pytest.mark.parametrize("kind", REFERENCES)
def test_another_repositorys_code_counts_by_its_own_commit(folder: Path, commits: dict[str, str], kind: str) -> None:
    name, values = REFERENCES[kind]
    configure(folder, name, **values)
    trusted, untrusted = of(folder, trust_remote_code=True), of(folder)
    commits["third/code"] = "0" * 40
    assert of(folder, trust_remote_code=True) == trusted
    commits["other/code"] = "0" * 40
    assert of(folder, trust_remote_code=True) != trusted
    assert of(folder) == untrusted


def test_on_the_hub_it_is_the_commit(folder: Path, commits: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded for it; only where code is trusted, what may name some."""
    asked: list[str] = []

    def file(source: ModelSource, name: str) -> Path:
        asked.append(name)
        return folder / name

    monkeypatch.setattr(ModelSource, "file", file)
    before = of("some/model")
    assert asked == []
    assert of("some/model", trust_remote_code=True) not in ("", None)
    assert set(asked) == {"config.json", "tokenizer_config.json"}
    configure(folder, auto_map={"AutoConfig": "other/code--configuration.C"})
    trusted = of("some/model", trust_remote_code=True)
    commits["other/code"] = "0" * 40
    assert of("some/model", trust_remote_code=True) != trusted
    assert of("some/model") == before
    commits["some/model"] = "0" * 40
    assert of("some/model") != before


# -- all there is to read


def test_every_vocabulary_that_transformers_knows_by_name_counts() -> None:
    package = Path(transformers.__file__).parent
    names: set[str] = set()
    for path in [*package.glob("tokenization*.py"), *package.glob("models/*/tokenization*.py")]:
        if "vocab_files_names" in (text := path.read_text(encoding="utf-8")).lower():
            for found in re.finditer(r"vocab_files_names\s*(?::[^=\n]+)?=\s*(\{[^}]*\})", text, re.IGNORECASE):
                pairs = re.findall(r':\s*("[^"]+")', found[1])
                names.update(map(ast.literal_eval, pairs))
    assert len(names) > 20
    patterns = (*fingerprints.CONFIGS, *fingerprints.TOKENIZERS)
    assert {name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)} == set()


def loaded(folder: Path) -> set[str]:
    """Load all that any command does, and return the files that were opened for it."""
    with opened_below(folder) as opened:
        source = ModelSource.resolve(folder)
        for read in (
            lambda: similarity.full_settings(source, SimilarityConfig()),
            lambda: source.tokenizer,
            lambda: source.load(None, dtype=torch.float32),
            lambda: source.load(transformers.AutoModel, dtype=torch.float32, new_head=True),
        ):
            with contextlib.suppress(orientc.OrientcError):  # what an edit made unusable was opened all the same
                read()
    return opened


DECOYS = (
    "README.md", "vocab.txt", "merges.txt", "vocab.json", "spiece.model", "own.model", "tokenizer.model", "tekken.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json",
    "additional_chat_templates/tool.jinja", "tokenizer.4.0.0.json", "config.4.0.0.json", "generation_config.json",
    "pytorch_model.bin", "model-00001-of-00001.safetensors", "sub/other.safetensors", "optimizer.pt", "training.json",
    "svd-r4-0f0f0f0f.safetensors", "svd-r4-0f0f0f0f.history.json", "1_Pooling/config.json", "2_Pooling/README.md",
    "modules.json", "sentence_roberta_config.json", "config_sentence_transformers.json", "preprocessor_config.json",
    "processor_config.json", "modeling.py", "model.safetensors.index.json", "quantize_config.json", "runs/m/x.json",
)  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells what is opened only on Linux")
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_edited_added_or_removed_either_counts_or_is_not_opened(
    tmp_path: Path, wordpiece: PreTrainedTokenizerFast, seed: int
) -> None:
    draw, folder = random.Random(seed), tmp_path / "m"
    build("bert").save_pretrained(folder)
    wordpiece.save_pretrained(folder)
    if seed % 2:
        sharded(folder)
    if seed > 1:
        sentences(folder)
    read = loaded(folder)
    assert {"config.json", "tokenizer.json", *(["sub/second.safetensors"] if seed % 2 else [])} <= read
    before = of(folder)
    seen = set()
    for name in draw.sample(DECOYS, 12) + draw.sample(sorted(read), min(4, len(read))):
        path = folder / name
        content = path.read_bytes() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.write_bytes(draw.choice([b"{}", b"[]", b"x y\n", b""]))
        elif draw.random() < 0.5:
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        else:
            path.unlink()
        try:
            counts = of(folder) != before
        except ModelError:  # it is seen
            counts = True
        assert counts or name not in loaded(folder), name
        seen.add(counts)
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        assert of(folder) == before
    assert seen == {True, False}
