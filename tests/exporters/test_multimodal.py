"""Models that take pictures or sounds beside text: their head, their processor, and how they are loaded again."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from support.compact_models import own_modules_cache
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import orientc
from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import EvaluationError, ExportError
from orientc.evaluation.texts import Text
from orientc.exporters import model_card
from orientc.exporters.export import Exported, export
from orientc.models.resolve import subject
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts

VOCAB, IMAGE = 400, 390
TEXT: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
PICTURES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def llava() -> PreTrainedModel:
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**TEXT),
        vision_config=transformers.CLIPVisionConfig(**PICTURES),
        image_token_index=IMAGE,
        tie_word_embeddings=True,
    )
    return transformers.LlavaForConditionalGeneration(config)


def qwen2_vl() -> PreTrainedModel:
    config = transformers.Qwen2VLConfig(
        text_config=TEXT | {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}},
        vision_config={
            "depth": 1,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
        },
        image_token_id=IMAGE,
        tie_word_embeddings=True,
    )
    return transformers.Qwen2VLForConditionalGeneration(config)


def gemma3() -> PreTrainedModel:
    config = transformers.Gemma3Config(
        text_config=TEXT | {"head_dim": 8},
        vision_config=PICTURES,
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
        pad_token_id=0,
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def whisper() -> PreTrainedModel:
    config = transformers.WhisperConfig(
        vocab_size=VOCAB,
        num_mel_bins=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=32,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=20,
        max_target_positions=20,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=3,
    )
    return transformers.WhisperForConditionalGeneration(config)


def blip() -> PreTrainedModel:
    text = {name: value for name, value in TEXT.items() if name != "num_key_value_heads"}
    config = transformers.BlipConfig(text_config=text, vision_config=PICTURES | {"hidden_size": 32})
    return transformers.BlipForQuestionAnswering(config)


def clip_text() -> PreTrainedModel:
    text = {name: value for name, value in TEXT.items() if name not in ("num_key_value_heads", "tie_word_embeddings")}
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**text))


def clip() -> PreTrainedModel:
    text = clip_text().config.to_dict()
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=PICTURES, projection_dim=16))


# name → (maker, the auto class that loads it whole)
MODELS: dict[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "llava": (llava, "AutoModelForImageTextToText"),
    "qwen2-vl": (qwen2_vl, "AutoModelForImageTextToText"),
    "gemma3": (gemma3, "AutoModelForImageTextToText"),
    "whisper": (whisper, "AutoModelForSpeechSeq2Seq"),
    "blip": (blip, "AutoModelForVisualQuestionAnswering"),
    "clip": (clip, "AutoModelForZeroShotImageClassification"),
    "clip-text": (clip_text, "AutoModel"),
}


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_modules_cache(tmp_path_factory.mktemp("modules")):
        yield


@pytest.fixture(params=MODELS)
def saved(request: pytest.FixtureRequest, tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> tuple[str, Path]:
    """The name of a model, and its folder."""
    torch.manual_seed(0)
    MODELS[request.param][0]().save_pretrained(tmp_path / "one")
    bytes_bpe.save_pretrained(tmp_path / "one")
    return request.param, tmp_path / "one"


def exported(folder: Path, form: str, rank: int = 8) -> Exported:
    path = folder.with_name("artifact.safetensors")
    artifacts.save(fit_table(read_table(folder), SvdConfig(rank=rank)), path)
    return export(path, folder.with_name(form), form=form)


@torch.no_grad()
def outputs(model: PreTrainedModel) -> Tensor:
    """What a model makes of text, and of sounds or pictures where it takes nothing without."""
    ids = torch.arange(3, 12)[None]
    if isinstance(model, transformers.WhisperForConditionalGeneration):
        return model.eval()(input_features=torch.ones(1, 8, 40) / 3, decoder_input_ids=ids).logits
    if isinstance(model, transformers.BlipForQuestionAnswering):
        pictures = {"pixel_values": torch.ones(1, 3, 28, 28) / 3}
        return model.eval()(input_ids=ids, decoder_input_ids=ids, labels=ids, **pictures).loss
    if isinstance(model, transformers.CLIPModel):
        return model.eval().text_model(input_ids=ids).last_hidden_state
    found = model.eval()(input_ids=ids)
    return found.logits if "logits" in found else found.last_hidden_state


@torch.no_grad()
def with_media(name: str, model: PreTrainedModel) -> Tensor:
    """What a model makes of text with a picture or a sound."""
    if name in ("whisper", "blip"):
        return outputs(model)
    ids = torch.tensor([[3, 4, 5, IMAGE, IMAGE, IMAGE, IMAGE, 6, 7]])
    draw = torch.Generator().manual_seed(0)
    if name == "qwen2-vl":
        patches = torch.rand(16, 3 * 2 * 14 * 14, generator=draw)
        options = {"image_grid_thw": torch.tensor([[1, 4, 4]]), "mm_token_type_ids": (ids == IMAGE).long()}
        return model.eval()(input_ids=ids, pixel_values=patches, **options).logits
    output = model.eval()(input_ids=ids, pixel_values=torch.rand(1, 3, 28, 28, generator=draw))
    return output.logits_per_text if name == "clip" else output.logits


@pytest.mark.parametrize("form", ["compact", "dense"])
def test_with_a_picture_or_a_sound_a_lossless_artifact_changes_nothing(form: str, saved: tuple[str, Path]) -> None:
    name, folder = saved
    if name == "clip-text":
        pytest.skip("a text tower takes no picture")
    before = ModelSource.resolve(folder).load(None, dtype=torch.float32)
    made = exported(folder, form, rank=32)
    auto = getattr(transformers, made.facts.auto_class)
    after = auto.from_pretrained(made.folder, trust_remote_code=form == "compact")
    torch.testing.assert_close(with_media(name, after), with_media(name, before), atol=1e-4, rtol=1e-4)
    if name not in ("whisper", "blip", "clip"):
        assert not torch.equal(with_media(name, after)[0, -1], outputs(after)[0, -1])


@pytest.mark.parametrize("form", ["compact", "dense"])
def test_the_class_that_is_told_loads_the_whole_model(form: str, saved: tuple[str, Path]) -> None:
    name, folder = saved
    made = exported(folder, form)
    assert made.facts.auto_class == MODELS[name][1]
    auto = getattr(transformers, made.facts.auto_class)
    model, info = auto.from_pretrained(made.folder, trust_remote_code=form == "compact", output_loading_info=True)
    assert not any(info.values()), info
    expected = ModelSource.resolve(folder).load(None, dtype=torch.float32)
    artifact = subject(folder.with_name("artifact.safetensors")).artifact
    assert artifact
    substitute(expected, artifact, head_policies(expected)[-1])
    assert type(model).__name__ == type(expected).__name__
    torch.testing.assert_close(outputs(model), outputs(expected), atol=1e-5, rtol=1e-5)
    named = json.loads((made.folder / "config.json").read_text()).get("auto_map", {})
    assert named.get(made.facts.auto_class, "").rpartition(".")[2] == (type(expected).__name__ if named else "")


def test_what_needs_a_picture_for_each_text_is_calibrated_by_counts(
    tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    clip().save_pretrained(tmp_path / "one")
    bytes_bpe.save_pretrained(tmp_path / "one")
    options: dict[str, Any] = {"device": "cpu", "out": tmp_path}
    compact = exported(tmp_path / "one", "compact").folder
    for measure, model in (
        (orientc.similarity, tmp_path / "one"),
        (orientc.similarity, compact),
        (orientc.calibrate, tmp_path / "one"),
    ):
        with pytest.raises(EvaluationError, match=r"CLIPModel.* needs a picture beside each text"):
            measure(model, text=Text("some", "a house\n" * 300), **options)
    assert orientc.calibrate(tmp_path / "one", frequency="zipf", **options).calibration.description.measured == 0


def test_a_model_no_auto_class_loads_is_told_by_its_own_class_or_refused(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    config = transformers.DPRConfig(**TEXT, projection_dim=8)
    transformers.DPRContextEncoder(config).save_pretrained(folder)
    with pytest.raises(
        ExportError, match="DPRContextEncoder, which none of transformers' auto classes loads: export it"
    ):
        exported(folder, "compact")
    facts = exported(folder, "dense").facts
    assert facts.load("x") == 'DPRContextEncoder.from_pretrained("x")'
    assert (
        "from transformers import AutoTokenizer, DPRContextEncoder"
        in (tmp_path / "dense" / model_card.FILE).read_text()
    )


# -- the processor


def whisper_processor(folder: Path) -> None:
    extractor = transformers.WhisperFeatureExtractor(feature_size=8, n_fft=64, hop_length=32, chunk_length=1)
    extractor.save_pretrained(folder)


def clip_processor(folder: Path) -> None:
    sizes: dict[str, Any] = {"size": {"height": 28, "width": 28}, "crop_size": {"height": 28, "width": 28}}
    transformers.CLIPImageProcessorPil(**sizes).save_pretrained(folder)
    values = {"processor_class": "LlavaProcessor", "patch_size": 14, "vision_feature_select_strategy": "default"}
    (folder / "processor_config.json").write_text(json.dumps(values))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "video_preprocessor_config.json").write_text("{}")


@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize(
    ("name", "make", "files"),
    [
        ("whisper", whisper_processor, ["preprocessor_config.json"]),
        (
            "llava",
            clip_processor,
            [
                "chat_template.json",
                "preprocessor_config.json",
                "processor_config.json",
                "video_preprocessor_config.json",
            ],
        ),
    ],
)
def test_its_files_go_along_and_name_no_code(
    name: str,
    make: Callable[[Path], None],
    files: list[str],
    form: str,
    tmp_path: Path,
    bytes_bpe: PreTrainedTokenizerFast,
) -> None:
    folder = tmp_path / "one"
    MODELS[name][0]().save_pretrained(folder)
    bytes_bpe.save_pretrained(folder)
    make(folder)
    path = folder / "preprocessor_config.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps(plain | {"auto_map": {"AutoProcessor": "evil.Evil"}, "trust_remote_code": True}))

    made = exported(folder, form)

    there = sorted(file.name for file in made.folder.iterdir() if "processor" in file.name or "template." in file.name)
    assert there == files
    for file in files:
        expected = plain if file == path.name else json.loads((folder / file).read_text())
        found = json.loads((made.folder / file).read_text())
        assert found == expected | ({"processor_class": "WhisperProcessor"} if name == "whisper" else {})
    assert {*files} <= {*json.loads((made.folder / "orientc_files.json").read_text())["files"]}
    text = (made.folder / model_card.FILE).read_text()
    trust = ", trust_remote_code=False" if form == "compact" else ""
    assert f'processor = AutoProcessor.from_pretrained("path/or/repository"{trust})\n' in text
    assert f"from transformers import {made.facts.auto_class}, AutoProcessor\n" in text
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ast.parse(lines)


def test_the_lines_on_the_card_of_a_speech_model_run(tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> None:
    folder = tmp_path / "one"
    whisper().save_pretrained(folder)
    bytes_bpe.save_pretrained(folder)
    whisper_processor(folder)
    made = exported(folder, "compact")
    (lines,) = re.findall(r"```python\n(.*?)```", (made.folder / model_card.FILE).read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    shutil.rmtree(folder)
    exec(lines.replace("path/or/repository", str(made.folder)), found)
    inputs = found["processor"](np.zeros(16_000, dtype=np.float32), sampling_rate=16_000)
    assert np.asarray(inputs["input_features"]).shape[1] == 8
    assert type(found["model"]).__name__ == "WhisperForConditionalGeneration"


def test_a_processor_that_is_a_link_out_of_the_folder_is_refused(
    tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    folder = tmp_path / "one"
    whisper().save_pretrained(folder)
    bytes_bpe.save_pretrained(folder)
    (tmp_path / "secret.json").write_text("{}")
    (folder / "preprocessor_config.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ExportError, match="is a link out of"):
        exported(folder, "compact")
