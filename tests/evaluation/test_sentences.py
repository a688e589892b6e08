"""Sentence encoders' folders: the vectors are sentence-transformers' own, whatever its modules and their spelling."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from support.architectures import build
from support.data import SENTENCES
from transformers import PreTrainedTokenizerFast

from orientc.calibration.calibrate import calibrate
from orientc.compression.svd import svd
from orientc.distillation.tune import tune
from orientc.errors import EvaluationError, ModelError, OrientcError, TrustError
from orientc.evaluation.configs import SimilarityConfig
from orientc.evaluation.sentences import Sentences
from orientc.evaluation.setup import Setup
from orientc.evaluation.similarity import SimilarityMeasurement, similarity
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource

CPU = torch.device("cpu")
TEXT = Text("sentences.txt", "\n".join(SENTENCES[:12]))
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, wordpiece: PreTrainedTokenizerFast) -> Path:
    """A bare encoder with a tokenizer."""
    folder = tmp_path_factory.mktemp("sentences") / "bert"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(wordpiece),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(folder)
    wordpiece.save_pretrained(folder)
    return folder


def save(bert: Path, folder: Path, *modules: Any, max_length: int | None = None, **options: Any) -> Path:
    """Save a sentence encoder as sentence-transformers does."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    model = SentenceTransformer(modules=[Transformer(str(bert)), *modules], device="cpu", **options)
    if max_length:
        model.max_seq_length = max_length
    model.save(str(folder))
    return folder


def theirs(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(SENTENCES[:12])


def ours(folder: Path, tmp_path: Path, **settings: Any) -> Any:
    setup = Setup(ModelSource.resolve(str(folder)), tmp_path / "runs", CPU)
    return SimilarityMeasurement(setup, SimilarityConfig(batch_size=5, **settings), TEXT)._vectors("")


def pooling(*modes: str, include_prompt: bool = True) -> Any:
    from sentence_transformers.sentence_transformer.modules import Pooling

    return Pooling(32, modes[0] if len(modes) == 1 else modes, include_prompt)


def change(path: Path, values: Any) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | values))


# -- vectors


@pytest.mark.parametrize("spelling", ["new", "old"])
@pytest.mark.parametrize("modes", [*((mode,) for mode in POOLINGS), ("mean", "cls"), POOLINGS])
def test_poolings_are_theirs(modes: tuple[str, ...], spelling: str, bert: Path, tmp_path: Path) -> None:
    folder = save(bert, tmp_path / "encoder", pooling(*modes))
    expected = theirs(folder)
    if spelling == "old":  # before version 5.4
        flags = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens", "weightedmean": "weightedmean_tokens"}
        config = {f"pooling_mode_{flags.get(mode, mode)}": mode in modes for mode in POOLINGS}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(config | {"word_embedding_dimension": 32}))
        in_order = [mode for mode in POOLINGS if mode in modes]
        if [*modes] != in_order:  # flags have one order alone
            expected = np.hstack([expected[:, 32 * modes.index(mode) :][:, :32] for mode in in_order])
    np.testing.assert_allclose(ours(folder, tmp_path), expected, atol=1e-6)


def test_all_modules_run_in_their_order(bert: Path, tmp_path: Path) -> None:
    from sentence_transformers.base.modules import Dense, Normalize
    from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm

    torch.manual_seed(1)
    modules = (
        Normalize(module_input_name="token_embeddings"),
        Dense(32, 32, use_residual=True, module_input_name="token_embeddings", activation_function=None),
        pooling("mean", "cls"),
        Dense(64, 16, activation_function=torch.nn.GELU()),
        LayerNorm(16),
        Dropout(0.5),
        Dense(16, 24, bias=False, use_residual=True),
        Normalize(),
    )
    folder = save(bert, tmp_path / "encoder", *modules, max_length=7)
    expected = theirs(folder)

    found = ours(folder, tmp_path)

    assert found.shape == (12, 24)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(ours(folder, tmp_path, max_length=4) - expected).max() > 1e-3
    full = SimilarityMeasurement(
        Setup(ModelSource.resolve(str(folder)), tmp_path, CPU), SimilarityConfig(), TEXT
    ).full_settings
    assert (full["pooling"], full["max_length"]) == ("mean+cls", 7)
    assert full["modules"] == "Normalize+Dense+Dense+LayerNorm+Dense+Normalize"


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("mode", POOLINGS)
def test_a_default_prompt_stands_before_each_text(mode: str, include_prompt: bool, bert: Path, tmp_path: Path) -> None:
    folder = save(
        bert,
        tmp_path / "encoder",
        pooling(mode, include_prompt=include_prompt),
        prompts={"query": "the village: ", "passage": "a fox "},
        default_prompt_name="query",
    )
    np.testing.assert_allclose(ours(folder, tmp_path), theirs(folder), atol=1e-6)


