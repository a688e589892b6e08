"""Checkpoints: which one a run goes on from, and what is never touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orientc.errors import OutputError
from orientc.evaluation.checkpoints import MARK, Checkpoints
from orientc.utils import files

RUN = {"identity": {"settings": {"seed": 0, "learning_rate": 2e-05}, "text": None}, "versions": {"torch": "2"}}
OTHER = RUN | {"versions": {"torch": "3"}}


def checkpoints(folder: Path, *steps: int, run: dict[str, object] = RUN, half: tuple[int, ...] = ()) -> Checkpoints:
    """A folder with whole checkpoints of some steps, and half-written ones of others."""
    found = Checkpoints(folder, run)
    found.begin()
    for step in (*steps, *half):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        (folder / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"weights")
    for step in steps:
        found.mark_whole(step)
    return found


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_without_checkpoints_a_run_starts_afresh(resume: bool, overwrite: bool, tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", RUN).last(resume=resume, overwrite=overwrite) is None
    assert checkpoints(tmp_path, half=(3, 7)).last(resume=resume, overwrite=overwrite) is None


def test_the_last_whole_checkpoint_counts_by_its_number(tmp_path: Path) -> None:
    found = checkpoints(tmp_path, 9, 10, 100, half=(1000,))
    assert found.last(resume=True, overwrite=False) == tmp_path / "checkpoint-100"


def test_what_only_looks_like_a_checkpoint_is_none(tmp_path: Path) -> None:
    found = checkpoints(tmp_path, 3)
    for name in ("checkpoint-best", "checkpoint-", "checkpoint-4.part", "checkpoint--5"):
        (tmp_path / name).mkdir()
        files.write_json(tmp_path / name / MARK, RUN)
    (tmp_path / "checkpoint-6").write_text("a file")
    assert found.last(resume=True, overwrite=False) == tmp_path / "checkpoint-3"


def test_a_run_does_not_go_on_or_start_over_unasked(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="from step 20 with `resume`, or start over with `overwrite`") as raised:
        checkpoints(tmp_path, 10, 20).last(resume=False, overwrite=False)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("resume", [False, True])
def test_checkpoints_of_another_run_are_refused(resume: bool, tmp_path: Path) -> None:
    checkpoints(tmp_path, 10, run=OTHER)
    with pytest.raises(OutputError, match="checkpoints of another run: start over with `overwrite`"):
        Checkpoints(tmp_path, RUN).last(resume=resume, overwrite=False)


@pytest.mark.parametrize("mark", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_damaged_mark_is_that_of_another_run(mark: bytes, tmp_path: Path) -> None:
    found = checkpoints(tmp_path, 10)
    (tmp_path / "checkpoint-10" / MARK).write_bytes(mark)
    with pytest.raises(OutputError, match="another run"):
        found.last(resume=True, overwrite=False)


def test_starting_over_looks_at_no_checkpoint(tmp_path: Path) -> None:
    for name, run in {"mine": RUN, "other": OTHER}.items():
        checkpoints(tmp_path / name, 10, run=run)
        assert Checkpoints(tmp_path / name, RUN).last(resume=False, overwrite=True) is None


def test_clearing_removes_checkpoints_and_their_folder(tmp_path: Path) -> None:
    found = checkpoints(tmp_path / "here", 1, 2, half=(3,))
    found.clear()
    assert not (tmp_path / "here").exists()
    found.clear()  # there is nothing left to do


def test_clearing_leaves_what_is_not_a_checkpoint(tmp_path: Path) -> None:
    """`checkpoint_dir` may name a folder that was there before, with other things in it."""
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "checkpoint-best").mkdir()
    checkpoints(tmp_path, 1, 2, half=(3,)).clear()
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-best", "thesis.tex"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_checkpoints_of_other_programs_are_refused_and_never_removed(overwrite: bool, tmp_path: Path) -> None:
    """As transformers' own `Trainer` leaves them."""
    (tmp_path / "checkpoint-500").mkdir()
    (tmp_path / "checkpoint-500" / "model.safetensors").write_bytes(b"weights")
    found = Checkpoints(tmp_path, RUN)
    with pytest.raises(OutputError, match="holds checkpoint-500, which orientc did not write: name another folder"):
        found.last(resume=True, overwrite=overwrite)
    found.clear(others=True)
    assert (tmp_path / "checkpoint-500" / "model.safetensors").read_bytes() == b"weights"


def test_clearing_takes_those_of_another_run_away_only_when_told(tmp_path: Path) -> None:
    checkpoints(tmp_path, 10, run=OTHER)
    mine = checkpoints(tmp_path, 20, half=(30,))
    mine.clear()
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-10", MARK]
    mine.clear(others=True)
    assert not tmp_path.exists()
