"""Fit a table in memory: run a method, measure what it cost, and say where everything came from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orientc.compression.configs import AutoencoderConfig, CodedConfig, Config, QuantizeConfig, SvdConfig, TargetConfig
from orientc.compression.gguf_tables import check_calibration
from orientc.compression.sizing import importance_of, sized
from orientc.errors import FitError, UsageError
from orientc.methods import autoencoder, ggml_fit, kept_rows, losses, per_group, target_size
from orientc.methods import svd as truncated_svd
from orientc.methods.importance import Importance
from orientc.methods.table_rows import RowView, TableRows
from orientc.modeling.factors import CHUNK, Factors
from orientc.modeling.layout import FLOAT, PLAIN
from orientc.models.table import Table
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage.artifact import Artifact
from orientc.storage.calibration import Calibration
from orientc.storage.description import Description
from orientc.storage.sizes import target_bytes
from orientc.utils.devices import pick_device

OnEpoch = Callable[[autoencoder.Epoch], None]
_LARGE = 2.0**48  # squares of such numbers, summed over a row, are far from float32's end


def fit_table(
    table: Table,
    config: Config,
    *,
    calibration: str | Path | Calibration | None = None,
    init: str | Path | Artifact | None = None,
    device: str | None = None,
    on_epoch: OnEpoch | None = None,
) -> Artifact:
    """Compress a table and return the artifact without storing it.

    Args:
        table: The table.
        config: How to compress it.
        calibration: A calibration of this table, or its file.
        init: The artifact an autoencoder starts from, or its file, where the config's `init` is "artifact".
        device: Where to fit; None for accelerate's choice.
        on_epoch: Called after each epoch of an autoencoder.

    Raises:
        UsageError: The config doesn't go with what is given.
        FitError: The table can't be compressed so.
        CalibrationError: The calibration can't be used, or was measured on another table.
    """
    return Fit.prepare(table, config, calibration=calibration, init=init).run(device=device, on_epoch=on_epoch)


@dataclass(frozen=True)
class Fit:
    """A fit settled in every detail.

    `config` has its rank and rows kept chosen; `settings` are those the artifact records, with the sha256 of the
    calibration and of the artifact the fit starts from, whose compressed table is `start`. `importance` is the
    calibration's, which itself is not held: of a wide table its matrices take hundreds of MB.
    """

    table: Table
    config: Config
    settings: dict[str, Any]
    importance: Importance | None = None
    start: Factors | None = None

    @classmethod
    def prepare(
        cls,
        table: Table,
        config: Config,
        *,
        calibration: str | Path | Calibration | None = None,
        init: str | Path | Artifact | None = None,
    ) -> Fit:
        """Settle a fit; arguments and errors are those of `fit_table`."""
        config.check_inputs(calibration=calibration is not None, init=init is not None)
        known = first = None
        sha256s = {}
        if calibration is not None:
            known = loaded(calibration)
            sha256s["calibration_sha256"] = known.sha256
        if init is not None:
            first = init if isinstance(init, Artifact) else artifacts.load(_there(init))
            sha256s["init_sha256"] = first.sha256
        own = None
        if known is not None:
            own = known.of_table(table.info.table)
            check_calibration(known, table)
        config = sized(config, table, own)
        start = None if first is None else first.factors
        importance = None if own is None else importance_of(config, table.weight, own)
        return cls(table, config, config.settings | sha256s, importance, start)

    def run(self, *, device: str | None = None, on_epoch: OnEpoch | None = None) -> Artifact:
        """Fit the table and measure the distances.

        A table with numbers so large that their squares leave float32 is fitted, and its epochs reported, scaled down.
        Arguments and errors are those of `fit_table`.
        """
        config, table = self.config, self.table
        table.check_finite()
        through_elu = isinstance(config, AutoencoderConfig) and config.nonlinear in ("decoder", "both")
        scale = 1.0 if through_elu else _scale(table.weight)  # an ELU behind the decoder is not to be scaled
        here = table.weight.to(pick_device(device))
        original, weight = (rows if scale == 1 else RowView(rows, divisor=scale) for rows in (table.weight, here))
        importance = Importance.plain(weight) if self.importance is None else self.importance.to(weight.device)
        if isinstance(config, TargetConfig):
            if not importance.known and config.runtime is None:
                weights = None if self.importance is None else importance.weights
                importance = Importance.guessed(weight, weights)
            choice = self._fit_to_size(config, weight, importance)
            factors, costs = choice.factors, {f"cost_{name}": cost for name, cost in choice.costs.items()}
            if importance.known:
                costs = {"cost": choice.costs[choice.form]} | costs
        else:
            assert isinstance(config, CodedConfig)
            ids = kept_rows.weightiest(importance.weights, int(config.keep_rows))
            start = self.start and _scaled(self.start, 1 / scale)
            weigh = self.importance is not None
            fit = partial(_fit_rows, config, start=start, on_epoch=on_epoch, weigh=weigh)
            factors, costs = kept_rows.around(weight, ids, importance, fit), {}
        factors = _scaled(factors, scale).to(getattr(torch, config.dtype))
        floating = (tensor for tensor in factors.tensors.values() if tensor.is_floating_point())
        if not all(part.isfinite().all() for tensor in floating for part in tensor.split(CHUNK)):
            raise FitError(_too_large(config, factors))
        back = _scaled(factors, 1 / scale)
        if importance.known and "cost" not in costs:
            costs = {"cost": importance.cost(back.map(lambda tensor: tensor.to(weight.device)), weight)} | costs
        distances = losses.distances(back, original).scaled(scale)
        floats = any(kind == FLOAT for kind, _ in factors.layout.shapes.values())
        description = Description(
            base=table.info,
            method=config.method,
            layout=factors.layout,
            settings=self.settings,
            seed=config.seed if isinstance(config, AutoencoderConfig) else None,
            distances=asdict(distances) | {name: cost * scale**2 for name, cost in costs.items()},
            dtype=config.dtype if floats else "float16",
        )
        return Artifact(description, factors)

    def _fit_to_size(self, config: TargetConfig, weight: TableRows, importance: Importance) -> target_size.Choice:
        info = self.table.info
        nbytes = target_bytes(
            info.vocab, info.dim, info.nbytes, ratio=config.target_ratio, bits=config.target_bits, mb=config.target_mb
        )
        if config.runtime:
            return target_size.fit_blocks_to_size(weight, nbytes, importance)
        return target_size.fit_to_size(
            weight, nbytes, importance, dtype=getattr(torch, config.dtype), effort=config.effort
        )


def _fit_rows(
    config: CodedConfig,
    rows: TableRows,
    importance: Importance,
    *,
    weigh: bool,
    start: Factors | None,
    on_epoch: OnEpoch | None,
) -> Factors:
    """The compressed form of the rows that are not kept; `weigh` says whether the importance is a calibration's."""
    weighed = importance if weigh else None
    if isinstance(config, QuantizeConfig) and config.block:
        return ggml_fit.code_in_blocks(rows, config.block, importance.given)
    if isinstance(config, QuantizeConfig):
        assert config.bits is not None
        groups = -(-rows.shape[1] // config.group_size)
        return per_group.quantize_table(
            rows, [[config.bits] * groups], group_size=config.group_size, importance=importance.in_latents(None)
        )
    if isinstance(config, SvdConfig):
        assert config.rank is not None
        factors = truncated_svd.truncated_svd(rows, config.rank, center=config.center, importance=weighed)
    else:
        assert isinstance(config, AutoencoderConfig)
        assert config.rank is not None
        factors = autoencoder.fit_autoencoder(
            rows[:], config.rank, config, seed=config.seed, start=start, importance=weighed, on_epoch=on_epoch
        )
    if config.bits is None:
        return factors
    groups = -(-factors.rank // config.group_size)
    return per_group.quantize_per_group(
        factors,
        [[config.bits] * groups],
        group_size=config.group_size,
        importance=importance.in_latents(factors.weight),
    )


def loaded(calibration: str | Path | Calibration) -> Calibration:
    """A calibration, read from its file where it is named. Raises `UsageError` where there is none."""
    return calibration if isinstance(calibration, Calibration) else calibrations.load(_there(calibration))


def _there(file: str | Path) -> Path:
    """A file that is named. Raises `UsageError` where there is none."""
    if not Path(file).exists():
        raise UsageError(f"there is no file {file}")
    return Path(file)


def _too_large(config: Config, factors: Factors) -> str:
    plain = isinstance(config, CodedConfig) and not isinstance(config, QuantizeConfig) and config.bits is None
    if config.dtype == "float16" and plain:
        return "the compressed table does not fit into float16: store it as float32 or bfloat16"
    if factors.layout.codec != PLAIN:
        return "the table's numbers are too large for codes, whose scales are float16: store latents as numbers"
    return f"the compressed table does not fit into {config.dtype}: its numbers are too large"


def _scale(weight: Tensor) -> float:
    """What to divide a table by before it is fitted: 1, or a power of two where its numbers are very large."""
    largest = max(abs(float(end)) for end in weight.aminmax())
    return 1.0 if largest < _LARGE else 2.0 ** math.floor(math.log2(largest))


def _scaled(factors: Factors, scale: float) -> Factors:
    """Factors of the table times `scale`."""
    if scale == 1:
        return factors
    return factors.map_named(
        lambda name, tensor: (
            tensor if name in ("decoder.weight", "decoder.scales") or not tensor.is_floating_point() else tensor * scale
        )
    )
