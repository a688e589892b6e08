"""`orientc inspect` from the outside: what it says of models and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.calibrations import made
from support.commands import Ended, run_here

from orientc.storage import calibration as calibrations
from orientc.utils.words import explained

Orientc = Callable[..., Ended]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    path = tmp_path_factory.mktemp("runs") / "svd-r4.safetensors"
    assert run_here("svd", bert_folder, "--rank", 4, "--out", path).code == 0
    return path


def test_a_models_tables_stand_apart_under_their_titles(orientc: Orientc, bert_folder: Path) -> None:
    ended = orientc("inspect", bert_folder, "--ratio", 2, "--ratio", 4)
    assert (ended.code, ended.err) == (0, "")
    facts, spectrum, sizes = (part.splitlines() for part in ended.out.split("\n\n"))
    assert [line.split("  ")[0] for line in facts] == [
        "model", "table", "share", "head", "padding index", "embedding scale", "row norms", "sha256",
        *explained("tied"),
    ]  # fmt: skip
    assert (spectrum[0], len(spectrum)) == ("spectrum", 3 + 5)
    assert (sizes[0], len(sizes)) == ("with a decoder and its bias", 3 + 2)
    assert [line.split()[0] for line in sizes[3:]] == ["2.00", "4.00"]


def test_a_file_says_each_thing_under_a_name_of_its_own(orientc: Orientc, artifact: Path, tmp_path: Path) -> None:
    calibration = tmp_path / "calibration.safetensors"
    calibrations.save(made(), calibration)
    for path, first in ((artifact, "artifact"), (calibration, "calibration")):
        ended = orientc("inspect", path)
        assert (ended.code, ended.err) == (0, "")
        names = [line.split("  ")[0] for line in ended.out.splitlines()]
        assert names[0] == first
        assert len({*names}) == len(names)
        assert orientc("inspect", path, "--json").document[first] == str(path)


def test_the_base_models_weights_are_told(orientc: Orientc, artifact: Path) -> None:
    (line,) = (line for line in orientc("inspect", artifact).out.splitlines() if line.startswith("all weights"))
    assert line.split("  ")[-1].startswith("0.0 M parameters, 0.")
