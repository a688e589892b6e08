"""Models spread over devices: here the CPU and the disk, so that figures can be held against one device's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.architectures import build
from support.compact_models import own_modules_cache
from support.data import SENTENCES
from transformers import PreTrainedTokenizerFast

import orientc
from orientc.compression.configs import QuantizeConfig, SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import DeviceError, EvaluationError, ModelError, UsageError
from orientc.exporters.export import export
from orientc.models.device_map import DeviceMap
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts

MODELS = ("bert", "gpt2", "llama-untied", "gemma3", "t5")


@pytest.fixture(scope="module", params=MODELS)
def folder(
    request: pytest.FixtureRequest,
    wordpiece: PreTrainedTokenizerFast,
    t5_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    place = tmp_path_factory.mktemp("models") / request.param
    model = build(request.param)
    model.config.update({"vocab_size": len(wordpiece), "decoder_start_token_id": 0})
    torch.manual_seed(0)
    type(model)(model.config).save_pretrained(place)
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5_folder) if request.param == "t5" else wordpiece
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def little(folder: Path) -> dict[str, Any]:
    """Options with memory for half of a model."""
    half = sum(path.stat().st_size for path in folder.glob("*.safetensors")) // 2
    return {"device_map": "auto", "max_memory": f"cpu={half}"}


def text_for(folder: Path, text_file: Path, pairs_file: Path) -> Path:
    return pairs_file if folder.name == "t5" else text_file


def test_what_has_no_room_is_on_the_disk_and_what_is_tied_stays_so(folder: Path, little: dict[str, Any]) -> None:
    source = ModelSource.resolve(folder)
    model = source.load(None, dtype=torch.float32, place=DeviceMap.read(**little))
    assert "disk" in model.hf_device_map.values()
    assert any(parameter.is_meta for parameter in model.parameters())
    assert head_policies(model) == head_policies(source.skeleton)


@pytest.mark.parametrize("config", [SvdConfig(rank=4), QuantizeConfig(bits=4)])
def test_figures_equal_one_devices(
    config: Any, folder: Path, little: dict[str, Any], text_file: Path, pairs_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "table.safetensors"
    artifacts.save(fit_table(read_table(folder), config), path)
    options = {"text": text_for(folder, text_file, pairs_file), "limit": 20}
    spread = orientc.perplexity(path, out=tmp_path / "spread", **options, **little).records
    alone = orientc.perplexity(path, out=tmp_path / "alone", device="cpu", **options).records
    assert [record.head for record in spread] == [record.head for record in alone]
    for one, other in zip(spread, alone, strict=True):
        for name, value in other.metrics.items():
            assert one.metrics[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_a_compact_folder_is_spread_too(
    bert_folder: Path, text_file: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path / "table.safetensors"
    artifacts.save(fit_table(read_table(bert_folder), QuantizeConfig(bits=4)), path)
    with own_modules_cache(tmp_path_factory.mktemp("modules")):
        made = export(path, tmp_path / "compact", form="compact").folder
    half = sum(file.stat().st_size for file in made.glob("*.safetensors")) // 2
    spread, alone = (
        orientc.perplexity(made, text=text_file, limit=20, out=tmp_path / name, **place).records[0]
        for name, place in (
            ("spread", {"device_map": "auto", "max_memory": json.dumps({"cpu": half})}),
            ("alone", {"device": "cpu"}),
        )
    )
    assert spread.metrics["loss"] == pytest.approx(alone.metrics["loss"], rel=1e-6)


def test_similarity_equals_one_devices(bert_folder: Path, tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    transformers.BertModel.from_pretrained(bert_folder).save_pretrained(encoder)
    transformers.AutoTokenizer.from_pretrained(bert_folder).save_pretrained(encoder)
    path, text = tmp_path / "table.safetensors", tmp_path / "text.txt"
    artifacts.save(fit_table(read_table(encoder), SvdConfig(rank=4)), path)
    text.write_text("\n".join(SENTENCES[:9]))
    half = (encoder / "model.safetensors").stat().st_size // 2
    spread = orientc.similarity(
        path, text=text, device_map="balanced", max_memory=f"cpu={half}", out=tmp_path / "spread"
    ).records
    alone = orientc.similarity(path, text=text, device="cpu", out=tmp_path / "alone").records
    assert [record.metrics for record in spread] == [
        pytest.approx(record.metrics, rel=1e-5, abs=1e-6) for record in alone
    ]


def test_a_file_says_where_modules_go(bert_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"bert.embeddings": "cpu", "bert.encoder": "disk", "cls": "cpu"}))
    model = ModelSource.resolve(bert_folder).load(None, dtype=torch.float32, place=DeviceMap.read(path, None))
    assert all(parameter.is_meta for parameter in model.bert.encoder.parameters())
    assert not model.get_input_embeddings().weight.is_meta


def test_gradients_need_the_whole_model(bert_folder: Path, text_file: Path, tmp_path: Path) -> None:
    half = (bert_folder / "model.safetensors").stat().st_size // 2
    path = tmp_path / "table.safetensors"
    artifacts.save(fit_table(read_table(bert_folder), SvdConfig(rank=4)), path)
    little = {"device_map": "auto", "max_memory": f"cpu={half}"}
    text = tmp_path / "long.txt"
    text.write_text(text_file.read_text() * 3)
    options: dict[str, Any] = {"text": text, "out": tmp_path}
    reason = "`device_map` leaves weights on disk, and gradients need all of them"
    with pytest.raises(EvaluationError, match=reason):
        orientc.calibrate(bert_folder, tokens=300, **options, **little)
    with pytest.raises(EvaluationError, match=reason):
        orientc.tune(path, steps=2, **options, **little)


def test_where_there_is_room_they_are_those_of_one_device(bert_folder: Path, text_file: Path, tmp_path: Path) -> None:
    spread, alone = (
        orientc.calibrate(bert_folder, text=text_file, tokens=300, out=tmp_path / name, **place).calibration
        for name, place in (("spread", {"device_map": "auto", "max_memory": "cpu=1GiB"}), ("alone", {"device": "cpu"}))
    )
    torch.testing.assert_close(spread.input_importance, alone.input_importance)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device_map": None, "max_memory": "cpu=1GiB"}, "`max_memory` is for a model that is spread"),
        ({"device_map": "auto", "max_memory": "cpu"}, "`max_memory` takes devices with sizes"),
        ({"device_map": "auto", "max_memory": "cpu=much"}, "`max_memory` takes devices with sizes"),
        ({"device_map": "auto", "max_memory": "gpu=1GiB"}, "`max_memory` takes devices with sizes"),
        ({"device_map": "auto", "max_memory": '["cpu"]'}, "`max_memory` takes devices with sizes"),
        ({"device_map": "auto", "max_memory": None, "device": "cpu"}, "`device` and `device_map` exclude each other"),
        ({"device_map": "nowhere.json", "max_memory": None}, "takes auto, balanced or a JSON file; can't read nowhere"),
    ],
)
def test_options_that_say_nothing_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        DeviceMap.read(**options)


@pytest.mark.parametrize("content", ["[]", "{}", "no", '{"bert": "nowhere"}', '{"bert": true}'])
def test_a_file_that_is_no_map_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(UsageError, match=r"map.json is no .*`device_map`"):
        DeviceMap.read(tmp_path / "map.json", None)


def test_limits_are_read_in_both_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    for named in ("0=10GiB, cpu=3MB", '{"0": "10GiB", "cpu": 3000000}'):
        read = DeviceMap.read("auto", named)
        assert read
        assert read.max_memory == {0: 10 * 2**30, "cpu": 3_000_000}


def test_a_device_that_is_not_here_is_told(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"bert": 99}')
    for options in (("auto", "99=1GiB,cpu=1GiB"), (tmp_path / "map.json", None)):
        with pytest.raises(DeviceError, match="there is no device 99 here"):
            DeviceMap.read(*options)


def test_several_processes_have_a_model_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="spreads one model over all devices, several processes have one each"):
        DeviceMap.read("auto", None)


def test_a_module_that_the_map_leaves_out_is_told(bert_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"bert.encoder": "cpu", "cls": "disk"}))
    with pytest.raises(ModelError, match="can't be loaded"):
        ModelSource.resolve(bert_folder).load(None, dtype=torch.float32, place=DeviceMap.read(path, None))
