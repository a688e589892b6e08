from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.calibrations import made as made_calibration

import orientc
from orientc.compression.configs import AutoencoderConfig, Config, QuantizeConfig, SvdConfig, TargetConfig
from orientc.compression.fit_and_store import Compressed, fit_and_store
from orientc.compression.fit_table import Fit
from orientc.errors import OrientcError, OutputError, UsageError
from orientc.models.source import ModelSource
from orientc.models.table import Table, table_sha256
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage import runs
from orientc.storage.calibration import Calibration
from orientc.storage.table_info import TableInfo
from orientc.utils.documents import document
from orientc.utils.progress import Progress

FAST: dict[str, Any] = {"epochs": 2, "batch_size": 32, "device": "cpu"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)


def table(seed: int = 0) -> Table:
    weight = torch.randn(40, 8, generator=torch.Generator().manual_seed(seed))
    info = TableInfo(
        id="some/model", revision=None, sha256=table_sha256(weight), vocab=40, dim=8, dtype="float32",
        nbytes=weight.nbytes, padding_idx=None, embed_scale=1.0, tied=True, model_parameters=1000, model_bytes=4000,
    )  # fmt: skip
    return Table(weight, info)


def calibration_of(given: Table) -> Calibration:
    dim = given.info.dim
    counts = 100.0 / torch.arange(1, given.info.vocab + 1)
    made = made_calibration(base=given.info)
    return replace(made, counts=counts, input_importance=torch.eye(dim), head_importance=torch.eye(dim))


def same(one: Compressed, other: Compressed) -> bool:
    return one.path.read_bytes() == other.path.read_bytes()


# -- where an artifact goes, and what is said of it


def test_a_table_without_a_model_goes_under_its_id() -> None:
    made = fit_and_store(table(), SvdConfig(rank=3))
    assert made.path.parent == Path("runs/some--model")
    assert made.path.name.startswith("svd-r3-")
    assert runs.history_path(made.path).exists()
    assert made.fresh
    assert made.artifact.description == made.description == artifacts.read_description(made.path)


def test_what_was_there_is_not_made_again_and_is_read_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = fit_and_store(table(), SvdConfig(ratio=2.0))

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("this was done already")

    monkeypatch.setattr(Fit, "run", fail)
    again = fit_and_store(table(), SvdConfig(rank=made.description.rank))
    assert (again.path, again.fresh, again.seconds) == (made.path, False, made.seconds)
    assert again.artifact.factors.dense().equal(made.artifact.factors.dense())
    runs.history_path(made.path).unlink()
    assert fit_and_store(table(), SvdConfig(ratio=2.0)).seconds is None


def test_another_artifact_in_the_way_needs_overwrite() -> None:
    made = fit_and_store(table(), SvdConfig(rank=3), out="x.safetensors")
    assert made.path == Path("x.safetensors")
    with pytest.raises(OutputError):
        fit_and_store(table(), SvdConfig(rank=2), out="x.safetensors")
    assert fit_and_store(table(), SvdConfig(rank=2), out="x.safetensors", overwrite=True).fresh


def test_as_dict_is_the_document_of_the_command() -> None:
    made = fit_and_store(table(), SvdConfig(rank=3))
    about = {"artifact": str(made.path), "artifacts": [str(made.path)], "fresh": True, "seconds": made.seconds}
    assert made.as_dict() == document("artifact", about | made.description.as_dict())


@pytest.mark.parametrize(
    ("config", "stages", "steps"),
    [
        (SvdConfig(rank=3), [("svd, rank 3", 1)], 1),
        (AutoencoderConfig(ratio=2.0, epochs=3), [("autoencoder, rank 3", 3)], 3),
        (QuantizeConfig(bits=4), [("quantize, 4 bits", 1)], 1),
        (TargetConfig(target_bits=20), [("target, target bits 20", 1)], 1),
    ],
)
def test_progress_is_told(config: Config, stages: list[tuple[str, int]], steps: int) -> None:
    told: list[tuple[str, int]] = []
    advanced: list[int] = []
    fit_and_store(table(), config, progress=Progress(lambda name, total: told.append((name, total)), advanced.append))
    assert told == stages
    assert sum(advanced) == steps


# -- the functions of the commands


def test_a_model_is_a_name_a_path_a_source_or_a_table(bert_folder: Path) -> None:
    source = ModelSource.resolve(str(bert_folder))
    paths = {orientc.svd(model, rank=3).path for model in (str(bert_folder), bert_folder, source)}
    paths.add(orientc.svd(orientc.read_table(source), rank=3).path)
    assert len(paths) == 1


