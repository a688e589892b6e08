"""How long an input may be: tokenizers that say so in numbers that are none, and models without positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.architectures import build
from support.data import SENTENCES
from transformers import PreTrainedTokenizerFast

from orientc.errors import EvaluationError
from orientc.evaluation.perplexity import perplexity
from orientc.evaluation.sentences import Sentences
from orientc.evaluation.similarity import similarity
from orientc.models.lengths import UNLIMITED, usable_positions
from orientc.models.source import ModelSource
from orientc.models.table import read_table

# what stands for the limit in tokenizer_config.json → what it limits to, None where it does not
LIMITS: list[tuple[Any, int | None]] = [
    (1e30, None), (-1, None), (0, None), (0.5, None), ("x", None), ("64", None), (None, None), (True, None), ([], None),
    (10**40, None), (12, 12), (12.0, 12), (1000, None),
]  # fmt: skip
WITHOUT_POSITIONS = ["t5", "t5-encoder", "mt5", "umt5", "mamba2-untied", "xlnet"]


@pytest.fixture
def folder(tmp_path: Path, wordpiece: PreTrainedTokenizerFast) -> Path:
    config = transformers.BertConfig(
        vocab_size=len(wordpiece),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "model")
    wordpiece.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def limit(folder: Path, value: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": value}))


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("bert", 64),
        ("roberta", 64 - 2),  # its table starts with padding_idx + 1 rows that no token has
        ("xlm-roberta", 64 - 2),
        ("albert", 64),
        ("electra", 64),
        ("distilbert", 512),
        ("gpt2", 64),
        ("llama", 64),
        ("gemma3", 64),
        ("t5", None),
    ],
)
def test_usable_positions(name: str, positions: int | None) -> None:
    assert usable_positions(build(name)) == positions


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "mpnet", "gpt2"])
def test_usable_positions_are_the_most_a_model_takes(name: str) -> None:
    model = build(name)
    positions = usable_positions(model)
    assert positions is not None

    model(input_ids=torch.full((1, positions), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, positions + 1), 5))


@pytest.mark.parametrize(("value", "tokens"), LIMITS)
def test_a_limit_that_is_none_leaves_the_positions(value: Any, tokens: int | None, folder: Path) -> None:
    limit(folder, value)
    source = ModelSource.resolve(folder)
    assert source.longest == (tokens or 64)
    assert len(source.tokenizer("the fox " * 60, truncation=True, max_length=source.longest)["input_ids"]) == (
        tokens or 64
    )
    source.tokenizer.save_pretrained(folder.with_name("again"))  # as an export does
    again = transformers.AutoTokenizer.from_pretrained(folder.with_name("again"))
    assert again.model_max_length == source.tokenizer.model_max_length >= source.longest


@pytest.mark.parametrize("value", [1e30, -1, "x", None])
def test_every_evaluation_takes_such_a_limit_for_none(
    value: Any, folder: Path, text_file: Path, glue_folder: Path, tmp_path: Path
) -> None:
    limit(folder, 64)
    measured = []
    for given in (64, value):
        limit(folder, given)
        found = perplexity(folder, text=text_file, device="cpu", out=tmp_path / "runs")
        alike = similarity(folder, data=glue_folder, device="cpu", out=tmp_path / "runs")
        measured.append([found.records[0].metrics, alike.records[0].metrics])
    assert measured[0] == measured[1]


@pytest.mark.parametrize("name", WITHOUT_POSITIONS)
@pytest.mark.parametrize("value", [1e30, -1, "x"])
def test_models_without_positions_have_no_limit_but_the_tokenizers(
    name: str, value: Any, tmp_path: Path, wordpiece: PreTrainedTokenizerFast
) -> None:
    model = build(name)
    assert usable_positions(model) is None
    model.save_pretrained(tmp_path)
    wordpiece.save_pretrained(tmp_path)
    limit(tmp_path, value)
    assert ModelSource.resolve(tmp_path).longest == UNLIMITED
    limit(tmp_path, 12)
    assert ModelSource.resolve(tmp_path).longest == 12


def test_a_long_line_of_a_model_without_positions_is_scored_whole(
    tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    config = transformers.BloomConfig(vocab_size=len(bytes_bpe), hidden_size=32, n_layer=1, n_head=2)
    transformers.BloomForCausalLM(config).save_pretrained(tmp_path / "model")
    bytes_bpe.save_pretrained(tmp_path / "model")
    limit(tmp_path / "model", -1)
    path = tmp_path / "text.txt"
    path.write_text(" ".join(SENTENCES * 3))
    (record,) = perplexity(tmp_path / "model", text=path, device="cpu", out=tmp_path / "runs").records
    assert record.settings["window"] == 1024
    assert record.metrics["tokens"] == len(bytes_bpe(path.read_text())["input_ids"])


# -- T5's encoder alone


@pytest.mark.parametrize(
    ("config", "kind"),
    [("T5Config", "T5EncoderModel"), ("MT5Config", "MT5EncoderModel"), ("UMT5Config", "UMT5EncoderModel")],
)
def test_an_encoder_saved_alone_is_loaded_by_its_own_class(
    config: str, kind: str, tmp_path: Path, wordpiece: PreTrainedTokenizerFast, glue_folder: Path
) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
    made = getattr(transformers, config)(vocab_size=len(wordpiece), **sizes)
    getattr(transformers, kind)(made).save_pretrained(tmp_path / "model")
    wordpiece.save_pretrained(tmp_path / "model")
    source = ModelSource.resolve(tmp_path / "model")
    assert not source.is_encoder_decoder
    for model in (
        source.load(None, dtype=torch.float32),
        Sentences(source).load(torch.float32, torch.device("cpu")),
    ):
        assert type(model).__name__ == kind
        assert torch.equal(model.get_input_embeddings().weight, read_table(source).weight)
    with pytest.raises(EvaluationError, match="no language-model head"):
        perplexity(source, device="cpu", out=tmp_path / "runs")
    (record,) = similarity(source, data=glue_folder, device="cpu", out=tmp_path / "runs").records
    assert record.metrics["sentences"] > 0
