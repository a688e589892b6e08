"""What is only a part of a model is refused in one line, whatever is installed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support import quantized
from support.commands import Client, Ended
from support.hub import Hub
from transformers import PreTrainedTokenizerFast

from orientc.errors import ModelError
from orientc.models.source import ModelSource
from orientc.models.table import read_table

ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "someone/base", "r": 4}


def adapted(folder: Path, copy: Path) -> Path:
    """A model's folder with an adapter beside its weights."""
    shutil.copytree(folder, copy)
    (copy / "adapter_config.json").write_text(json.dumps(ADAPTER))
    (copy / "adapter_model.safetensors").write_bytes(b"")
    return copy


@pytest.fixture(params=[False, True])
def peft(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With peft as with none: an import of it ends the test."""
    there: bool = request.param
    for name in ("integrations.peft", "models.auto.auto_factory"):
        monkeypatch.setattr(f"transformers.{name}.is_peft_available", lambda: there)
    if there:
        monkeypatch.setitem(sys.modules, "peft", ModuleType("peft"))


@pytest.mark.usefixtures("peft")
def test_a_model_with_an_adapter_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    source = ModelSource.resolve(adapted(bert_folder, tmp_path / "adapted"))
    for use in (read_table, lambda source: source.load(None, dtype=torch.float32), lambda source: source.tokenizer):
        with pytest.raises(ModelError, match=r"holds an adapter \(adapter_config.json\).*merge it into its base model"):
            use(source)


def test_an_adapter_alone_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(ADAPTER))
    with pytest.raises(ModelError, match="holds an adapter"):
        _ = ModelSource.resolve(tmp_path).config


@pytest.mark.parametrize(
    "command",
    ["inspect", "svd --rank 4", "perplexity --text {text}", "similarity --data {glue}", "calibrate --text {text}"],
)
def test_every_command_says_so(
    command: str,
    bert_folder: Path,
    text_file: Path,
    glue_folder: Path,
    tmp_path: Path,
    orientc: Callable[..., Ended],
) -> None:
    folder = adapted(bert_folder, tmp_path / "adapted")
    name, *options = command.format(text=text_file, glue=glue_folder).split()
    ended = orientc(name, folder, *options)
    assert (ended.code, ended.out) == (1, "")
    assert "holds an adapter" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_a_model_of_the_hub_with_an_adapter_is_refused(
    hub: Hub, online: Client, bert_folder: Path, tmp_path: Path
) -> None:
    hub.publish("someone/adapted", adapted(bert_folder, tmp_path / "adapted"))
    ended = online("inspect", "someone/adapted")
    assert ended.code == 1
    assert "someone/adapted holds an adapter" in ended.err
    assert "adapter_model.safetensors" not in hub.downloads("someone/adapted")


# -- one GGUF file of several


@pytest.mark.parametrize(("parts", "refused"), [(None, False), (0, False), (1, False), (2, True)])
def test_one_gguf_file_of_several_is_refused(
    parts: int | None, refused: bool, tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    pytest.importorskip("gguf")
    folder = quantized.llama(tmp_path / "plain", bytes_bpe)
    source = ModelSource.resolve(quantized.gguf_file(folder, tmp_path / "model.gguf", parts=parts))
    if not refused:
        assert read_table(source).info.vocab == len(bytes_bpe)
        return
    for use in (read_table, lambda source: source.load(None, dtype=torch.float32)):
        with pytest.raises(ModelError, match="is one of 2 files that make one model: join them first"):
            use(source)


def test_an_adapter_beside_a_gguf_file_counts_as_well(tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> None:
    pytest.importorskip("gguf")
    folder = quantized.llama(tmp_path / "plain", bytes_bpe)
    path = quantized.gguf_file(folder, tmp_path / "model.gguf")
    (tmp_path / "adapter_config.json").write_text(json.dumps(ADAPTER))
    with pytest.raises(ModelError, match="holds an adapter"):
        read_table(ModelSource.resolve(path))
