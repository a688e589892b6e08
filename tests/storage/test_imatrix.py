from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
from support import calibrations

from orientc.errors import OutputError, UsageError
from orientc.storage import imatrix


@pytest.mark.parametrize("tied", [True, False])
def test_the_file_has_what_llama_quantize_reads(tied: bool, tmp_path: Path) -> None:
    """Mean squares by the names of the tensors, as llama.cpp's own tool writes them."""
    gguf: Any = pytest.importorskip("gguf")
    made = calibrations.made(head_importance=tied)
    imatrix.save(made, tmp_path / "m.gguf")
    found = gguf.GGUFReader(tmp_path / "m.gguf")
    keys = {name: field.contents() for name, field in found.fields.items() if not name.startswith("GGUF.")}
    assert keys == {
        "general.type": "imatrix", "imatrix.datasets": ["some.txt"], "imatrix.chunk_count": 1,
        "imatrix.chunk_size": 300,
    }  # fmt: skip
    tensors = {tensor.name: tensor.data for tensor in found.tensors}
    names = [imatrix.TABLE, imatrix.HEAD] if tied else [imatrix.TABLE]
    assert list(tensors) == [f"{name}.{part}" for name in names for part in ("in_sum2", "counts")]
    assert made.input_importance is not None
    expected = made.input_importance.diagonal()
    if made.head_importance is not None:
        expected = expected + made.head_importance.diagonal()
    for name in names:
        assert tensors[f"{name}.counts"].shape == (1, 1)
        numpy.testing.assert_allclose(tensors[f"{name}.in_sum2"][0] / 300, expected.numpy(), rtol=1e-5)


def test_what_can_not_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="measured on a text"):
        imatrix.check("m.gguf", measured=False)
    with pytest.raises(UsageError, match=r"let m\.dat end in \.gguf"):
        imatrix.check("m.dat", measured=True)


def test_only_an_importance_matrix_is_replaced_and_only_when_asked(tmp_path: Path) -> None:
    gguf: Any = pytest.importorskip("gguf")
    model = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(model, "llama")
    for step in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
        getattr(writer, step)()
    (tmp_path / "text.gguf").write_text("no GGUF file at all")
    for place in (model, tmp_path / "text.gguf"):
        content = place.read_bytes()
        with pytest.raises(OutputError, match="is no importance matrix"):
            imatrix.check(place, measured=True)
        with pytest.raises(OutputError, match="is there already"):
            imatrix.save(calibrations.made(), place, overwrite=True)
        assert place.read_bytes() == content
    own = tmp_path / "m.gguf"
    imatrix.save(calibrations.made(), own)
    before = own.read_bytes()
    imatrix.save(calibrations.made(), own)  # the same
    imatrix.check(own, measured=True)
    with pytest.raises(OutputError, match="`overwrite`"):
        imatrix.save(calibrations.made(head_importance=False), own)
    assert own.read_bytes() == before
    imatrix.save(calibrations.made(head_importance=False), own, overwrite=True)
    assert own.read_bytes() != before