def test_prompts_without_a_default_are_not_put_before_a_text(bert: Path, tmp_path: Path) -> None:
    folder = save(bert, tmp_path / "encoder", pooling("mean"), prompts={"query": "the village: "})
    plain = save(bert, tmp_path / "plain", pooling("mean"))
    np.testing.assert_array_equal(ours(folder, tmp_path), ours(plain, tmp_path))


def test_a_pooling_that_is_chosen_is_in_the_place_of_the_folders_modules(bert: Path, tmp_path: Path) -> None:
    from sentence_transformers.base.modules import Dense

    folder = save(bert, tmp_path / "encoder", pooling("mean"), Dense(32, 16))
    plain = save(bert, tmp_path / "plain", pooling("cls"))
    np.testing.assert_array_equal(ours(folder, tmp_path, pooling="cls"), ours(plain, tmp_path))


def test_the_list_says_where_the_pooling_is(bert: Path, tmp_path: Path) -> None:
    """In e5's folders it is `2_Pooling`; what else lies there counts for nothing."""
    folder = save(bert, tmp_path / "encoder", pooling("cls"))
    expected = ours(folder, tmp_path)
    (folder / "1_Pooling").rename(folder / "2_Pooling")
    listed = (folder / "modules.json").read_text()
    (folder / "modules.json").write_text(listed.replace("1_Pooling", "2_Pooling"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max"}')
    np.testing.assert_array_equal(ours(folder, tmp_path), expected)


def test_lower_casing_is_the_folders(bert: Path, tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> None:
    cased = shutil.copytree(bert, tmp_path / "cased")
    config = transformers.BertConfig.from_pretrained(bert, vocab_size=len(bytes_bpe))
    transformers.BertModel(config).save_pretrained(cased)
    bytes_bpe.pad_token = "<s>"
    bytes_bpe.save_pretrained(cased)
    folder = save(cased, tmp_path / "encoder", pooling("mean"), max_length=20)
    upper = ours(folder, tmp_path)
    change(folder / "sentence_bert_config.json", {"do_lower_case": True})
    found = ours(folder, tmp_path)
    np.testing.assert_allclose(found, theirs(folder), atol=1e-6)
    assert np.abs(found - upper).max() > 1e-3


@pytest.mark.parametrize("saved", ["T5EncoderModel", "T5ForConditionalGeneration"])
def test_t5_encodes_sentences_without_its_decoder(
    saved: str, tmp_path: Path, wordpiece: PreTrainedTokenizerFast
) -> None:
    model = build("t5-encoder" if saved == "T5EncoderModel" else "t5")
    model.resize_token_embeddings(len(wordpiece))
    model.save_pretrained(tmp_path / "t5")
    wordpiece.save_pretrained(tmp_path / "t5")
    folder = save(tmp_path / "t5", tmp_path / "encoder", pooling("mean"))
    change(folder / "config.json", {"architectures": [saved], "is_encoder_decoder": True})
    if saved != "T5EncoderModel":
        shutil.copy(tmp_path / "t5" / "model.safetensors", folder)
    np.testing.assert_allclose(ours(folder, tmp_path), theirs(folder), atol=1e-5)


def test_an_encoder_saved_by_its_own_class_needs_no_list(tmp_path: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    model = build("t5-encoder")
    model.resize_token_embeddings(len(wordpiece))
    model.save_pretrained(tmp_path / "t5")
    wordpiece.save_pretrained(tmp_path / "t5")
    made = svd(str(tmp_path / "t5"), rank=8, device="cpu", out=tmp_path / "a.safetensors")
    found = similarity(made.path, text=TEXT, device="cpu").records
    assert found[0].metrics["cosine"] == pytest.approx(1)
    assert 0 < found[1].metrics["cosine"] < 1
    assert Sentences(ModelSource.resolve(str(tmp_path / "t5"))).load(torch.float32, CPU).__class__.__name__ == (
        "T5EncoderModel"
    )
    text = Text("long", "\n".join(SENTENCES * 4))
    calibrated = calibrate(str(tmp_path / "t5"), text=text, tokens=256, device="cpu", out=tmp_path).calibration
    assert calibrated.description.objective == "sentence"


def test_calibrating_and_tuning_go_by_the_folders_vectors(bert: Path, tmp_path: Path) -> None:
    from sentence_transformers.base.modules import Dense, Normalize

    torch.manual_seed(0)
    half = Dense(32, 16, activation_function=None, init_weight=torch.eye(32)[:16].clone(), init_bias=torch.zeros(16))
    whole = Dense(32, 32, activation_function=None, init_weight=torch.eye(32), init_bias=torch.zeros(32))
    text = Text("long", "\n".join(SENTENCES * 4))
    options = {"prompts": {"p": "the "}, "default_prompt_name": "p"}
    found = {}
    for name, modules in {"plain": (), "whole": (whole, Normalize()), "half": (half, Normalize())}.items():
        folder = save(bert, tmp_path / name, pooling("mean"), *modules, **options)
        found[name] = calibrate(str(folder), text=text, tokens=256, device="cpu", out=tmp_path).calibration
    matrices = {name: entry.input_importance for name, entry in found.items()}
    assert all(matrix is not None for matrix in matrices.values())
    torch.testing.assert_close(matrices["whole"], matrices["plain"])
    assert not torch.allclose(matrices["half"], matrices["plain"], rtol=0.1)
    the = transformers.AutoTokenizer.from_pretrained(bert).convert_tokens_to_ids("the")
    assert found["half"].counts[the] >= len(SENTENCES) * 4

    made = svd(str(tmp_path / "half"), rank=4, device="cpu", out=tmp_path / "half.safetensors")
    tuned = tune(made.path, text=text, steps=4, eval_steps=2, device="cpu", out=tmp_path / "tuned.safetensors")
    assert tuned.tuning is not None
    assert tuned.description.settings["tuned_modules"] == "Dense+Normalize"


# -- refusals


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: rewrite(folder, {"type": "sentence_transformers.models.LSTM"}), "lists .*LSTM in 1_Pooling"),
        (lambda folder: rewrite(folder, {"type": "own.code.Pooling"}), "lists own.code.Pooling in 1_Pooling"),
        (lambda folder: rewrite(folder, {"path": "../1_Pooling"}), "lists .*Pooling in ../1_Pooling"),
        (lambda folder: rewrite(folder, {}, kept=1), "lists no pooling"),
        (lambda folder: change(folder / "1_Pooling" / "config.json", {"pooling_mode": "median"}), "the pooling median"),
        (lambda folder: change(folder / "1_Pooling" / "config.json", {"pooling_mode": [1]}), "the pooling"),
        (
            lambda folder: change(folder / "2_Dense" / "config.json", {"module_input_name": "cls_token_embeddings"}),
            "lists .*Dense in 2_Dense",
        ),
    ],
)
def test_what_is_not_known_is_named_and_what_to_do(
    damage: Callable[[Path], object], said: str, bert: Path, tmp_path: Path
) -> None:
    from sentence_transformers.base.modules import Dense

    folder = save(bert, tmp_path / "encoder", pooling("mean"), Dense(32, 16))
    damage(folder)
    with pytest.raises(EvaluationError, match=f"{said}.*choose a `pooling`"):
        ours(folder, tmp_path)
    with pytest.raises(EvaluationError, match=said):
        calibrate(str(folder), text=Text("long", "\n".join(SENTENCES * 4)), tokens=256, device="cpu", out=tmp_path)
    assert ours(folder, tmp_path, pooling="mean").shape == (12, 32)


def rewrite(folder: Path, values: dict[str, str], kept: int = 3) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    listed[1] |= values
    (folder / "modules.json").write_text(json.dumps(listed[:kept]))


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("modules.json", "[1]", ModelError, "modules.json that can't be read"),
        ("modules.json", "{", ModelError, "modules.json that can't be read"),
        ("1_Pooling/config.json", "[]", ModelError, "1_Pooling/config.json that can't be read"),
        ("sentence_bert_config.json", '{"max_seq_length": -1}', ModelError, "can't be used: max_seq_length"),
        ("sentence_bert_config.json", '{"max_seq_length": "x"}', ModelError, "can't be used: max_seq_length"),
        ("config_sentence_transformers.json", '{"default_prompt_name": "x"}', ModelError, "default_prompt_name"),
        ("config_sentence_transformers.json", '{"prompts": 3}', ModelError, "default_prompt_name"),
        ("2_Dense/config.json", '{"activation_function": "os.system"}', ModelError, "names code: os.system"),
        ("2_Dense/config.json", '{"activation_function": "torch.nn.Nope"}', EvaluationError, "can't be used"),
        ("2_Dense/config.json", '{"in_features": 32, "out_features": 99}', EvaluationError, "can't be used"),
        ("2_Dense/config.json", "{}", EvaluationError, "can't be used"),
        ("2_Dense/model.safetensors", "", EvaluationError, "can't be used"),
    ],
)
def test_a_damaged_folder_is_one_line(
    name: str, content: str, error: type[OrientcError], said: str, bert: Path, tmp_path: Path
) -> None:
    from sentence_transformers.base.modules import Dense

    folder = save(bert, tmp_path / "encoder", pooling("mean"), Dense(32, 16))
    (folder / name).write_text(content)
    with pytest.raises(error, match=said):
        ours(folder, tmp_path)


def test_pickled_modules_are_read_if_allowed(bert: Path, tmp_path: Path) -> None:
    from sentence_transformers.base.modules import Dense

    folder = save(bert, tmp_path / "encoder", pooling("mean"), Dense(32, 16))
    expected = ours(folder, tmp_path)
    file = folder / "2_Dense" / "model.safetensors"
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    file.unlink()
    with pytest.raises(TrustError, match=r"in 2_Dense: allow .bin files with `allow_pickle`"):
        ours(folder, tmp_path)
    setup = Setup(ModelSource.resolve(str(folder), allow_pickle=True), tmp_path / "runs", CPU)
    found = SimilarityMeasurement(setup, SimilarityConfig(batch_size=5), TEXT)._vectors("")
    np.testing.assert_array_equal(found, expected)
