"""`shrink` of a model whose head has a table of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.documents import valid
from support.untied import docstrings, save_untied, several, word_pieces
from transformers import PreTrainedTokenizerFast

import orientc
from orientc import demo
from orientc.compression.configs import TargetConfig
from orientc.compression.shared_budget import SharedBudget
from orientc.errors import NoTableError, UsageError
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.utils.progress import Progress
from orientc.workflows import fresh_process
from orientc.workflows.fresh_process import Loaded
from orientc.workflows.request import tables_for
from orientc.workflows.shrunk import Shrunk
from orientc.workflows.tolerance import PERPLEXITY, SIMILARITY


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    return save_untied(tmp_path_factory.mktemp("models") / "untied", bytes_bpe)


@pytest.fixture
def shrunk(model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(fresh_process, "loaded", lambda *_: Loaded(0, None, "of a test"))

    def run(**options: Any) -> Shrunk:
        given: dict[str, Any] = {"text": text, "tokens": 500, "limit": 600, "out": tmp_path / "runs", "device": "cpu"}
        return orientc.shrink(model, tmp_path / "small", **given | options)

    return run


def test_both_tables_share_a_size(shrunk: Any, model: Path, tmp_path: Path) -> None:
    done = shrunk(target_bits=5)
    assert done.head == "both"
    assert [artifacts.read_description(path).base.table for path in done.artifacts] == ["input", "head"]
    tables = [read_table(model, table=table).info for table in ("input", "head")]
    numbers, nbytes = sum(table.vocab * table.dim for table in tables), sum(table.nbytes for table in tables)
    assert done.base_table == nbytes
    assert 0.9 * 5 * numbers / 8 < done.table <= 5 * numbers / 8
    assert done.bits <= 5
    held = ModelSource.resolve(str(tmp_path / "small")).compact
    assert held is not None
    assert (held.head, held.tables.keys()) == ("both", {"input", "head"})
    assert Shrunk.from_dict(valid(json.loads(json.dumps(done.as_dict())))) == done
    assert not shrunk(target_bits=5).fresh


def test_one_of_them_can_be_chosen(shrunk: Any) -> None:
    done = shrunk(target_bits=5, table="head")
    assert (done.head, len(done.artifacts)) == ("head-only", 1)
    assert artifacts.read_description(done.artifact).base.table == "head"
    dry = shrunk(target_bits=5, table="input", dry_run=True)
    assert (dry.head, len(dry.predicted)) == ("input-only", 1)
    assert dry.predicted[0].table is not None
    assert dry.base_table == done.base_table


def test_the_effort_is_that_of_each_artifact(shrunk: Any) -> None:
    fast, best = shrunk(target_bits=5), shrunk(target_bits=5, effort="best", overwrite=True)
    settings = [artifacts.read_description(path).settings for path in (*fast.artifacts, *best.artifacts)]
    assert [own.get("effort") for own in settings] == [None, None, "best", "best"]
    assert [own["target_mb"] for own in settings[:2]] == [own["target_mb"] for own in settings[2:]]


def test_a_tolerance_is_searched_in_bits_of_both(shrunk: Any) -> None:
    done = shrunk(within="20%")
    assert done.tried
    assert done.inside
    assert len(done.artifacts) == 2


def test_what_nothing_predicts_is_left(tmp_path: Path, model: Path) -> None:
    said: list[str] = []

    several("gemma3n").save_pretrained(tmp_path)
    gemma, llama = ModelSource.resolve(tmp_path), ModelSource.resolve(model)
    options: dict[str, Any] = {"progress": Progress(warn=said.append)}
    assert tables_for(gemma, None, PERPLEXITY, **options) == ("input",)
    assert said == ["nothing predicts what embed_tokens_per_layer would lose: left as in the original"]
    assert tables_for(llama, "all", PERPLEXITY, **options) == ("input", "head")
    assert tables_for(llama, None, SIMILARITY, **options) == ("input",)
    with pytest.raises(UsageError, match="the table head can't be made smaller by similarity"):
        tables_for(llama, "head", SIMILARITY, **options)
    with pytest.raises(NoTableError, match="its head shares the input's"):
        tables_for(gemma, "head", PERPLEXITY, **options)
    assert len(said) == 1


@pytest.mark.slow
def test_sharing_a_size_out_loses_less_than_equal_bits(tmp_path: Path) -> None:
    """By prediction, and by the divergence on another text, at a loss as small as predictions are good for.

    The difference of losses on a text has a part that goes with the very errors that a table happens to have, however
    long the text is, and that is as large as what sharing gains where both tables lose about as much.
    """
    folder = save_untied(tmp_path / "trained", word_pieces(1000), width=48, steps=500)
    known = orientc.calibrate(folder, text=docstrings(), tokens=8192, out=tmp_path, device="cpu").calibration
    tables = [read_table(folder, table=table) for table in ("input", "head")]
    asked = TargetConfig(target_bits=4)
    predicted, measured = [], []
    for number, configs in enumerate(([asked, asked], SharedBudget(tables, known, "cpu").shares(asked))):
        made = [
            orientc.compress(table, config=config, calibration=known, out=tmp_path / str(number), device="cpu")
            for table, config in zip(tables, configs, strict=True)
        ]
        assert sum(each.description.nbytes for each in made) <= 4 * sum(t.info.vocab * t.info.dim for t in tables) / 8
        scored = Text("evaluation", demo.evaluation_text())
        records = orientc.perplexity([each.path for each in made], text=scored, limit=40_000, device="cpu").records
        predicted.append(sum(each.cost for each in made))
        measured.append(records[1].metrics["kl"])
    assert predicted[1] < predicted[0]
    assert measured[1] < measured[0]
