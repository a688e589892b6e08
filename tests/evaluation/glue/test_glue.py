"""`glue` from Python: what it takes, what it returns, and that one benchmark serves several artifacts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.commands import Ended

from orientc.compression.svd import svd
from orientc.errors import UsageError
from orientc.evaluation import finetuning
from orientc.evaluation.configs import FinetuningConfig
from orientc.evaluation.glue import data as sets
from orientc.evaluation.glue.glue import glue, glue_benchmark
from orientc.evaluation.setup import Setup
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.storage import artifact as artifacts

QUICK: dict[str, Any] = {"epochs": 0, "max_length": 64, "device": "cpu"}


def artifact(folder: Path, where: Path, rank: int) -> Path:
    path = where / f"svd-r{rank}.safetensors"
    svd(folder, rank=rank, out=path)
    return path


def test_the_function_gives_the_commands_document(
    orientc: Callable[..., Ended], bert_folder: Path, glue_folder: Path, tmp_path: Path
) -> None:
    path = artifact(bert_folder, tmp_path, 4)
    found = glue("rte", path, data=glue_folder, seeds=[1, 2], **QUICK)
    assert [run.record.settings["seed"] for run in found.runs] == [1, 2]
    assert found.summary["rte"]["accuracy"].count == 2
    assert all(run.fresh and run.model is None for run in found.runs)
    asked = ["glue", "--task", "rte", "--embeddings", path, "--data", glue_folder, "--seeds", "1,2", "--epochs", "0"]
    document = orientc(*asked, "--max-length", "64", "--device", "cpu", "--json", "-q").document
    assert all(not run.pop("fresh") for run in document["runs"])
    expected = found.as_dict()
    assert all(run.pop("fresh") for run in expected["runs"])
    assert document == expected


def test_data_is_read_once_for_all_artifacts_of_a_model(
    bert_folder: Path, glue_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, config = ModelSource.resolve(str(bert_folder)), FinetuningConfig(epochs=0, max_length=64)
    setup, limits = Setup(source, tmp_path, torch.device("cpu")), finetuning.limits(None, None, 0)
    benchmark = glue_benchmark(setup, "rte", config, data=glue_folder, limits=limits)
    for rank in (2, 4):
        path = artifact(bert_folder, tmp_path, rank)
        with monkeypatch.context() as patch:
            patch.setattr(sets, "load", None)
            reused = finetuning.run(setup, Subject(source, path, artifacts.load(path)), benchmark, config)
        alone = glue("rte", path, data=glue_folder, overwrite=True, **QUICK)
        assert reused.record.metrics == alone.runs[0].record.metrics
        assert reused.path == alone.runs[0].path


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"task": "sst3"}, "`task`"),
        ({"task": "rte", "limit_train": 0}, "`limit_train`"),
        ({"task": "rte", "limit_eval": -1}, "`limit_eval`"),
        ({"task": "rte", "save_steps": 0}, "`save_steps`"),
        ({"task": "rte", "embeddings": "folder"}, "`embeddings`"),
    ],
)
def test_what_can_not_be_asked_for_is_refused(options: dict[str, Any], field: str, bert_folder: Path) -> None:
    with pytest.raises(UsageError, match=field):
        glue(**{"model": bert_folder} | options)
