from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import quantized
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import orientc
from orientc.compression.gguf_tables import check_calibration, say_rough
from orientc.errors import CalibrationMismatchError, FitError
from orientc.models.table import Table, read_table
from orientc.utils.progress import Progress

pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    return quantized.llama(tmp_path_factory.mktemp("llama") / "plain", bytes_bpe, torch.float32)


@pytest.fixture(scope="module")
def calibration(folder: Path) -> orientc.Calibration:
    text = folder.parent / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog and runs away. " * 30)
    made = orientc.calibrate(folder, text=text, tokens=256, device="cpu", out=folder.parent / "c.safetensors")
    return made.calibration


def gguf_table(folder: Path, weight: Tensor) -> Table:
    """What is read of a GGUF file with such a table."""
    return Table(weight, replace(read_table(folder).info, id="some/model.gguf", sha256="1" * 64))


def test_a_folders_calibration_holds_for_its_own_gguf_file(folder: Path, calibration: orientc.Calibration) -> None:
    weight = read_table(folder).weight
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * weight.std()
    check_calibration(calibration, gguf_table(folder, weight + 0.02 * noise))
    with pytest.raises(CalibrationMismatchError, match=r"differs from that of some/model\.gguf by 50%"):
        check_calibration(calibration, gguf_table(folder, weight + 0.5 * noise))
    with pytest.raises(CalibrationMismatchError, match="make one for this file"):
        check_calibration(calibration, gguf_table(folder, torch.full_like(weight, torch.nan)))


def test_rows_are_counted(folder: Path, calibration: orientc.Calibration) -> None:
    table = gguf_table(folder, read_table(folder).weight)
    short = replace(table, info=replace(table.info, vocab=table.info.vocab - 1))
    with pytest.raises(CalibrationMismatchError, match="is 319 × 32"):
        check_calibration(calibration, short)


def test_for_another_folder_close_is_not_enough(folder: Path, calibration: orientc.Calibration) -> None:
    table = gguf_table(folder, read_table(folder).weight)
    other = replace(table, info=replace(table.info, id="some/model"))
    with pytest.raises(CalibrationMismatchError, match="this model's table is another"):
        check_calibration(calibration, other)


def test_a_folder_that_is_gone_is_one_line(folder: Path, calibration: orientc.Calibration) -> None:
    described = replace(calibration.description, base=replace(calibration.description.base, id="./gone"))
    table = gguf_table(folder, read_table(folder).weight)
    with pytest.raises(CalibrationMismatchError, match=r"there is no folder \./gone"):
        check_calibration(replace(calibration, description=described), table)


@pytest.mark.parametrize(("bits", "said"), [(4.5, True), (5.5, True), (6.5625, False), (8.5, False), (16, False)])
def test_a_rough_table_is_said(bits: float, said: bool, folder: Path) -> None:
    heard: list[str] = []
    info = gguf_table(folder, read_table(folder).weight).info
    say_rough(replace(info, dtype="QX", nbytes=int(info.vocab * info.dim * bits / 8)), Progress(warn=heard.append))
    assert len(heard) == said
    assert all(f"{bits:.3g} bits" in line and "QX" in line for line in heard)


def test_blocks_that_do_not_divide_the_columns_are_refused(folder: Path) -> None:
    with pytest.raises(FitError, match="256 numbers, which do not divide the table's 32 columns: choose one of Q4_0"):
        orientc.quantize(folder, block="Q4_K", out=folder.parent / "x.safetensors")
