"""`shrink` with a body in fewer bits: sizes and tolerance are those of the whole model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from support import quantized
from support.models import save_bert
from transformers import PreTrainedTokenizerFast

import orientc as library
from orientc.cli.shrink import facts
from orientc.errors import ExportError, FitError
from orientc.models.source import ModelSource
from orientc.models.table import table_info
from orientc.storage.sizes import MB
from orientc.workflows.shrunk import Shrunk
from orientc.workflows.sizes import Sizes

PACKAGES = {"int8": "torchao", "int4": "bitsandbytes"}
LARGEST = {"int8": 0.09, "int4": 0.08}  # MB; with a body of floats the model has 0.21


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, wordpiece: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("models") / "bert"
    save_bert(folder, wordpiece, width=64)
    return folder


@pytest.mark.clients
@pytest.mark.parametrize("body", PACKAGES)
def test_the_verdict_is_that_of_both_with_a_row_for_the_body_alone(
    body: str, bert: Path, text: Path, tmp_path: Path
) -> None:
    pytest.importorskip(PACKAGES[body])
    arguments = {"text": text, "out": tmp_path / "runs", "within": "30%", "body": body}
    done = library.shrink(bert, tmp_path / "small", **arguments)  # type: ignore[arg-type]
    assert done.verdict
    assert done.verdict.alone
    assert done.verdict.alone.original == done.verdict.outcome.original
    assert done.verdict.alone.difference != 0
    assert done.verdict.alone.here != done.verdict.outcome.here
    shown = dict(facts(done))
    assert f"body in {body} alone" in shown
    assert shown["needs"] == f"pip install {PACKAGES[body]}"
    assert "with the body's bits alone" in ModelCard.load(tmp_path / "small" / "README.md").content
    assert done.loaded  # it loads by the printed line, where orientc is not
    assert done.loaded.difference is not None
    # no record stands for the folder, or for those that were measured on the way to it
    names = {record.model["id"] for path in (tmp_path / "runs").rglob("*.json") if (record := _record(path))}
    assert names == {str(bert)}
    again = library.shrink(bert, tmp_path / "small", **arguments)  # type: ignore[arg-type]
    assert (again.fresh, again.verdict) == (False, done.verdict)
    assert Shrunk.from_dict(done.as_dict()) == done


@pytest.mark.clients
@pytest.mark.parametrize("body", PACKAGES)
def test_a_size_of_the_whole_model_counts_the_body(body: str, bert: Path, text: Path, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGES[body])
    options = {"text": text, "out": tmp_path / "runs", "body": body}
    with pytest.raises(FitError, match=f"what is not the table takes .* float32, the body in {body}"):
        library.shrink(bert, tmp_path / "small", model_mb=0.001, **options)  # type: ignore[arg-type]
    done = library.shrink(bert, tmp_path / "small", model_mb=LARGEST[body], **options)  # type: ignore[arg-type]
    assert done.weights is not None
    assert 0.75 * LARGEST[body] < done.weights / MB <= LARGEST[body]


@pytest.mark.clients
def test_a_body_that_came_quantized_counts_as_it_is_stored(tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> None:
    pytest.importorskip("torchao")
    source = ModelSource.resolve(quantized.torchao(quantized.llama(tmp_path / "model", bytes_bpe, width=128)))
    info = table_info(source)
    stored = (tmp_path / "model" / "model.safetensors").stat().st_size - info.nbytes
    assert stored * 0.95 < Sizes(source, info, "bfloat16", None).body < stored * 1.1


@pytest.mark.parametrize("body", PACKAGES)
def test_without_the_package_nothing_is_done(body: str, bert_folder: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(PACKAGES[body]):
        pytest.skip(f"{PACKAGES[body]} is installed")
    with pytest.raises(ExportError, match=f"needs {PACKAGES[body]}"):
        library.shrink(bert_folder, tmp_path / "small", body=body, out=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def _record(path: Path) -> library.Record | None:
    from orientc.storage import records

    try:
        return records.read(path)
    except library.RecordError:
        return None
