"""What is said of an artifact that was made without a calibration."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.data import SENTENCES

import orientc
from orientc.compression import alternative as module
from orientc.compression.alternative import alternative
from orientc.evaluation.texts import Text

TEXT = Text("village", "\n".join(SENTENCES))


def test_without_a_calibration_at_hand_it_says_how_to_get_one(bert_folder: Path, tmp_path: Path) -> None:
    made = orientc.svd(bert_folder, rank=4, out=tmp_path)
    told = alternative(made, out=tmp_path)
    assert told
    assert f"orientc calibrate {bert_folder}" in told
    assert "orientc shrink" in told


def test_with_one_at_hand_it_says_what_a_target_of_the_size_would_lose(bert_folder: Path, tmp_path: Path) -> None:
    calibrated = orientc.calibrate(bert_folder, text=TEXT, tokens=256, out=tmp_path)
    made = orientc.svd(bert_folder, rank=4, out=tmp_path)
    told = alternative(made, out=tmp_path)
    assert told
    assert str(calibrated.path) in told
    size = made.description.nbytes / 1e6
    other = orientc.compress(bert_folder, target_mb=size, calibration=calibrated.path, out=tmp_path)
    assert f"{other.description.distances['cost']:.3g}; compress with `target_mb` {size:.4g}" in told


def test_of_a_large_table_it_names_the_calibration_at_hand_and_fits_nothing(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated = orientc.calibrate(bert_folder, text=TEXT, tokens=256, out=tmp_path)
    made = orientc.svd(bert_folder, rank=4, out=tmp_path)
    base = made.description.base

    def told() -> str:
        return module.alternative(made, out=tmp_path) or ""

    monkeypatch.setattr(module, "_MOST", base.vocab * base.dim)
    assert "nats per token" in told()
    monkeypatch.setattr(module, "_MOST", base.vocab * base.dim - 1)
    monkeypatch.delattr(module, "fit_table")
    assert f"{calibrated.path} is one; compress with `target_mb` {made.description.nbytes / 1e6:.4g}" in told()


def test_of_another_model_no_calibration_is_taken(bert_folder: Path, gpt2_folder: Path, tmp_path: Path) -> None:
    other = orientc.calibrate(gpt2_folder, text=TEXT, tokens=256, out=tmp_path / "c.safetensors").path
    made = orientc.svd(bert_folder, rank=4, out=tmp_path)
    other.rename(made.path.parent / "calibration-00000000.safetensors")
    assert "orientc calibrate" in (alternative(made, out=tmp_path) or "")


@pytest.mark.parametrize("how", ["calibrated", "target"])
def test_there_is_nothing_to_say_of_what_has_one_or_is_a_target(how: str, bert_folder: Path, tmp_path: Path) -> None:
    calibration = orientc.calibrate(bert_folder, text=TEXT, tokens=256, out=tmp_path).path
    if how == "target":
        made = orientc.compress(bert_folder, target_bits=8, out=tmp_path)
    else:
        made = orientc.svd(bert_folder, rank=4, calibration=calibration, out=tmp_path)
    assert alternative(made, out=tmp_path) is None
