"""Folders that appear whole, and the list that says what of them may be replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import documents

from orientc.errors import OutputError
from orientc.utils import folders


def made(path: Path, **contents: str) -> Path:
    """A folder of ours with a file in it and one below."""

    def fill(folder: Path) -> None:
        (folder / "below").mkdir()
        for name, content in ({"a": "1", "below/b": "2"} | contents).items():
            (folder / name).write_text(content)

    folders.write_folder(path, fill, overwrite=False)
    return path


def fill(folder: Path) -> None:
    (folder / "new").write_text("new")


def contents(folder: Path) -> dict[str, str | None]:
    """All that is in a folder, links by what they lead to."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def a_file(folder: Path) -> None:
    (folder / "thesis.tex").write_text("years of work")


def a_hidden_file(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")


def a_file_below(folder: Path) -> None:
    (folder / "below" / "notes").write_text("mine")


def a_link(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "nowhere")


def a_link_to_a_folder(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent)


def a_change(folder: Path) -> None:
    (folder / "a").write_text("by hand")


def a_link_for_a_file(folder: Path) -> None:
    (folder / "a").rename(folder.parent / "elsewhere")
    (folder / "a").symlink_to(folder.parent / "elsewhere")


def no_list(folder: Path) -> None:
    (folder / folders.LIST).unlink()


def a_damaged_list(folder: Path) -> None:
    (folder / folders.LIST).write_text('{"format": "orientc-files", "files": ["a"]}')


def somebody_elses_list(folder: Path) -> None:
    (folder / folders.LIST).write_text('{"files": {"a": "1"}}')


FOREIGN: dict[Callable[[Path], None], str] = {
    a_file: "thesis.tex, which orientc did not write",
    a_hidden_file: ".git/HEAD, which orientc did not write",
    a_file_below: "below/notes, which orientc did not write",
    a_link: "link, which orientc did not write",
    a_link_to_a_folder: "link, which orientc did not write",
    a_change: "a, which was changed since orientc wrote it",
    a_link_for_a_file: "a, which was changed since orientc wrote it",
    no_list: "a, which orientc did not write",
    a_damaged_list: "a, which orientc did not write",
    somebody_elses_list: "a, which orientc did not write",
}


@pytest.mark.parametrize("meddle", FOREIGN)
def test_what_is_not_on_the_list_stops_it_before_the_work_and_at_its_end(
    meddle: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = made(tmp_path / "out")
    meddle(folder)
    before = contents(tmp_path)
    with pytest.raises(OutputError) as early:
        folders.check_place(folder, overwrite=True)
    with pytest.raises(OutputError) as late:
        folders.write_folder(folder, fill, overwrite=True)
    for raised in (early, late):
        assert str(raised.value).startswith(f"{folder} holds {FOREIGN[meddle]}: `overwrite` would lose it")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("meddle", FOREIGN)
def test_what_appears_while_a_folder_is_written_is_not_lost(meddle: Callable[[Path], None], tmp_path: Path) -> None:
    folder, before = made(tmp_path / "out"), {}

    def slow(target: Path) -> None:
        fill(target)
        meddle(folder)
        before.update(contents(folder))

    folders.check_place(folder, overwrite=True)
    with pytest.raises(OutputError, match="holds"):
        folders.write_folder(folder, slow, overwrite=True)
    assert contents(folder) == before


@pytest.mark.parametrize("taken", [False, True])
def test_what_appears_between_the_last_look_and_the_move_is_put_back(
    taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, replace = made(tmp_path / "out"), os.replace

    def late(source: Path, target: Path) -> None:
        if Path(source) == folder:
            a_file(folder)
        replace(source, target)
        if Path(source) == folder and taken:
            shutil.copytree(target, folder)  # somebody else is as quick
            (folder / "theirs").write_text("theirs")

    monkeypatch.setattr(os, "replace", late)
    with pytest.raises(
        OutputError, match=r"holds thesis\.tex, which orientc did not write, and was left as it is"
    ) as said:
        folders.write_folder(folder, fill, overwrite=True)
    kept = Path(str(said.value).partition(" holds ")[0])
    assert (kept == folder) != taken
    assert (kept / "thesis.tex").read_text() == "years of work"
    assert (kept / "a").read_text() == "1"
    assert not list(tmp_path.glob(".*"))


def test_without_being_asked_nothing_is_replaced_not_even_what_came_meanwhile(tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def slow(target: Path) -> None:
        fill(target)
        made(folder)

    with pytest.raises(OutputError, match="is there already: name another place"):
        folders.write_folder(folder, slow, overwrite=False)
    assert contents(folder).keys() == {"a", "below/b", folders.LIST}
    with pytest.raises(OutputError, match="is there already"):
        folders.check_place(folder, overwrite=False)


def test_a_file_that_came_meanwhile_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    def slow(target: Path) -> None:
        fill(target)
        (tmp_path / "out").write_text("mine")

    with pytest.raises(OutputError, match="can't write"):
        folders.write_folder(tmp_path / "out", slow, overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_is_no_place_for_a_folder(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(made(tmp_path / "out"))
    with pytest.raises(OutputError, match="link is a link: name the place it leads to"):
        folders.check_place(tmp_path / "link", overwrite=overwrite)


def test_an_untouched_folder_is_replaced_wherever_it_was_moved_and_with_parts_gone(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made(tmp_path / "out"), tmp_path / "copy"))
    (folder / "a").unlink()
    os.utime(folder / "below" / "b", (0, 0))
    (folder / "empty").mkdir()
    folders.check_place(folder, overwrite=True)
    folders.write_folder(folder, fill, overwrite=True)
    assert contents(folder).keys() == {"new", folders.LIST}


def test_the_list_names_every_file_by_its_hash(tmp_path: Path) -> None:
    folder = made(tmp_path / "out", ü="3")
    listed = documents.read(folder / folders.LIST)
    assert listed == {
        "format": "orientc-files",
        "version": 1,
        "files": {
            "a": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
            "below/b": "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35",
            "ü": "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce",
        },
    }
    assert folders.files_of(folder) == ["a", "below/b", folders.LIST, "ü"]
    assert folders.files_of(tmp_path) == []


def test_a_file_is_added_to_a_folder_of_ours_or_a_new_one(tmp_path: Path) -> None:
    for folder in (made(tmp_path / "out"), tmp_path / "new" / "one"):
        for content in (b"first", b"second"):
            folders.add_file(folder, "more", content)
            assert (folder / "more").read_bytes() == content
        folders.check_place(folder, overwrite=True)
        (folder / "more").write_bytes(b"by hand")
        with pytest.raises(OutputError, match="holds more, which was changed since"):
            folders.add_file(folder, "more", b"third")
        (folder / "mine").write_bytes(b"mine")
        with pytest.raises(OutputError, match="holds mine, which orientc did not write"):
            folders.add_file(folder, "mine", b"third")
        assert {(folder / name).read_bytes() for name in ("more", "mine")} == {b"by hand", b"mine"}


# -- whole or not at all


def test_a_folder_appears_only_when_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model"

    def fill(folder: Path) -> None:
        (folder / "a").write_text("1")
        assert not path.exists()
        (folder / "b").mkdir()

    folders.write_folder(path, fill, overwrite=True)
    assert sorted(os.listdir(path)) == ["a", "b", folders.LIST]
    assert os.listdir(path.parent) == ["model"]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
@pytest.mark.parametrize("before", [False, True])
def test_a_fill_that_fails_leaves_things_as_they_were(
    raised: type[BaseException], before: bool, tmp_path: Path
) -> None:
    if before:
        folders.write_folder(tmp_path / "model", lambda folder: (folder / "old").write_text("old"), overwrite=True)

    def fill(folder: Path) -> None:
        (folder / "new").write_text("half")
        raise raised

    with pytest.raises(raised):
        folders.write_folder(tmp_path / "model", fill, overwrite=True)
    assert os.listdir(tmp_path) == (["model"] if before else [])
    assert not before or sorted(os.listdir(tmp_path / "model")) == ["old", folders.LIST]


def test_a_folder_that_is_there_is_replaced_and_not_merged(tmp_path: Path) -> None:
    folders.write_folder(tmp_path / "model", lambda folder: (folder / "old").write_text("old"), overwrite=True)
    folders.write_folder(tmp_path / "model", lambda folder: (folder / "new").write_text("new"), overwrite=True)
    assert os.listdir(tmp_path) == ["model"]
    assert sorted(os.listdir(tmp_path / "model")) == ["new", folders.LIST]


def test_a_full_disk_leaves_nothing_and_is_named(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"can't write .*model: No space left on device$"):
        folders.write_folder(tmp_path / "model", fill, overwrite=True)
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    with pytest.raises(OutputError, match="can't write"):
        folders.write_folder(tmp_path / "model", lambda folder: (folder / "new").write_text("new"), overwrite=True)
    with pytest.raises(OutputError, match="can't write"):
        folders.write_folder(tmp_path / "model" / "below", lambda folder: None, overwrite=True)
    assert os.listdir(tmp_path) == ["model"]
    assert (tmp_path / "model").read_text() == "a file"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o077, 0o700)])
def test_permissions_of_a_folder_follow_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        folders.write_folder(tmp_path / "model", lambda folder: None, overwrite=True)
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == mode
