from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from orientc import files
from orientc.errors import OutputError


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
