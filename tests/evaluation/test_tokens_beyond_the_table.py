"""A tokenizer that knows more tokens than its model's table has rows: one line wherever text becomes ids."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from support.commands import Ended
from support.data import SENTENCES
from support.models import cut_table
from transformers import AutoTokenizer

from orientc.compression.svd import svd
from orientc.evaluation import masked_lm
from orientc.evaluation.perplexity import perplexity
from orientc.evaluation.similarity import similarity
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource
from orientc.models.tokens import drawable_ids, padding_id

TEXT = Text("text", "\n".join(SENTENCES * 4))


def saved(folder: Path, copy: Path, **tokens: str) -> Path:
    """Copy a folder, with special tokens added to its tokenizer that its table has no rows for."""
    shutil.copytree(folder, copy)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens(tokens)
    tokenizer.save_pretrained(copy)
    return copy


@pytest.mark.parametrize("command", ["perplexity", "similarity", "glue", "squad", "tune", "calibrate"])
@pytest.mark.parametrize("model", ["bert_folder", "gpt2_folder"])
def test_every_command_says_it_in_one_line(
    command: str,
    model: str,
    tmp_path: Path,
    text_file: Path,
    glue_folder: Path,
    squad_folder: Path,
    request: pytest.FixtureRequest,
    orientc: Callable[..., Ended],
) -> None:
    folder = cut_table(request.getfixturevalue(model), tmp_path / "cut", 50)
    text = tmp_path / "text.txt"
    text.write_text(TEXT.content)
    artifact = tmp_path / "a.safetensors"
    svd(str(folder), rank=4, device="cpu", out=artifact)
    runs = ("--out", tmp_path / "runs")
    arguments: dict[str, tuple[Any, ...]] = {
        "perplexity": (folder, "--text", text, *runs),
        "similarity": (folder, "--text", text, *runs),
        "glue": ("--task", "rte", "--model", folder, "--data", glue_folder, "--epochs", 0, *runs),
        "squad": ("--model", folder, "--data", squad_folder, "--epochs", 0, *runs),
        "tune": (artifact, "--text", text, "--out", tmp_path / "tuned.safetensors"),
        "calibrate": (folder, "--text", text, *runs),
    }

    ended = orientc(command, *arguments[command], "--device", "cpu")

    assert ended.code == 1, ended.err
    line = ended.err.splitlines()[-1]  # warnings come before it
    assert "the tokenizer gives token" in line
    assert "the table has 50 rows" in line


@pytest.mark.parametrize("protocol", ["masked", "causal"])
def test_a_token_that_every_input_has_counts_too(
    protocol: str, bert_folder: Path, gpt2_folder: Path, tmp_path: Path
) -> None:
    if protocol == "masked":
        folder = saved(bert_folder, tmp_path / "model", mask_token="[HIDE]")
    else:
        folder = saved(gpt2_folder, tmp_path / "model", bos_token="<begin>")
    rows = ModelSource.resolve(str(folder)).rows
    with pytest.raises(Exception, match=f"the tokenizer gives token {rows}, the table has {rows} rows"):
        perplexity(str(folder), text=TEXT, device="cpu", out=tmp_path)


def test_padding_without_a_row_changes_no_figure(bert_folder: Path, gpt2_folder: Path, tmp_path: Path) -> None:
    """It is masked, so that any row serves; this is how most decoders' tokenizers got a padding token."""
    padded = saved(bert_folder, tmp_path / "bert", pad_token="<pad>")
    assert padding_id(ModelSource.resolve(str(padded))) == 0
    for measure in (perplexity, similarity):
        expected, found = (
            measure(str(folder), text=TEXT, batch_size=7, device="cpu", out=tmp_path / folder.name).records[0].metrics
            for folder in (bert_folder, padded)
        )
        assert found == expected


def test_random_tokens_are_drawn_from_those_with_a_row(bert_folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    rows = len(tokenizer)
    folder = shutil.copytree(bert_folder, tmp_path / "more")
    tokenizer.add_tokens([f"added{number}" for number in range(500)])
    tokenizer.save_pretrained(folder)
    source = ModelSource.resolve(str(folder))
    assert len(source.tokenizer) > rows

    assert drawable_ids(source) == rows
    options: dict[str, Any] = {"max_ids": 64, "seed": 0}
    drawn = masked_lm.select(TEXT.content, source.tokenizer, drawable=drawable_ids(source), **options)
    assert drawn == masked_lm.select(TEXT.content, AutoTokenizer.from_pretrained(bert_folder), **options)
    expected, found = (
        perplexity(str(each), text=TEXT, device="cpu", out=tmp_path / each.name).records[0].metrics
        for each in (bert_folder, folder)
    )
    assert found == expected


def test_more_rows_than_tokens_change_no_draw(bert_folder: Path, tmp_path: Path) -> None:
    """XLM-R's table has more; the figures are those of the vocabulary."""
    folder = shutil.copytree(bert_folder, tmp_path / "more")
    model = transformers.BertForMaskedLM.from_pretrained(bert_folder)
    model.resize_token_embeddings(200)
    model.save_pretrained(folder)
    source = ModelSource.resolve(str(folder))
    assert drawable_ids(source) == len(source.tokenizer) < source.rows == 200
