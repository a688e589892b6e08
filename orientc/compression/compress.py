"""From a table to an artifact: run a method, measure what it cost, say where everything came from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from orientc.compression.configs import AUTOENCODER, GROUP, PRESETS, QUANTIZE, SVD, TARGET, Plan
from orientc.errors import FitError, UsageError
from orientc.methods import autoencoder, kept_rows, losses, per_group, target_size
from orientc.methods import svd as truncated_svd
from orientc.methods.importance import Importance
from orientc.methods.recipe import Recipe
from orientc.modeling.factors import Factors
from orientc.modeling.layout import FLOAT, PLAIN
from orientc.models.source import ModelSource
from orientc.models.table import Table, read_table
from orientc.storage import calibration as calibrations
from orientc.storage.artifact import Artifact
from orientc.storage.calibration import Calibration
from orientc.storage.description import Description
from orientc.storage.sizes import target_bytes
from orientc.utils.devices import pick_device
from orientc.utils.files import file_sha256

_LARGE = 2.0**48  # squares of such numbers, summed over a row, are far from float32's end


def run(
    plan: Plan,
    table: Table,
    *,
    device: str | None = None,
    start: Factors | None = None,
    calibration: Calibration | None = None,
    on_epoch: Callable[[autoencoder.Epoch], None] | None = None,
) -> Artifact:
    """Carry out a plan on a table. `start` is what an autoencoder starts from, where the plan says so.

    `calibration` is the one the plan names. A table with numbers so large that their squares leave float32 is fitted,
    and its epochs reported, scaled down. Raises `FitError` where the table can't be compressed as planned,
    `CalibrationMismatchError` where the calibration is of another table.
    """
    plan = plan.for_table(table, calibration)
    table.check_finite()
    through_elu = plan.method == AUTOENCODER and plan.autoencoder.nonlinear in ("decoder", "both")
    scale = 1.0 if through_elu else _scale(table.weight)  # an ELU behind the decoder is not to be scaled
    original = table.weight if scale == 1 else table.weight.float() / scale
    start = start and _scaled(start, 1 / scale)
    weight = original.to(pick_device(device))
    importance = plan.importance(weight, calibration)
    costs: dict[str, float] = {}
    if plan.method == TARGET:
        choice = _targeted(plan, table, weight, importance)
        factors, costs = choice.factors, {f"cost_{name}": cost for name, cost in choice.costs.items()}
    else:
        ids = kept_rows.weightiest(importance.weights, plan.keep_rows)
        fit = partial(_fitted, plan, start=start, on_epoch=on_epoch, weigh=calibration is not None)
        factors = kept_rows.around(weight, ids, importance, fit)
    factors = _scaled(factors, scale).to(getattr(torch, plan.dtype))
    if not all(tensor.isfinite().all() for tensor in factors.tensors.values()):
        raise FitError(_too_large(plan, factors))
    back = _scaled(factors, 1 / scale)
    if importance.known and calibration is not None:
        costs = {"cost": importance.cost(back.map(lambda tensor: tensor.to(weight.device)), weight)} | costs
    distances = losses.distances(back, original).scaled(scale)
    floats = any(kind == FLOAT for kind, _ in factors.layout.shapes.values())
    description = Description(
        base=table.info,
        method=plan.method,
        layout=factors.layout,
        settings=plan.settings,
        seed=plan.seed if plan.method == AUTOENCODER else None,
        distances=asdict(distances) | {name: cost * scale**2 for name, cost in costs.items()},
        dtype=plan.dtype if floats else "float16",
    )
    return Artifact(description, factors)


def _too_large(plan: Plan, factors: Factors) -> str:
    if plan.dtype == "float16" and plan.method in (SVD, AUTOENCODER) and plan.bits is None:
        return "the compressed table does not fit into float16: store it as float32 or bfloat16"
    if factors.layout.codec != PLAIN:
        return "the table's numbers are too large for codes, whose scales are float16: store latents as numbers"
    return f"the compressed table does not fit into {plan.dtype}: its numbers are too large"


def _scale(weight: Tensor) -> float:
    """What to divide a table by before it is fitted: 1, or a power of two where its numbers are very large."""
    largest = max(abs(float(end)) for end in weight.aminmax())
    return 1.0 if largest < _LARGE else 2.0 ** math.floor(math.log2(largest))


def _scaled(factors: Factors, scale: float) -> Factors:
    """Factors of the table times `scale`."""
    if scale == 1:
        return factors
    return factors.map_named(
        lambda name, tensor: tensor if name == "decoder.weight" or not tensor.is_floating_point() else tensor * scale
    )


def _targeted(plan: Plan, table: Table, weight: Tensor, importance: Importance) -> target_size.Choice:
    info = table.info
    nbytes = target_bytes(
        info.vocab, info.dim, info.nbytes, ratio=plan.target_ratio, bits=plan.target_bits, mb=plan.target_mb
    )
    return target_size.fit_to_size(weight, nbytes, importance, dtype=getattr(torch, plan.dtype))


def _fitted(
    plan: Plan,
    rows: Tensor,
    importance: Importance,
    *,
    weigh: bool,
    start: Factors | None,
    on_epoch: Callable[[autoencoder.Epoch], None] | None,
) -> Factors:
    """What stands for the rows that are not kept; `weigh` says whether the importance is a calibration's."""
    if plan.method == QUANTIZE:
        factors = Factors.plain(rows.float())
    elif plan.method == SVD:
        assert plan.rank is not None
        factors = truncated_svd.truncated_svd(
            rows, plan.rank, center=plan.center, importance=importance if weigh else None
        )
    else:
        assert plan.rank is not None
        factors = autoencoder.fit_autoencoder(
            rows,
            plan.rank,
            plan.autoencoder,
            seed=plan.seed,
            start=start,
            importance=importance if weigh else None,
            on_epoch=on_epoch,
        )
    if plan.bits is not None:
        in_latents = importance.in_latents(factors.weight)
        groups = -(-factors.rank // plan.group_size)
        factors = per_group.quantize_per_group(
            factors, [[plan.bits] * groups], group_size=plan.group_size, importance=in_latents
        )
    return factors


def svd(
    model: str | Table,
    *,
    rank: int | None = None,
    ratio: float | None = None,
    center: bool = False,
    bits: int | None = None,
    keep_rows: int = 0,
    calibration: str | Path | None = None,
    dtype: str = "float32",
    device: str | None = None,
) -> Artifact:
    """Compress a table by exact truncated SVD.

    `model` is a table or a model argument; exactly one of `rank` and `ratio` is given. With the file of a `calibration`
    rows are weighted and errors count in the model's importance; `keep_rows` and `bits` are as in `Plan`. Raises
    `UsageError`, `ModelError`, `FitError` or `CalibrationError`.
    """
    loaded, sha256 = _calibrated(calibration)
    plan = Plan(SVD, rank, ratio, dtype, center, bits=bits, keep_rows=keep_rows, calibration_sha256=sha256)
    return run(plan, _table(model), device=device, calibration=loaded)


def quantize(
    model: str | Table,
    bits: int,
    *,
    group_size: int = GROUP,
    keep_rows: int = 0,
    calibration: str | Path | None = None,
    device: str | None = None,
) -> Artifact:
    """Round the rows of a table to `bits` bits a number, `group_size` numbers to a scale.

    With the file of a `calibration` errors are fed back in the model's importance. Raises as `svd` does.
    """
    loaded, sha256 = _calibrated(calibration)
    plan = Plan(QUANTIZE, bits=bits, group_size=group_size, keep_rows=keep_rows, calibration_sha256=sha256)
    return run(plan, _table(model), device=device, calibration=loaded)


def compress(
    model: str | Table,
    *,
    rank: int | None = None,
    ratio: float | None = None,
    target_bits: float | None = None,
    settings: Recipe | None = None,
    seed: int = 0,
    calibration: str | Path | None = None,
    dtype: str | None = None,
    device: str | None = None,
    on_epoch: Callable[[autoencoder.Epoch], None] | None = None,
) -> Artifact:
    """Compress a table by the paper's autoencoder, or with `target_bits` per weight in the form that costs least.

    `model` is a table or a model argument; exactly one of `rank`, `ratio` and `target_bits` is given. `settings` are
    the fast default ones unless given (`PRESETS["paper"]` is the published recipe), `dtype` is float32, or float16 with
    a target. Raises as `svd` does.
    """
    loaded, sha256 = _calibrated(calibration)
    if target_bits is not None:
        if rank is not None or ratio is not None:
            raise UsageError("give a rank, a ratio or a target, and one of them alone")
        plan = Plan(TARGET, target_bits=target_bits, dtype=dtype or "float16", calibration_sha256=sha256)
    else:
        plan = Plan(
            AUTOENCODER,
            rank,
            ratio,
            dtype or "float32",
            autoencoder=settings or PRESETS["default"],
            seed=seed,
            calibration_sha256=sha256,
        )
    return run(plan, _table(model), device=device, calibration=loaded, on_epoch=on_epoch)


def _calibrated(file: str | Path | None) -> tuple[Calibration | None, str | None]:
    return (calibrations.load(file), file_sha256(Path(file))) if file is not None else (None, None)


def _table(model: str | Table) -> Table:
    return model if isinstance(model, Table) else read_table(ModelSource.resolve(model))