@pytest.mark.parametrize(
    ("function", "settings", "config"),
    [
        (orientc.svd, {"rank": 3, "center": True, "dtype": "float16"}, SvdConfig(rank=3, center=True, dtype="float16")),
        (orientc.quantize, {"bits": 4, "group_size": 4}, QuantizeConfig(bits=4, group_size=4)),
        (orientc.compress, {"target_mb": 0.001}, TargetConfig(target_mb=0.001)),
        (orientc.compress, {"target_mb": 0.001, "effort": "best"}, TargetConfig(target_mb=0.001, effort="best")),
        (
            orientc.compress,
            {"rank": 3, "preset": "paper", "epochs": 1, "seed": 5},
            AutoencoderConfig.preset("paper", rank=3, epochs=1, seed=5),
        ),
    ],
)
def test_settings_and_a_config_and_a_file_and_an_artifact_say_the_same(
    function: Callable[..., Compressed], settings: dict[str, Any], config: Config
) -> None:
    made = function(table(), **settings, device="cpu")
    assert not function(table(), config=config, device="cpu").fresh
    assert not function(table(), like=made.path, device="cpu").fresh
    assert not function(table(), like=made.artifact, device="cpu").fresh
    Path("fit.toml").write_text(
        "\n".join(
            f"{name} = {str(value).lower()}" if not isinstance(value, str) else f'{name} = "{value}"'
            for name, value in settings.items()
        )
    )
    assert not function(table(), config="fit.toml", device="cpu").fresh


def test_a_calibration_is_a_file_or_an_object() -> None:
    given = table()
    calibration = calibration_of(given)
    calibrations.save(calibration, "feels.safetensors")
    settings: dict[str, Any] = {"ratio": 2.0, "keep_rows": "auto", "head_weight": 0.5}
    made = orientc.svd(given, **settings, calibration="feels.safetensors")
    assert not orientc.svd(given, **settings, calibration=calibration).fresh
    assert made.description.layout.kept == made.description.settings["keep_rows"]
    for function, own in ((orientc.quantize, {"bits": 4}), (orientc.compress, {"target_bits": 20})):
        assert "cost" in function(given, **own, calibration=calibration).description.distances  # type: ignore[operator]


def test_a_fit_starts_from_a_file_or_an_object() -> None:
    start = orientc.svd(table(), rank=3)
    made = orientc.compress(table(), rank=3, init=start.path, **FAST)
    assert made.description.settings["init"] == "artifact"
    assert not orientc.compress(table(), rank=3, init=start.artifact, **FAST).fresh
    config = AutoencoderConfig(rank=3, init="artifact", epochs=2, batch_size=32)
    assert not orientc.compress(table(), config=config, init=str(start.path)).fresh
    other = orientc.compress(table(), rank=3, init="random", **FAST)
    assert not same(made, other)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: orientc.compress(table(), target_bits=3, seed=5), "`seed` and `target_bits` exclude each other"),
        (lambda: orientc.compress(table(), target_bits=3, bits=4), "`bits` and `target_bits` exclude each other"),
        (lambda: orientc.compress(table(), target_bits=3, init="random"), "`init` and `target_bits` exclude"),
        (lambda: orientc.compress(table(), target_bits=3, log_with=["tensorboard"]), "`log_with`"),
        (lambda: orientc.compress(table(), rank=3, init="zeros"), "subspace, random"),
        (lambda: orientc.compress(table(), config=AutoencoderConfig(rank=3), init="random"), "`config` and `init`"),
        (lambda: orientc.compress(table(), config=AutoencoderConfig(rank=3), init="x.safetensors"), "`init`"),
        (lambda: orientc.compress(table(), config=SvdConfig(rank=3)), "SvdConfig is not for autoencoder"),  # type: ignore[arg-type]
        (lambda: orientc.svd(table(), config=SvdConfig(rank=3), rank=4), "`config` and `rank` exclude"),
        (lambda: orientc.svd(table(), rank=3, keep_rows=2), "`calibration`"),
        (lambda: orientc.svd(table(), rank=3, head_weight=0.5), "`calibration`"),
        (lambda: orientc.svd(table(), rank=3, calibration="none.safetensors"), "none.safetensors"),
        (lambda: orientc.svd(table(), rank=3, revision="main"), "`revision` is for a model that is named"),
        (lambda: orientc.svd(table(), rank=3, trust_remote_code=True), "`trust_remote_code`"),
        (lambda: orientc.quantize(table()), "`bits`"),
    ],
)
def test_what_does_not_apply_is_refused(call: Callable[[], Compressed], named: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert named in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_calibration_of_another_table_is_refused() -> None:
    with pytest.raises(OrientcError, match="another"):
        orientc.svd(table(), rank=3, calibration=calibration_of(table(1)))
