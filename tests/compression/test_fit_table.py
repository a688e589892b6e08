from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.calibrations import made as made_calibration
from torch import Tensor

from orientc.compression.configs import (
    AutoencoderConfig,
    CodedConfig,
    Config,
    QuantizeConfig,
    RankConfig,
    SvdConfig,
    TargetConfig,
)
from orientc.compression.fit_table import fit_table
from orientc.compression.sizing import importance_of
from orientc.errors import DeviceError, FitError, OrientcError, UsageError
from orientc.methods.recipe import Recipe
from orientc.models.source import ModelSource
from orientc.models.table import Table, read_table, table_sha256
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage.artifact import Artifact
from orientc.storage.calibration import Calibration
from orientc.storage.table_info import TableInfo
from orientc.utils.files import file_sha256

FAST: dict[str, Any] = {"epochs": 2, "batch_size": 32}


def table(weight: Tensor | None = None) -> Table:
    if weight is None:
        weight = torch.randn(90, 12, generator=torch.Generator().manual_seed(0))
    info = TableInfo(
        id="some/model", revision=None, sha256=table_sha256(weight), vocab=weight.shape[0], dim=weight.shape[1],
        dtype="float32", nbytes=weight.nbytes, padding_idx=None, embed_scale=1.0, tied=True, model_parameters=5000,
        model_bytes=20_000,
    )  # fmt: skip
    return Table(weight, info)


def svd(given: Table, **settings: Any) -> Artifact:
    return fit_table(given, SvdConfig(**settings), device="cpu")


# -- what a fit gives


def same(one: Artifact, other: Artifact, folder: Path) -> bool:
    artifacts.save(one, folder / "one.safetensors")
    artifacts.save(other, folder / "other.safetensors")
    return (folder / "one.safetensors").read_bytes() == (folder / "other.safetensors").read_bytes()


@pytest.mark.parametrize("settings", [FAST, FAST | {"init": "random", "nonlinear": "both", "schedule": "halving"}])
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = AutoencoderConfig(rank=4, seed=3, **settings)
    one = fit_table(table(), config, device="cpu")
    torch.rand(17)  # whatever the program drew meanwhile
    assert same(one, fit_table(table(), config, device="cpu"), tmp_path)
    assert not same(one, fit_table(table(), replace(config, seed=4), device="cpu"), tmp_path)


def test_svd_gives_the_same_bytes_again(tmp_path: Path) -> None:
    assert same(svd(table(), rank=4), svd(table(), rank=4), tmp_path)


def test_a_fit_leaves_the_table_alone() -> None:
    given = table()
    before = given.weight.clone()
    fit_table(given, AutoencoderConfig(rank=4, **FAST), device="cpu")
    svd(given, rank=4, center=True)
    assert torch.equal(given.weight, before)


def rows_by_numpy(tensors: Mapping[str, Tensor], activation: str | None) -> np.ndarray[Any, Any]:
    """The table a file holds, worked out in float64 without any of our code."""
    numbers = {name: tensor.float().numpy().astype(np.float64) for name, tensor in tensors.items()}
    rows = numbers["latents"] @ numbers["decoder.weight"].T + numbers.get("decoder.bias", 0.0)
    return np.where(rows > 0, rows, np.expm1(rows)) if activation == "elu" else rows


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "config",
    [
        SvdConfig(rank=4),
        SvdConfig(rank=4, center=True),
        AutoencoderConfig(rank=4, **FAST),
        AutoencoderConfig(rank=4, nonlinear="decoder", **FAST),
    ],
)
def test_distances_are_of_what_is_stored(config: Config, dtype: str) -> None:
    given = table()
    artifact = fit_table(given, replace(config, dtype=dtype), device="cpu")
    rows = given.weight.numpy().astype(np.float64)
    decoded = rows_by_numpy(artifact.factors.tensors, artifact.factors.activation)
    cosines = (rows * decoded).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(decoded, axis=1)
    difference = np.abs(rows - decoded) + 1e-10
    expected = {
        "cosine": (1 - cosines).mean(),
        "rmse": np.sqrt(np.square(difference).mean()),
        "mae": difference.mean(),
        "power_0_1": (difference**0.1).mean(),
        "power_0_6": (difference**0.6).mean(),
    }
    assert artifact.description.distances == pytest.approx(expected, rel=1e-4)
    assert {str(tensor.dtype) for tensor in artifact.factors.tensors.values()} == {f"torch.{dtype}"}


