"""`inspect` as a function: a typed result for each kind of subject."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.calibrations import made
from support.comparisons import DIM, VOCAB, put, table
from support.documents import valid

from orientc.errors import ArtifactError, FitError, UsageError
from orientc.models.inspect import ArtifactInspection, CalibrationInspection, TableInspection, inspect
from orientc.models.source import ModelSource
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.utils.documents import document


def test_a_model_is_measured_however_it_is_named(bert_folder: Path) -> None:
    found = inspect(bert_folder)
    assert isinstance(found, TableInspection)
    assert [size.ratio for size in found.sizes] == [2.5, 5.0, 10.0]
    assert inspect(str(bert_folder)) == inspect(ModelSource.resolve(str(bert_folder))) == found
    document = valid(json.loads(json.dumps(found.as_dict())))
    assert document["table"]["sha256"] == found.table.sha256


def test_the_figures_are_those_of_the_table() -> None:
    made_up = table()
    found = inspect(made_up, ratio=2)
    assert isinstance(found, TableInspection)
    assert found.table == made_up.info
    assert found.share == VOCAB * DIM / made_up.info.model_parameters
    lengths = made_up.weight.norm(dim=1)
    assert found.norms["max"] == pytest.approx(lengths.max().item())
    assert found.norms["zero_rows"] == 0
    values = torch.linalg.svdvals(made_up.weight.double()) ** 2
    assert found.energy == pytest.approx({rank: (values[:rank].sum() / values.sum()).item() for rank in (1, 2, 4, 6)})
    (size,) = found.sizes
    numbers = VOCAB * 3 + DIM * 3 + DIM
    assert (size.rank, size.parameter_ratio) == (3, VOCAB * DIM / numbers)
    assert size.mb == {"float32": numbers * 4 / 1e6, "float16": numbers * 2 / 1e6}


def test_a_file_is_told_by_what_it_holds(tmp_path: Path) -> None:
    artifact, calibration = put(tmp_path, 2), tmp_path / "calibration.safetensors"
    calibrations.save(made(), calibration)
    found = inspect(artifact)
    assert isinstance(found, ArtifactInspection)
    assert found.description == artifacts.read_description(artifact)
    assert found.as_dict() == document("artifact", {"artifact": str(artifact)} | found.description.as_dict())
    measured = inspect(str(calibration))
    assert isinstance(measured, CalibrationInspection)
    assert measured.as_dict().items() >= {"calibration": str(calibration), "objective": "masked"}.items()


def test_what_can_not_be_inspected_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ratio"):
        inspect(table(), ratio=[2, 0.5])
    with pytest.raises(FitError, match="at most"):
        inspect(table(), ratio=1000)
    with pytest.raises(UsageError, match="`ratio` is for a model's table"):
        inspect(put(tmp_path, 2), ratio=3)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="not an orientc artifact"):
        inspect(tmp_path / "x.safetensors")
