"""Files from strangers, the short form: what the benchmark's script does a hundred thousand times."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from benchmarks.fuzz import READERS, Reader, judge, mutated
from hypothesis import HealthCheck, given, settings, strategies

from orientc.errors import OrientcError

named = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)


@named
def test_a_good_file_is_read(reader: Reader, tmp_path: Path) -> None:
    for kind in range(8):
        reader.sample(tmp_path / "file", kind)
        assert judge(reader, tmp_path / "file") == "read"


@named
@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kind=strategies.integers(0, 7), draw=strategies.randoms(use_true_random=False))
def test_a_file_that_was_changed_is_read_or_refused_in_one_line(
    reader: Reader, kind: int, draw: random.Random, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    reader.sample(path, kind)
    path.write_bytes(mutated(path.read_bytes(), draw, safetensors=reader.safetensors))
    judge(reader, path)


@named
@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 9, b"{}", b"[" * 100_000, b"null", b'{"a":' * 50_000])
def test_a_file_of_something_else_is_refused(reader: Reader, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert judge(reader, path) != "read"


@named
def test_a_file_that_vanished_or_is_a_folder_is_refused(reader: Reader, tmp_path: Path) -> None:
    for path in (tmp_path / "gone", tmp_path):
        with pytest.raises(OrientcError, match=path.name):
            reader.read(path)