def test_narrow_numbers_show_in_the_distances() -> None:
    wide, narrow = (svd(table(), rank=12, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert wide.description.distances["rmse"] < 1e-5 < narrow.description.distances["rmse"]


def test_a_description_says_what_was_done() -> None:
    given = table()
    described = fit_table(
        given, AutoencoderConfig(ratio=2.0, seed=9, dtype="float16", **FAST), device="cpu"
    ).description
    assert described.base == given.info
    assert (described.method, described.rank, described.seed, described.dtype) == ("autoencoder", 5, 9, "float16")
    assert described.parameter_ratio >= 2 > 90 * 12 / (90 * 6 + 12 * 6 + 12)
    expected = {"method": "autoencoder", "rank": 5, "seed": 9, "dtype": "float16"}
    assert described.settings == asdict(Recipe(**FAST)) | expected
    described = svd(given, rank=4).description
    assert described.settings == {"method": "svd", "rank": 4, "dtype": "float32", "center": False}
    assert described.seed is None


def test_svd_keeps_latents_and_directions_of_the_table() -> None:
    given = table()
    factors = svd(given, rank=4).factors
    assert factors.weight is not None
    assert factors.bias is None
    torch.testing.assert_close(factors.latents, given.weight @ factors.weight, atol=1e-5, rtol=1e-5)


def test_a_ratio_counts_a_bias_only_where_there_is_one() -> None:
    given = table(torch.randn(10, 5, generator=torch.Generator().manual_seed(0)))
    ratio = 50 / 15  # met by rank 1 without a bias alone
    assert svd(given, ratio=ratio).description.rank == 1
    with pytest.raises(FitError):
        svd(given, ratio=ratio, center=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", [0, 57, 89])
def test_a_row_that_is_not_finite_is_named(value: float, row: int) -> None:
    weight = table().weight.clone()
    weight[row, 3] = value
    weight[89, 0] = value
    for config in (SvdConfig(rank=4), AutoencoderConfig(rank=4, **FAST)):
        with pytest.raises(FitError, match=rf"row {row} of"):
            fit_table(table(weight), config, device="cpu")


def test_numbers_too_large_for_float16_are_not_stored_as_infinity() -> None:
    large = table(table().weight * 1e6)
    for config in (SvdConfig(rank=4, dtype="float16"), AutoencoderConfig(rank=4, dtype="float16", **FAST)):
        with pytest.raises(FitError, match="float16"):
            fit_table(large, config, device="cpu")
    assert svd(large, rank=4, dtype="bfloat16").description.dtype == "bfloat16"


def test_a_rank_above_the_width_is_refused() -> None:
    with pytest.raises(FitError, match="at most 12"):
        svd(table(), rank=13)


@pytest.mark.parametrize(
    ("name", "error"), [("gpu", UsageError), ("meta:x", UsageError), ("cuda:99", DeviceError), ("meta", DeviceError)]
)
def test_a_device_that_is_not_there_is_an_error(name: str, error: type[OrientcError]) -> None:
    with pytest.raises(error, match="device"):
        fit_table(table(), SvdConfig(rank=4), device=name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tables_of_other_float_types_are_compressed(dtype: torch.dtype) -> None:
    given = table(table().weight.to(dtype))
    for artifact in (svd(given, rank=12), fit_table(given, AutoencoderConfig(rank=12, **FAST), device="cpu")):
        assert artifact.description.distances["cosine"] < 0.01


def test_a_fit_can_start_from_another_artifact(tmp_path: Path) -> None:
    given = table()
    start = svd(given, rank=4)
    config = AutoencoderConfig(rank=4, init="artifact", **FAST)
    fitted = fit_table(given, config, init=start, device="cpu")
    assert fitted.description.distances["cosine"] < start.description.distances["cosine"] + 0.01
    artifacts.save(start, tmp_path / "start.safetensors")
    assert fitted.description.settings["init_sha256"] == file_sha256(tmp_path / "start.safetensors")
    assert same(fitted, fit_table(given, config, init=tmp_path / "start.safetensors", device="cpu"), tmp_path)
    with pytest.raises(FitError, match="rank 4, not 5"):
        fit_table(given, replace(config, rank=5), init=start, device="cpu")
    with pytest.raises(UsageError, match="artifact"):
        fit_table(given, config, device="cpu")
    for other in (AutoencoderConfig(rank=4), SvdConfig(rank=4)):
        with pytest.raises(UsageError, match="`init`"):
            fit_table(given, other, init=start, device="cpu")


# -- tables that no model should have, and some have


def normal(vocab: int = 90, dim: int = 12) -> Tensor:
    return torch.randn(vocab, dim, generator=torch.Generator().manual_seed(0))


def changed(change: Callable[[Tensor], object]) -> Tensor:
    weight = normal()
    change(weight)
    return weight


TABLES: dict[str, tuple[Tensor, int]] = {
    "float16": (normal().half(), 4),
    "bfloat16": (normal().bfloat16(), 4),
    "float64": (normal().double(), 4),
    "rows of zeros": (changed(lambda weight: weight[::7].zero_()), 4),
    "nothing but zeros": (torch.zeros(90, 12), 4),
    "rows that are the same": (changed(lambda weight: weight[40:].copy_(weight[0])), 4),
    "all rows the same": (torch.ones(90, 12), 4),
    "constant columns": (changed(lambda weight: weight[:, 3:5].copy_(torch.tensor([2.0, 0.0]))), 4),
    "as many directions as columns": (normal(), 12),
    "one direction": (normal(), 1),
    "one column": (normal(90, 1), 1),
    "fewer rows than columns": (normal(5), 4),
    "more directions than rows": (normal(5), 12),
    "one row": (normal(1), 3),
    "float16's largest": (normal().sign().half() * 65504, 4),
    "huge": (normal() * 1e30, 4),
    "huge, float64": (normal().double() * 1e30, 4),
    "huge, bfloat16": (normal().bfloat16() * 1e30, 4),
    "tiny": (normal() * 1e-30, 4),
    "below float32's smallest": (normal() * 1e-42, 4),
    "huge and tiny": (normal() * torch.logspace(-30, 30, 90)[:, None], 4),
}
METHODS: dict[str, RankConfig] = {
    "svd": SvdConfig(rank=1),
    "svd, centred": SvdConfig(rank=1, center=True),
    "default": AutoencoderConfig(rank=1),
    "paper": AutoencoderConfig.preset("paper", rank=1, epochs=2),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", TABLES)
def test_everything_is_finite_and_can_be_read_again(name: str, method: str, tmp_path: Path) -> None:
    weight, rank = TABLES[name]
    artifact = fit_table(table(weight), replace(METHODS[method], rank=rank))
    artifacts.save(artifact, tmp_path / "x.safetensors")
    read = artifacts.load(tmp_path / "x.safetensors")
    assert read.description == artifact.description
    assert read.factors.dense().shape == weight.shape
    assert read.factors.dense().isfinite().all()
    assert all(map(math.isfinite, artifact.description.distances.values()))
    assert -1e-6 < artifact.description.distances["cosine"] < 2 + 1e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exponent", [60, 100])
def test_a_table_of_very_large_numbers_is_compressed_as_a_smaller_one_is(method: str, exponent: int) -> None:
    config = replace(METHODS[method], rank=4)
    scale = 2.0**exponent
    weight = normal()
    weight *= 1.5 / weight.abs().max()  # what the large one is scaled down to
    small, large = fit_table(table(weight), config), fit_table(table(weight * scale), config)
    assert torch.equal(large.factors.dense(), small.factors.dense() * scale)
    assert large.description.distances["cosine"] == small.description.distances["cosine"]
    difference = large.factors.dense().double() - weight.double() * scale
    assert large.description.distances["rmse"] == pytest.approx(difference.square().mean().sqrt().item(), rel=1e-5)
    assert large.description.distances["mae"] == pytest.approx(difference.abs().mean().item(), rel=1e-5)
    power = difference.abs().pow(0.6).mean().item()
    assert large.description.distances["power_0_6"] == pytest.approx(power, rel=1e-3)


def test_numbers_too_large_are_refused_in_one_line() -> None:
    with pytest.raises(FitError, match="row 0 of the table holds a number that is not finite"):
        svd(table(normal().double() * 1e200), rank=4)
    with pytest.raises(FitError, match="its numbers are too large"):
        svd(table(torch.full((90, 12), 3.4e38)), rank=4)
    with pytest.raises(FitError, match="store it as float32"):
        svd(table(normal() * 1e30), rank=4, dtype="float16")
    with pytest.raises(FitError, match="left the range"):
        fit_table(table(normal() * 1e30), AutoencoderConfig(rank=4, nonlinear="decoder", **FAST))


CODED: dict[str, Config] = {
    "2 bits": QuantizeConfig(bits=2),
    "8 bits in groups": QuantizeConfig(bits=8, group_size=5),
    "svd in bits": SvdConfig(rank=1, bits=4, center=True),
    "autoencoder in bits": AutoencoderConfig(rank=1, bits=3, group_size=2, **FAST),
    "target": TargetConfig(target_bits=400),
}
BEYOND = {"float16's largest", "huge", "huge, float64", "huge, bfloat16", "huge and tiny"}  # float16's range of scales


@pytest.mark.parametrize("method", CODED)
@pytest.mark.parametrize("name", TABLES)
def test_codes_are_finite_and_can_be_read_again_or_one_line_says_why_not(
    name: str, method: str, tmp_path: Path
) -> None:
    weight, rank = TABLES[name]
    config = CODED[method]
    given = table(weight)
    for calibration in (None, calibration_of(given)):
        own = replace(config, rank=rank) if isinstance(config, RankConfig) else config
        try:
            artifact = fit_table(given, own, calibration=calibration)
        except FitError as error:
            said = str(error)
            assert name in BEYOND
            assert "float16" in said
            assert "\n" not in said
            continue
        artifacts.save(artifact, tmp_path / "x.safetensors")
        read = artifacts.load(tmp_path / "x.safetensors")
        assert read.description == artifact.description
        assert read.factors.dense().shape == weight.shape
        assert read.factors.dense().isfinite().all()
        assert all(map(math.isfinite, artifact.description.distances.values()))
        assert read.description.bits_per_weight <= 400 or not isinstance(config, TargetConfig)
        if name == "nothing but zeros":
            assert read.factors.dense().abs().max() < 1e-3


def calibration_of(given: Table) -> Calibration:
    """A calibration of a table, in which some rows and directions count more than others."""
    made = made_calibration(base=given.info)
    root = torch.randn(given.info.dim, given.info.dim, generator=torch.Generator().manual_seed(1))
    counts = 100.0 / torch.arange(1, given.info.vocab + 1)
    return replace(made, counts=counts, input_importance=root @ root.T, head_importance=torch.eye(given.info.dim))


CALIBRATED: dict[str, Config] = {
    "svd": SvdConfig(rank=4, keep_rows=7),
    "default": AutoencoderConfig(rank=4, keep_rows=7, **FAST),
    "bits": QuantizeConfig(bits=3, keep_rows=7),
    "target": TargetConfig(target_bits=5),
}


@pytest.mark.parametrize("method", CALIBRATED)
def test_calibrated_fits_keep_what_they_say_and_are_the_same_again(method: str, tmp_path: Path) -> None:
    rows = (
        900 if method == "target" else 90
    )  # trellis codes have a table of levels, which smaller ones have no room for
    given, config = table(torch.randn(rows, 12, generator=torch.Generator().manual_seed(0))), CALIBRATED[method]
    calibration = calibration_of(given)
    one = fit_table(given, config, calibration=calibration)
    torch.rand(5)
    calibrations.save(calibration, tmp_path / "calibration.safetensors")
    assert same(one, fit_table(given, config, calibration=tmp_path / "calibration.safetensors"), tmp_path)
    dense = one.factors.dense()
    if isinstance(config, CodedConfig):
        assert one.description.layout.kept == config.keep_rows == 7
        assert torch.equal(dense[:7], given.weight[:7])  # the first are the most frequent
    plain = fit_table(given, replace(config, keep_rows=0) if isinstance(config, CodedConfig) else config)
    importance = importance_of(config, given.weight, calibration)
    cost = importance.cost(one.factors, given.weight)
    assert one.description.distances["cost"] == pytest.approx(cost, rel=1e-4)
    assert cost < 0.9 * importance.cost(plain.factors, given.weight)
    assert "cost" not in plain.description.distances


def test_the_papers_recipe_is_what_it_is_written_out() -> None:
    """To rounding: nothing of metrics, weights or processes may have crept in."""
    weight, config = normal(), AutoencoderConfig.preset("paper", rank=4, epochs=3, alpha_epochs=2, seed=5)
    torch.manual_seed(5)
    encoder, decoder = torch.nn.Linear(12, 4), torch.nn.Linear(4, 12)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(5)
    for epoch in range(3):
        for ids in torch.randperm(90, generator=generator).split(32):
            optimizer.zero_grad()
            decoded = decoder(encoder(weight[ids]))
            cosine = (1 - torch.nn.functional.cosine_similarity(decoded, weight[ids], dim=-1, eps=1e-6)).mean()
            power = ((decoded - weight[ids]).abs() + 1e-10).pow((1.0, 0.55, 0.1)[epoch]).mean()
            (torch.zeros(()) + 0.9975 / 5 * cosine + 0.0025 * power).backward()
            optimizer.step()
    factors = fit_table(table(weight), config, device="cpu").factors
    assert factors.tensors.keys() == {"latents", "decoder.weight", "decoder.bias"}
    torch.testing.assert_close(factors.latents, encoder(weight))
    assert factors.weight is not None
    torch.testing.assert_close(factors.weight, decoder.weight)


@pytest.mark.parametrize(("name", "value"), [("target_bits", 3.5), ("target_ratio", 6.0), ("target_mb", 0.5)])
def test_a_target_is_met_on_the_demo_and_with_a_calibration_used_up(name: str, value: float) -> None:
    """Without one all rows have the same bits, or the same rank: the steps between two sizes are several per cent."""
    given = read_table(ModelSource.resolve("demo"))
    config = TargetConfig(**{name: value})  # type: ignore[arg-type]
    allowed = {"target_bits": given.weight.numel() * value / 8, "target_ratio": given.info.nbytes / value}
    most = allowed.get(name, value * 1e6)
    assert fit_table(given, config).description.nbytes <= most
    found = fit_table(given, config, calibration=calibration_of(given)).description
    assert 0.99 * most < found.nbytes <= most
