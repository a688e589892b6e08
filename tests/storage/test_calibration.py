from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.calibrations import DIM, VOCAB, made
from torch import Tensor

from orientc.errors import ArtifactError, CalibrationError, CalibrationMismatchError
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage import safetensors_file
from orientc.storage.calibration import Calibration


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good calibration, to be damaged."""
    path = tmp_path / "calibration.safetensors"
    calibrations.save(made(), path)
    return path


def refused(path: Path, read: Callable[[Path], object] = calibrations.load) -> str:
    """The line a file is refused with."""
    with pytest.raises(CalibrationError) as caught:
        read(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    assert len(line) < len(str(path)) + 300
    return line


def rewritten(path: Path, metadata: dict[str, str | None] | None = None, **tensors: Tensor | None) -> Path:
    """The file with some entries changed, or left out where they are None."""
    header = safetensors_file.read_header(path)
    kept = {key: value for key, value in (header.metadata | (metadata or {})).items() if value is not None}
    held = {name: tensor for name, tensor in (load_file(path) | tensors).items() if tensor is not None}
    safetensors_file.write(path, kept, held)
    return path


@pytest.mark.parametrize(
    "calibration",
    [
        made(),
        made(prior=True, head_counts=True),
        made(head_importance=False),
        made(head_importance=False, input_importance=False),
        made(head_importance=False, input_importance=False, text=None, text_sha256=None, frequency="zipf", counted=0),
    ],
)
def test_a_calibration_comes_back_as_it_was(tmp_path: Path, calibration: Calibration) -> None:
    path = tmp_path / "calibration.safetensors"
    calibrations.save(calibration, path)
    read = calibrations.load(path)
    assert read.description == calibration.description == calibrations.read_description(path)
    assert read.tensors.keys() == calibration.tensors.keys()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in calibration.tensors.items())


def test_the_same_calibration_is_the_same_bytes_and_plain_safetensors(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    calibrations.save(made(), again)
    assert again.read_bytes() == path.read_bytes()
    importances = {"input_importance", "head_importance", "input_shrinkage", "head_shrinkage"}
    assert load_file(path).keys() == {"counts"} | importances


def test_another_models_calibration_is_refused(path: Path) -> None:
    calibration = calibrations.load(path)
    calibration.check_base("0" * 64)
    with pytest.raises(CalibrationMismatchError, match=r"some/model.*another.*orientc calibrate"):
        calibration.check_base("1" * 64)


def test_the_header_is_enough_for_a_description(path: Path) -> None:
    """And it is read without torch."""
    code = (
        "import sys; from orientc.storage.calibration import read_description;"
        f"print(read_description({str(path)!r}).measured, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "300 False\n"


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({"counts": torch.ones(VOCAB + 1)}, "counts is [12] of type F32, not [11] of F32"),
        ({"counts": torch.ones(VOCAB, dtype=torch.int64)}, "counts is [11] of type I64"),
        ({"counts": None}, "counts is missing"),
        ({"prior": torch.ones(VOCAB + 1)}, "prior is [12] of type F32, not [11] of F32"),
        ({"prior": torch.zeros(VOCAB)}, "prior"),
        ({"head_counts": torch.ones(VOCAB - 1)}, "head_counts is [10] of type F32, not [11] of F32"),
        ({"head_counts": -torch.ones(VOCAB)}, "its head_counts are negative"),
        ({"head_counts": torch.ones(VOCAB), "head_importance": None, "head_shrinkage": None}, "not head_importance"),
        ({"counts": torch.zeros(VOCAB)}, "counts"),
        ({"counts": torch.ones(VOCAB).index_fill(0, torch.tensor(3), -1.0)}, "negative"),
        ({"counts": torch.ones(VOCAB).index_fill(0, torch.tensor(3), torch.nan)}, "not finite"),
        ({"input_importance": torch.eye(DIM)[1:]}, "input_importance is [5, 6]"),
        ({"input_importance": None, "input_shrinkage": None}, "belong together"),
        ({"head_importance": None}, "head_shrinkage is there, but not head_importance"),
        ({"head_shrinkage": torch.tensor(1.01)}, "head_shrinkage is 1.01, not a share"),
        ({"input_shrinkage": torch.tensor(-0.01)}, "input_shrinkage is -0.01, not a share"),
        ({"input_shrinkage": torch.zeros(1)}, "input_shrinkage is [1]"),
        ({"input_importance": torch.full((DIM, DIM), torch.inf)}, "not finite"),
        ({"head_importance": torch.ones(DIM, DIM).triu()}, "head_importance is not a symmetric"),
        ({"head_importance": -torch.eye(DIM)}, "head_importance is not a symmetric"),
        ({"latents": torch.ones(2)}, "'latents' does not belong there"),
    ],
)
def test_tensors_that_make_no_sense_are_refused(path: Path, tensors: dict[str, Tensor | None], named: str) -> None:
    assert named in refused(rewritten(path, **tensors))


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"format": "orientc"}, "not a calibration"),
        ({"format": None}, "not a calibration"),
        ({"format_version": "4"}, "update orientc"),
        ({"format_version": "1"}, "older than 2: measure it anew with orientc calibrate --overwrite"),
        ({"format_version": "one"}, "damaged"),
        ({"vocab": "0"}, "vocab"),
        ({"objective": "next sentence"}, "next sentence"),
        ({"objective": ""}, "belong together"),
        ({"counted": "-1"}, "-1"),
        ({"seed": ""}, "damaged"),
        ({"base_sha256": None}, "base_sha256 is missing"),
        ({"embed_scale": "nan"}, "not finite"),
        ({"settings": "[]"}, "settings"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(path: Path, metadata: dict[str, str | None], named: str) -> None:
    assert named in refused(rewritten(path, metadata))
    assert named in refused(path, calibrations.read_description)


def test_a_file_cut_short_anywhere_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for length in (0, 5, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refused(path)


def test_foreign_and_missing_files_are_refused(path: Path, tmp_path: Path) -> None:
    path.write_text("these are no tensors at all, only some words in a file")
    refused(path)
    path.write_bytes(struct.pack("<Q", 1 << 40) + json.dumps({}).encode())
    refused(path)
    refused(tmp_path)
    refused(tmp_path / "none.safetensors")


def test_a_calibration_is_not_an_artifact(path: Path) -> None:
    with pytest.raises(ArtifactError, match="not an orientc artifact"):
        artifacts.load(path)
