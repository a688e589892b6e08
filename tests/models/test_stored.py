"""What a checkpoint stores decides what is tied, whatever its configuration says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.architectures import build, outputs_of
from support.ties import HEADS, save_apart

from orientc.compression.svd import svd
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute
from orientc.models.table import read_table, table_info
from orientc.storage import artifact as artifacts


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *((name, "safetensors") for name in HEADS),
        *((name, form) for name in ("bert", "llama") for form in ("shards", "bin")),
    ],
)
def test_a_head_stored_with_numbers_of_its_own_is_untied(name: str, form: str, tmp_path: Path) -> None:
    expected = save_apart(name, tmp_path / "apart", form=form)
    build(name).save_pretrained(tmp_path / "tied")
    source = ModelSource.resolve(str(tmp_path / "apart"), allow_pickle=form == "bin")

    tied, table = table_info(str(tmp_path / "tied")), read_table(source)

    head = table.weight.numel()
    assert (tied.tied, table.info.tied) == (True, False)
    assert torch.equal(table.weight, expected.get_input_embeddings().weight)
    assert table.info.sha256 == tied.sha256
    assert table.info.model_parameters - tied.model_parameters == head
    assert table.info.model_bytes - tied.model_bytes == 4 * head
    loaded = source.load(None, dtype=torch.float32)
    assert head_policies(source.skeleton) == head_policies(loaded) == ("input-only",)
    assert torch.equal(outputs_of(loaded), outputs_of(expected))


@pytest.mark.parametrize("name", HEADS)
def test_equal_tables_are_one(name: str, tmp_path: Path) -> None:
    save_apart(name, tmp_path / "equal", equal=True)
    build(name).save_pretrained(tmp_path / "tied")

    equal, tied = (table_info(str(tmp_path / kind)) for kind in ("equal", "tied"))

    assert equal.tied
    assert equal.model_bytes == tied.model_bytes
    assert head_policies(ModelSource.resolve(str(tmp_path / "equal")).skeleton) == ("input-only", "tied")


@pytest.mark.parametrize("name", HEADS)
def test_a_lossless_artifact_changes_no_logit(name: str, tmp_path: Path) -> None:
    expected = save_apart(name, tmp_path / "apart")
    source = ModelSource.resolve(str(tmp_path / "apart"))
    made = svd(source, rank=min(read_table(source).weight.shape), device="cpu", out=tmp_path / "a.safetensors")

    loaded = substitute(source.load(None, dtype=torch.float32), artifacts.load(made.path), "input-only")

    torch.testing.assert_close(outputs_of(loaded), outputs_of(expected), atol=1e-4, rtol=0)
    loaded.tie_weights()  # as saving and resizing do
    torch.testing.assert_close(outputs_of(loaded), outputs_of(expected), atol=1e-4, rtol=0)


def test_tables_that_a_cast_makes_equal_stay_two(tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    table = tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].half().float()
    tensors["lm_head.weight"] = table * (1 + 2**-20)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    source = ModelSource.resolve(str(tmp_path))

    assert not read_table(source).info.tied
    assert head_policies(source.load(None, dtype=torch.float16)) == head_policies(source.skeleton)


def test_tables_with_nan_in_the_same_places_are_equal(tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.embed_tokens.weight"][3, 3] = torch.nan
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})

    assert table_info(str(tmp_path)).tied
