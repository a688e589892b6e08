from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import Ended

from orientc.errors import UsageError
from orientc.utils.tracking import trackers

reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would show of a folder: steps and values by name."""
    events = reader.EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_without_a_name_nothing_is_tracked(tmp_path: Path) -> None:
    with trackers([], tmp_path / "logs", {}) as track:
        track(1, {"objective": 0.5})
    assert os.listdir(tmp_path) == []


def test_every_epoch_is_an_event(tmp_path: Path) -> None:
    with trackers(["tensorboard"], tmp_path / "logs", {"rank": 4, "init": "subspace"}) as track:
        track(1, {"objective": 0.5})
        track(2, {"objective": 0.25})
    assert scalars(tmp_path / "logs" / "orientc")["objective"] == [(1, 0.5), (2, 0.25)]


@pytest.mark.parametrize("name", ["paper-and-pencil", "", "tensorboard,wandb"])
def test_an_unknown_tracker_is_a_wrong_request(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(UsageError, match="tensorboard") as caught,
        trackers([name], tmp_path / "logs", {}),
    ):
        pytest.fail("nothing should be tracked")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_fit_is_tracked_beside_its_artifact(orientc: Callable[..., Ended], bert_folder: Path, tmp_path: Path) -> None:
    """Each fit in a folder of its own: TensorBoard would draw two fits in one folder as one curve."""
    arguments = ["compress", bert_folder, "--dtype", "float16", "--epochs", "2", "--device", "cpu", "--quiet"]
    for name in ("one", "two"):
        out = tmp_path / f"{name}.safetensors"
        ended = orientc(*arguments, "--rank", "4", "--log-with", "tensorboard", "--out", out)
        assert (ended.code, ended.err) == (0, "")
        logged = scalars(tmp_path / name / "orientc")
        assert [step for step, _ in logged["objective"]] == [1, 2]
        assert {"cosine", "rmse", "mae", "power_0_1", "power_0_6", "learning_rate"} <= logged.keys()
    (noted,) = (tmp_path / "one").rglob("hparams.yml")
    assert "dtype: float16\n" in noted.read_text()


def test_an_unknown_tracker_ends_with_2(orientc: Callable[..., Ended], bert_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    ended = orientc("compress", bert_folder, "--rank", "4", "--log-with", "paper-and-pencil", "--out", out)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)
    assert "paper-and-pencil" in ended.err
    assert os.listdir(tmp_path) == []
