from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from orientc.utils import content_hash as hashes
from orientc.utils.content_hash import content_hash

LARGE = hashes.SMALL + 5


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, and files that count as settled at once."""
    monkeypatch.setenv("ORIENTC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "SETTLED", -1.0)
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of files that were hashed rather than remembered."""
    found: list[int] = []
    digests = hashes._digests

    def counted(descriptor: int, size: int) -> object:
        found.append(size)
        return digests(descriptor, size)

    monkeypatch.setattr(hashes, "_digests", counted)
    return found


def large(path: Path, fill: bytes = b"a", size: int = LARGE) -> Path:
    path.write_bytes(fill * size)
    return path


def forget() -> None:
    """As another process: what is remembered is what is on disk."""
    hashes._known.clear()


@pytest.mark.parametrize("size", [0, 1, 100, 101, 199, 200, 201, 1000])
def test_every_byte_counts_in_one_block_or_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(hashes, "_BLOCK", 100)
    content, path = os.urandom(size), tmp_path / "file"
    path.write_bytes(content)
    before = content_hash(path)
    monkeypatch.delattr(os, "pread")  # a system without it reads block after block
    assert content_hash(path) == before
    changed = {before}
    for place in {0, size // 2, size - 1} if size else ():
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        changed.add(content_hash(path))
    path.write_bytes(content + b"\0")
    assert content_hash(path) not in changed
    assert len(changed) == 1 + len({0, size // 2, size - 1} if size else ())


def test_a_large_file_is_hashed_once_also_over_processes(tmp_path: Path, computed: list[int]) -> None:
    path = large(tmp_path / "file")
    first = content_hash(path)
    assert content_hash(path) == first
    forget()
    assert content_hash(path) == first
    assert computed == [LARGE]


def test_a_small_file_is_hashed_each_time_and_not_written_down(
    tmp_path: Path, computed: list[int], cache: Path
) -> None:
    path = large(tmp_path / "file", size=10)
    assert content_hash(path) == content_hash(path)
    assert computed == [10, 10]
    assert not cache.exists()


def test_an_edit_is_seen_though_size_and_time_of_modification_are_set_back(tmp_path: Path) -> None:
    path = large(tmp_path / "file")
    before, state = content_hash(path), path.stat()
    large(path, b"b")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_mtime_ns == state.st_mtime_ns
    assert content_hash(path) != before


def test_another_file_in_the_place_is_seen_with_all_its_times_alike(tmp_path: Path) -> None:
    path, other = large(tmp_path / "file"), large(tmp_path / "other", b"b")
    before = content_hash(path)
    shutil.copystat(path, other)
    os.replace(other, path)
    assert content_hash(path) != before


def test_a_link_is_what_it_points_to(tmp_path: Path) -> None:
    one, two, link = large(tmp_path / "1"), large(tmp_path / "2", b"b"), tmp_path / "link"
    link.symlink_to(one)
    assert content_hash(link) == content_hash(one)
    link.unlink()
    link.symlink_to(two)
    assert content_hash(link) == content_hash(two) != content_hash(one)


def test_a_file_that_changed_just_now_is_not_remembered(
    tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might change again within one tick of the clock that files are dated by."""
    monkeypatch.setattr(hashes, "SETTLED", 60.0)
    path = large(tmp_path / "file")
    assert content_hash(path) == content_hash(path)
    assert len(computed) == 2


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digests = large(tmp_path / "file"), hashes._digests

    def slow(descriptor: int, size: int) -> object:
        yield from digests(descriptor, size)
        large(path, b"b")

    monkeypatch.setattr(hashes, "_digests", slow)
    content_hash(path)
    monkeypatch.setattr(hashes, "_digests", digests)
    mixed = content_hash(path)
    forget()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert content_hash(path) == mixed


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]
) -> None:
    (tmp_path / "in the way").write_text("")
    monkeypatch.setenv("ORIENTC_CACHE", str(tmp_path / "in the way" / "cache"))
    path = large(tmp_path / "file")
    assert content_hash(path) == content_hash(path)
    assert computed == [LARGE]


@pytest.mark.parametrize("content", ["", "[", "[]", "3", '{"x": 1}', '{"%s": [1, 2, 3]}', '{"%s": [1, 2, 3, 4, 5]}'])
def test_a_damaged_cache_is_as_good_as_none(tmp_path: Path, cache: Path, content: str) -> None:
    path = large(tmp_path / "file")
    before = content_hash(path)
    forget()
    (cache / hashes.FILE).write_text(content.replace("%s", str(path)))
    assert content_hash(path) == before
    assert [*json.loads((cache / hashes.FILE).read_text())] == [str(path)]


def test_what_another_process_has_written_is_kept_and_the_oldest_goes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "MOST", 3)
    paths = [large(tmp_path / str(number)) for number in range(4)]
    content_hash(paths[0])
    others = json.loads((cache / hashes.FILE).read_text())
    hashes._known.clear()
    hashes._known[cache / hashes.FILE] = {}  # a process that began before the first was written down
    for path in paths[1:3]:
        content_hash(path)
    assert others.keys() < json.loads((cache / hashes.FILE).read_text()).keys()
    content_hash(paths[3])
    assert [*json.loads((cache / hashes.FILE).read_text())] == [str(path) for path in paths[1:]]


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("ORIENTC_CACHE", "/own")
    assert hashes.cache_folder() == Path("/own")
    monkeypatch.delenv("ORIENTC_CACHE")
    assert hashes.cache_folder() == Path("/xdg/orientc")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert hashes.cache_folder() == Path("/home/me/.cache/orientc")
