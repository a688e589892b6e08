from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from orientc.errors import OutputError
from orientc.utils import files, folders


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, raised: type[BaseException]) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"old")

    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise raised

    with pytest.raises(raised):
        files.write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["result"]


def test_a_full_disk_leaves_nothing_and_is_named(tmp_path: Path) -> None:
    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"result: No space left on device$"):
        files.write_atomically(tmp_path / "result", write)
    assert os.listdir(tmp_path) == []


def test_nobody_sees_a_file_that_is_half_written(tmp_path: Path) -> None:
    path = tmp_path / "result"

    def write(stream: BinaryIO) -> None:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"

    path.write_bytes(b"old")
    files.write_atomically(path, write)
    assert path.read_bytes() == b"new"


def left_over(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith("."))


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "result"
    for name in (".result.abcd_123.part", ".result.0.part", ".other.abcd_123.part", "result.abcd_123.part"):
        (tmp_path / name).write_bytes(b"half")
    folder = tmp_path / ".result.folder00.part"
    folder.mkdir()
    (folder / "file").write_bytes(b"half")
    files.write_atomically(path, lambda stream: stream.write(b"new"))
    assert left_over(tmp_path) == [".other.abcd_123.part", ".result.0.part"]
    assert path.read_bytes() == b"new"


def test_what_a_living_writer_is_writing_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "result"

    def write(stream: BinaryIO) -> None:
        stream.write(b"slow")
        files.write_atomically(path, lambda stream: stream.write(b"quick"))
        assert path.read_bytes() == b"quick"

    def fill(folder: Path) -> None:
        (folder / "one").write_bytes(b"slow")
        folders.write_folder(tmp_path / "folder", lambda folder: (folder / "two").write_bytes(b"quick"), overwrite=True)
        assert sorted(os.listdir(tmp_path / "folder")) == [folders.LIST, "two"]

    files.write_atomically(path, write)
    folders.write_folder(tmp_path / "folder", fill, overwrite=True)
    assert path.read_bytes() == b"slow"
    assert sorted(os.listdir(tmp_path / "folder")) == ["one", folders.LIST]
    assert left_over(tmp_path) == []


def test_a_file_system_without_locks_is_written_to_and_nothing_of_others_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    (tmp_path / ".result.abcd_123.part").write_bytes(b"half")
    files.write_json(tmp_path / "result", 1)
    assert sorted(os.listdir(tmp_path)) == [".result.abcd_123.part", "result"]


# Writes one of two results over and over: "a" and "b" are as long as they are, and slow.
WRITER = """
import sys, time
from pathlib import Path
from orientc.utils import files, folders
letter, target, times = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
def write(stream):
    for _ in range(4):
        stream.write(letter.encode() * 1000)
        stream.flush()
        time.sleep(0.001)
def fill(folder):
    for name in "123":
        (folder / name).write_text(letter)
        time.sleep(0.001)
for _ in range(times):
    files.write_atomically(target / "file", write)
    folders.write_folder(target / "folder", fill, overwrite=True)
"""


def test_two_processes_writing_the_same_leave_one_whole_result(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, letter, tmp_path, "100"]) for letter in "ab"]
    try:
        while any(writer.poll() is None for writer in writers):
            for name in ("file", "folder"):
                with contextlib.suppress(FileNotFoundError):  # not yet there, or this moment replaced
                    found = tmp_path / name
                    content = (
                        [found.read_bytes()] if name == "file" else [(found / part).read_bytes() for part in "123"]
                    )
                    assert len(set(b"".join(content))) == 1 or name == "folder"
                    assert len(content[0]) == (4000 if name == "file" else 1)
    finally:
        for writer in writers:
            writer.kill()
    assert [writer.wait() for writer in writers] == [0, 0]
    assert left_over(tmp_path) == []
    assert len({(tmp_path / "folder" / part).read_text() for part in "123"}) == 1


def test_missing_folders_are_made(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a" / "b" / "c.json", {"ü": [1.5, None]})
    assert json.loads((tmp_path / "a" / "b" / "c.json").read_text(encoding="utf-8")) == {"ü": [1.5, None]}


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"can't write .*file/result"):
        files.write_json(tmp_path / "file" / "result", {})
    with pytest.raises(OutputError, match=r"can't write in .*file/deeper"):
        files.check_writable(tmp_path / "file" / "deeper")
    with pytest.raises(OutputError, match="can't write"):
        files.write_json(tmp_path, {})
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        files.check_writable(tmp_path)
    with pytest.raises(OutputError, match="Permission denied"):
        files.write_json(tmp_path / "result", {})


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        files.write_json(tmp_path / "result", {})
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert (tmp_path / "result").stat().st_mode & 0o777 == mode


def test_checking_a_folder_leaves_it_as_it_was(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "new")
    assert os.listdir(tmp_path / "new") == []


def test_equal_values_have_one_spelling_and_one_hash() -> None:
    assert files.canonical_json({"b": 1, "a": [0.1, "é"]}) == '{"a":[0.1,"é"],"b":1}'
    assert files.short_hash({"a": 1, "b": 2}) == files.short_hash({"b": 2, "a": 1})
    assert files.short_hash({"a": 1}) != files.short_hash({"a": 2})
    assert files.short_hash({}) == hashlib.sha256(b"{}").hexdigest()[:8]


def test_the_hash_of_files_depends_on_content_and_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    assert files.file_sha256(one) == hashlib.sha256(b"1").hexdigest()
    assert len({files.file_sha256(one), files.file_sha256(one, two), files.file_sha256(two, one)}) == 3


@pytest.mark.parametrize(
    ("name", "inside"),
    [("a", True), ("a/b.c", True), ("", True), ("..", False), ("a/../../b", False), ("/a", False), ("a..b/..c", True)],
)
def test_a_name_that_leads_out_of_its_folder_is_told(name: str, inside: bool) -> None:
    assert files.stays_inside(name) == inside


LONE = "caf\udce9"  # as Python has a file's name that is not UTF-8


def test_a_lone_surrogate_is_written_as_an_escape(tmp_path: Path) -> None:
    files.write_json(tmp_path / "result", {LONE: [LONE, "größe"]})
    content = (tmp_path / "result").read_bytes()
    assert rb"caf\udce9" in content
    assert json.loads(content) == {LONE: [LONE, "größe"]}
    assert files.encoded(LONE) == rb"caf\udce9"
    assert files.short_hash({"name": LONE}) != files.short_hash({"name": "caf"})
