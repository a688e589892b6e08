"""Exported GGUF files in llama.cpp itself."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from support import llama_cpp, quantized
from support.data import SENTENCES
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import orientc
from orientc.methods.ggml_fit import code_in_blocks
from orientc.methods.importance import Importance
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.models.source import ModelSource
from orientc.models.substitute import substitute
from orientc.models.table import GGUF_TABLE, read_table
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage.gguf_file import NewTensor, copy_with, reader

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(not llama_cpp.is_there(), reason="needs xllamacpp (extra clients)"),
]
WIDTH, TOKENS = 256, 60


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("llama")
    plain = quantized.llama(folder / "plain", bytes_bpe, torch.float32, width=WIDTH, spread=0.1)
    return quantized.gguf_file(plain, folder / "base.gguf", "F16")


@pytest.fixture(scope="module")
def calibration(base: Path) -> Path:
    text = base.parent / "text.txt"
    text.write_text(words(0, 3000))
    return orientc.calibrate(base, text=text, tokens=4096, device="cpu", out=base.parent / "c.safetensors").path


def words(seed: int, count: int) -> str:
    """Words in any order: states in all directions."""
    known = sorted({word for sentence in SENTENCES for word in sentence.split()})
    return " ".join(random.Random(seed).choices(known, k=count))


def ids_of(source: ModelSource) -> list[int]:
    return [0, *source.tokenizer(words(1, TOKENS))["input_ids"]][:TOKENS]


def by_llama_cpp(path: Path, ids: list[int]) -> Tensor:
    model = llama_cpp.Model(path)
    try:
        return model.logits(ids).double()
    finally:
        model.close()


@torch.no_grad()
def by_modules(source: ModelSource, ids: list[int], artifact: Path | None = None) -> Tensor:
    model: Any = source.load(None, dtype=torch.float32)
    if artifact is not None:
        substitute(model, artifacts.load(artifact), "tied")
    return model(input_ids=torch.tensor([ids])).logits[0].double()


def apart(one: Tensor, other: Tensor) -> float:
    """Mean squared difference of logits, in shares of the first one's variance."""
    return float((one - other).square().mean() / one.var())


@pytest.mark.parametrize("block", BLOCK_TYPES)
def test_llama_cpp_and_the_modules_agree(block: str, base: Path, calibration: Path, tmp_path: Path) -> None:
    made = orientc.quantize(base, block=block, calibration=calibration, device="cpu", out=tmp_path / "t.safetensors")
    exported = orientc.export(made.path, tmp_path / "small.gguf", form="gguf")
    source = ModelSource.resolve(base)
    ids = ids_of(source)
    there, here = by_llama_cpp(exported.folder, ids), by_modules(source, ids, made.path)
    assert apart(there, here) < 1e-3  # llama.cpp rounds states to 8 bits
    changed = apart(by_modules(source, ids), here)
    if BLOCK_TYPES[block].bits < 5:
        assert changed > 10 * apart(there, here)


@pytest.mark.parametrize("block", BLOCK_TYPES)
def test_without_a_calibration_the_squared_error_is_not_above_that_of_ggml(block: str, base: Path) -> None:
    gguf: Any = pytest.importorskip("gguf")
    table = read_table(base).weight
    table = table * torch.linspace(0.2, 3, WIDTH)  # columns of different sizes, as tables have
    theirs = torch.from_numpy(gguf.dequantize(llama_cpp.rounded(block, table), gguf.GGMLQuantizationType[block]))
    ours = fitted(table, block, torch.eye(WIDTH, dtype=torch.float64))
    assert (ours - table).square().sum() <= (theirs - table).square().sum()


@pytest.mark.parametrize("block", BLOCK_TYPES)
def test_by_a_calibration_less_is_lost_than_by_importance_in_ggml(block: str, base: Path, calibration: Path) -> None:
    gguf: Any = pytest.importorskip("gguf")
    table = read_table(base).weight
    importance = Importance.of(calibrations.load(calibration), table)

    def cost(found: Tensor) -> float:
        return importance.weighted(found - table, slice(None))

    kind = gguf.GGMLQuantizationType[block]
    ours = cost(fitted(table, block, importance.matrix))
    for weights in (None, importance.matrix.diagonal()):
        theirs = torch.from_numpy(gguf.dequantize(llama_cpp.rounded(block, table, weights), kind))
        assert ours < 0.9 * cost(theirs)


@pytest.mark.parametrize("block", [name for name, kind in BLOCK_TYPES.items() if kind.width == 256])
def test_less_is_lost_in_llama_cpp_too(block: str, base: Path, calibration: Path, tmp_path: Path) -> None:
    """On other text than the calibration's: K types by a calibration, and as ggml rounds them."""
    made = orientc.quantize(base, block=block, calibration=calibration, device="cpu", out=tmp_path / "t.safetensors")
    exported = orientc.export(made.path, tmp_path / "ours.gguf", form="gguf").folder
    kind = next(int(tensor.tensor_type) for tensor in reader(exported).tensors if tensor.name == GGUF_TABLE)
    new = NewTensor(kind, llama_cpp.rounded(block, read_table(base).weight).tobytes())
    copy_with(base, tmp_path / "theirs.gguf", {GGUF_TABLE: new}, {})
    ids = ids_of(ModelSource.resolve(base))
    original, ours, theirs = (
        by_llama_cpp(path, ids).log_softmax(-1) for path in (base, exported, tmp_path / "theirs.gguf")
    )
    lost, lost_by_ggml = ((original.exp() * (original - here)).sum(-1).mean() for here in (ours, theirs))
    assert 0 < lost < lost_by_ggml


def fitted(table: Tensor, block: str, importance: Tensor) -> Tensor:
    return code_in_blocks(table, block, importance).dense()
