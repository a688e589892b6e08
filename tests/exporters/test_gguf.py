"""The gguf form, without llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import quantized
from transformers import PreTrainedTokenizerFast

import orientc
from orientc.errors import ArtifactMismatchError, ExportError, OutputError, UsageError
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts

gguf: Any = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    plain = quantized.llama(folder / "plain", bytes_bpe, torch.float32)
    return quantized.gguf_file(plain, folder / "base.gguf")


@pytest.fixture(scope="module")
def artifact(base: Path) -> Path:
    return orientc.quantize(base, block="IQ4_NL", device="cpu", out=base.parent / "nl.safetensors").path


@pytest.mark.parametrize("block", [name for name, kind in BLOCK_TYPES.items() if kind.width == 32])
def test_the_file_has_the_artifacts_table_and_all_else_of_the_base(block: str, base: Path, tmp_path: Path) -> None:
    made = orientc.quantize(base, block=block, device="cpu", out=tmp_path / "t.safetensors")
    exported = orientc.export(made.path, tmp_path / "small.gguf", form="gguf")
    before, after = gguf.GGUFReader(base), gguf.GGUFReader(exported.folder)
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert old.name == new.name
        if new.name == "token_embd.weight":
            table = torch.from_numpy(gguf.dequantize(new.data, new.tensor_type))
            assert (new.tensor_type.name, exported.facts.table) == (block, new.n_bytes)
            assert torch.equal(table, made.artifact.dense())
        else:
            assert old.data.tobytes() == new.data.tobytes()
    added = {name: after.fields[name].contents() for name in after.fields.keys() - before.fields.keys()}
    assert added["orientc.table.type"] == block
    assert added["orientc.table.was"] == "F32"
    assert added["orientc.artifact.sha256"] == made.artifact.sha256
    kept = [name for name in before.fields if not name.startswith("GGUF.")]
    assert all(before.fields[name].contents() == after.fields[name].contents() for name in kept)
    assert exported.nbytes == exported.folder.stat().st_size
    assert exported.facts.load("a b.gguf") == "llama-cli -m 'a b.gguf'"


def test_what_was_written_is_a_model_with_that_table(artifact: Path, tmp_path: Path) -> None:
    small = orientc.export(artifact, tmp_path / "small.gguf", form="gguf").folder
    table = read_table(small)
    assert (table.info.dtype, table.info.tied) == ("IQ4_NL", True)
    assert torch.equal(table.weight, artifacts.load(artifact).dense())


def test_other_codecs_are_refused(base: Path, tmp_path: Path) -> None:
    rounded = orientc.quantize(base, bits=4, device="cpu", out=tmp_path / "t.safetensors").path
    with pytest.raises(ExportError, match=r"per-group latents.*`block`"):
        orientc.export(rounded, tmp_path / "small.gguf", form="gguf")


def test_another_table_is_refused_unless_forced(base: Path, artifact: Path, tmp_path: Path) -> None:
    other = orientc.export(artifact, tmp_path / "other.gguf", form="gguf").folder
    with pytest.raises(ArtifactMismatchError, match="this model's table is another"):
        orientc.export(artifact, tmp_path / "small.gguf", form="gguf", model=other)
    assert not (tmp_path / "small.gguf").exists()
    assert orientc.export(artifact, tmp_path / "small.gguf", form="gguf", model=other, force=True).folder.exists()


def test_a_folder_is_no_base(base: Path, tmp_path: Path) -> None:
    made = orientc.quantize(base.parent / "plain", block="Q8_0", device="cpu", out=tmp_path / "t.safetensors").path
    with pytest.raises(ExportError, match="is no GGUF file: name with `model`"):
        orientc.export(made, tmp_path / "small.gguf", form="gguf")
    assert orientc.export(made, tmp_path / "small.gguf", form="gguf", model=base).folder.exists()  # the same numbers


def test_one_file_of_several_is_refused(base: Path, artifact: Path, tmp_path: Path) -> None:
    part = quantized.gguf_file(base.parent / "plain", tmp_path / "part.gguf", parts=2)
    with pytest.raises(orientc.OrientcError, match="part"):
        orientc.export(artifact, tmp_path / "small.gguf", form="gguf", model=part)


def test_only_what_orientc_wrote_is_replaced(base: Path, artifact: Path, tmp_path: Path) -> None:
    place = tmp_path / "small.gguf"
    place.write_bytes(base.read_bytes())
    with pytest.raises(OutputError, match="orientc did not write it"):
        orientc.export(artifact, place, form="gguf", overwrite=True)
    place.unlink()
    first = orientc.export(artifact, place, form="gguf").folder.read_bytes()
    with pytest.raises(OutputError, match="there already"):
        orientc.export(artifact, place, form="gguf")
    assert orientc.export(artifact, place, form="gguf", overwrite=True).folder.read_bytes() == first
    again = orientc.quantize(place, block="Q8_0", device="cpu", out=tmp_path / "t.safetensors").path
    with pytest.raises(OutputError, match="the file whose table is to be exchanged"):
        orientc.export(again, place, form="gguf", overwrite=True)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"dtype": "float16"}, UsageError, "`dtype` is not for the gguf form"),
        ({"push": "me/model"}, Exception, "push|HF_TOKEN|token"),
        ({"head": "input-only"}, ExportError, "one head policy, tied"),
    ],
)
def test_what_a_file_can_not_have_is_refused(
    options: dict[str, Any], error: type[Exception], said: str, artifact: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        orientc.export(artifact, tmp_path / "small.gguf", form="gguf", **options)
    assert not (tmp_path / "small.gguf").exists()


def test_another_name_is_refused(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"let its name end in \.gguf"):
        orientc.export(artifact, tmp_path / "small", form="gguf")


@pytest.mark.parametrize("form", ["compact", "dense"])
def test_a_table_in_blocks_goes_into_folders_too(form: str, artifact: Path, tmp_path: Path) -> None:
    exported = orientc.export(artifact, tmp_path / form, form=form)
    found = read_table(exported.folder).weight
    torch.testing.assert_close(found.float(), artifacts.load(artifact).dense(), rtol=1e-3, atol=1e-3)
