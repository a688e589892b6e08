"""A model that stores two tables which its configuration ties is exported with both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from support.architectures import outputs_of
from support.compact_models import own_modules_cache
from support.ties import HEADS, save_apart

from orientc.compression.svd import svd
from orientc.exporters.export import export
from orientc.models.source import ModelSource
from orientc.models.table import read_table, table_info


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_modules_cache(tmp_path_factory.mktemp("modules")):
        yield


@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize("name", HEADS)
def test_both_tables_are_exported(name: str, form: str, tmp_path: Path) -> None:
    expected = save_apart(name, tmp_path / "apart")
    source = ModelSource.resolve(str(tmp_path / "apart"))
    made = svd(source, rank=min(read_table(source).weight.shape), device="cpu", out=tmp_path / "a.safetensors")

    facts = export(made.path, tmp_path / "out", form=form).facts

    assert facts.head == "input-only"
    auto_class = getattr(transformers, facts.auto_class)
    theirs = auto_class.from_pretrained(tmp_path / "out", trust_remote_code=form == "compact").eval()
    torch.testing.assert_close(outputs_of(theirs), outputs_of(expected), atol=1e-4, rtol=0)
    again = ModelSource.resolve(str(tmp_path / "out"))
    assert not table_info(again).tied
    torch.testing.assert_close(
        outputs_of(again.load(None, dtype=torch.float32)), outputs_of(expected), atol=1e-4, rtol=0
    )


def test_a_dense_export_says_in_its_configuration_that_nothing_is_tied(tmp_path: Path) -> None:
    """Other programs than transformers ask nothing else."""
    save_apart("llama", tmp_path / "apart")
    made = svd(str(tmp_path / "apart"), rank=4, device="cpu", out=tmp_path / "a.safetensors")

    export(made.path, tmp_path / "out", form="dense")

    assert transformers.AutoConfig.from_pretrained(tmp_path / "out").tie_word_embeddings is False
