from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
from support import calibrations

from orientc.errors import UsageError
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


def test_counts_alone_are_no_importance(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="measured on a text"):
        imatrix.save(calibrations.made(input_importance=False, head_importance=False), tmp_path / "m.gguf")


def test_another_name_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match=r"let m\.dat end in \.gguf"):
        imatrix.check("m.dat")
