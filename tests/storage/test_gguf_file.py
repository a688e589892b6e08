from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

from orientc.errors import ModelError
from orientc.storage.gguf_file import NewTensor, copy_with

gguf: Any = pytest.importorskip("gguf")
HALVES = numpy.arange(96, dtype=numpy.float16).reshape(3, 32)
ODD = numpy.arange(7, dtype=numpy.float32)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return written(tmp_path / "base.gguf")


def written(path: Path, *, alignment: int | None = None) -> Path:
    """A file with keys of several kinds, and tensors of sizes that leave gaps."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_uint32("some.number", 7)
    writer.add_array("some.words", ["a", "", "ü"])
    writer.add_string("general.name", "näme")
    writer.add_tensor("first.weight", ODD)
    writer.add_tensor("token_embd.weight", HALVES)
    writer.add_tensor("last.weight", ODD * 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    found = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in found.fields.items() if not name.startswith("GGUF.")}
    return keys, {tensor.name: (tensor.tensor_type.name, tensor.data.tolist()) for tensor in found.tensors}


def exchanged() -> dict[str, NewTensor]:
    content = gguf.quantize(HALVES.astype(numpy.float32), gguf.GGMLQuantizationType.Q8_0)
    return {"token_embd.weight": NewTensor(int(gguf.GGMLQuantizationType.Q8_0), content.tobytes())}


@pytest.mark.parametrize("alignment", [None, 64])
def test_a_copy_with_nothing_exchanged_is_the_same_file(alignment: int | None, tmp_path: Path) -> None:
    base = written(tmp_path / "base.gguf", alignment=alignment)
    copy_with(base, tmp_path / "copy.gguf", {}, {})
    assert (tmp_path / "copy.gguf").read_bytes() == base.read_bytes()


@pytest.mark.parametrize("alignment", [None, 64])
def test_one_tensor_is_exchanged_and_all_else_stays(alignment: int | None, tmp_path: Path) -> None:
    base = written(tmp_path / "base.gguf", alignment=alignment)
    copy_with(base, tmp_path / "copy.gguf", exchanged(), {"table.type": "Q8_0"})
    (keys, tensors), (own_keys, own_tensors) = read(base), read(tmp_path / "copy.gguf")
    assert own_keys == keys | {"orientc.table.type": "Q8_0"}
    assert own_tensors.pop("token_embd.weight")[0] == "Q8_0"
    tensors.pop("token_embd.weight")
    assert own_tensors == tensors
    assert gguf.GGUFReader(tmp_path / "copy.gguf").alignment == (alignment or 32)


def test_a_copy_of_a_copy_says_what_was_done_last(base: Path, tmp_path: Path) -> None:
    copy_with(base, tmp_path / "one.gguf", exchanged(), {"table.type": "Q4_0", "note": "x"})
    copy_with(tmp_path / "one.gguf", tmp_path / "two.gguf", exchanged(), {"table.type": "Q8_0"})
    assert read(tmp_path / "two.gguf")[0] == read(base)[0] | {"orientc.table.type": "Q8_0"}


def test_a_tensor_that_is_not_there_is_one_line(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no tensor no\.weight"):
        copy_with(base, tmp_path / "copy.gguf", {"no.weight": NewTensor(0, b"")}, {})
    assert not (tmp_path / "copy.gguf").exists()
