"""Checkpoints: which one a run goes on from, and what is never touched; folders that appear whole or not at all."""

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


def test_clearing_takes_those_of_another_run_away_only_when_told(tmp_path: Path) -> None:
    checkpoints(tmp_path, 10, run=OTHER)
    mine = checkpoints(tmp_path, 20, half=(30,))
    mine.clear()
    assert os.listdir(tmp_path) == ["checkpoint-10"]
    mine.clear(others=True)
    assert not tmp_path.exists()


# -- folders


def test_a_folder_appears_only_when_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model"

    def fill(folder: Path) -> None:
        (folder / "a").write_text("1")
        assert not path.exists()
        (folder / "b").mkdir()

    files.write_folder(path, fill)
    assert sorted(os.listdir(path)) == ["a", "b"]
    assert os.listdir(path.parent) == ["model"]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
@pytest.mark.parametrize("before", [False, True])
def test_a_fill_that_fails_leaves_things_as_they_were(
    raised: type[BaseException], before: bool, tmp_path: Path
) -> None:
    if before:
        files.write_folder(tmp_path / "model", lambda folder: (folder / "old").write_text("old"))

    def fill(folder: Path) -> None:
        (folder / "new").write_text("half")
        raise raised

    with pytest.raises(raised):
        files.write_folder(tmp_path / "model", fill)
    assert os.listdir(tmp_path) == (["model"] if before else [])
    assert not before or os.listdir(tmp_path / "model") == ["old"]


def test_a_folder_that_is_there_is_replaced_and_not_merged(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "model", lambda folder: (folder / "old").write_text("old"))
    files.write_folder(tmp_path / "model", lambda folder: (folder / "new").write_text("new"))
    assert os.listdir(tmp_path) == ["model"]
    assert os.listdir(tmp_path / "model") == ["new"]


def test_a_full_disk_leaves_nothing_and_is_named(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"can't write .*model: No space left on device$"):
        files.write_folder(tmp_path / "model", fill)
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    with pytest.raises(OutputError, match="can't write"):
        files.write_folder(tmp_path / "model", lambda folder: (folder / "new").write_text("new"))
    with pytest.raises(OutputError, match="can't write"):
        files.write_folder(tmp_path / "model" / "below", lambda folder: None)
    assert os.listdir(tmp_path) == ["model"]
    assert (tmp_path / "model").read_text() == "a file"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o077, 0o700)])
def test_permissions_of_a_folder_follow_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        files.write_folder(tmp_path / "model", lambda folder: None)
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == mode
