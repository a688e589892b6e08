"""The function behind `orientc compress`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orientc.compression.configs import AutoencoderConfig, Config, TargetConfig
from orientc.compression.settings import read_config
from orientc.errors import UsageError
from orientc.methods.recipe import INITS
from orientc.storage.artifact import SUFFIX, Artifact

if TYPE_CHECKING:
    from orientc.compression.fit_and_store import Compressed
    from orientc.models.source import ModelSource
    from orientc.models.table import Table
    from orientc.storage.calibration import Calibration
    from orientc.utils.progress import Progress

_KINDS: tuple[type[Config], ...] = (AutoencoderConfig, TargetConfig)


def compress(
    model: str | Path | ModelSource | Table,
    *,
    target_bits: float | None = None,
    target_ratio: float | None = None,
    target_mb: float | None = None,
    runtime: str | None = None,
    effort: str | None = None,
    rank: int | None = None,
    ratio: float | None = None,
    bits: int | None = None,
    group_size: int | None = None,
    keep_rows: int | str | None = None,
    dtype: str | None = None,
    preset: str | None = None,
    init: str | Path | Artifact | None = None,
    nonlinear: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    schedule: str | None = None,
    halve_every: int | None = None,
    cosine_weight: float | None = None,
    power_weight: float | None = None,
    rmse_weight: float | None = None,
    alpha_start: float | None = None,
    alpha_end: float | None = None,
    alpha_epochs: int | None = None,
    seed: int | None = None,
    config: AutoencoderConfig | TargetConfig | str | Path | None = None,
    like: str | Path | Artifact | None = None,
    table: str | None = None,
    calibration: str | Path | Calibration | None = None,
    head_weight: float | None = None,
    device: str | None = None,
    log_with: list[str] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Compressed:
    """Compress a table to a target size in the form that costs least, or by the paper's autoencoder; store it.

    With a `target_bits`, `target_ratio` or `target_mb` the settings are the fields of `TargetConfig`, else those of
    `AutoencoderConfig`; None leaves one to `config`, `like`, `preset` or its default. The other arguments, the result
    and the errors are those of `fit_and_store`.

    Args:
        model: Hub id, local folder, GGUF file or "demo"; or a model or table that was read already.
        preset: "default" or "paper": the recipe that other settings change.
        init: "subspace", "random", or an artifact or its file to start from.
        config: A complete `TargetConfig` or `AutoencoderConfig`, or a TOML or JSON file of settings.
        like: An artifact whose settings are repeated where nothing else is said.
    """
    start = init if init is not None and _is_artifact(init) else None
    if start is None and init not in (None, *INITS):
        raise UsageError(f"`init` must be subspace, random or an artifact's file, not {init!s:.60}")
    given: dict[str, object] = {
        "target_bits": target_bits, "target_ratio": target_ratio, "target_mb": target_mb, "runtime": runtime,
        "effort": effort, "rank": rank, "ratio": ratio,
        "bits": bits, "group_size": group_size, "keep_rows": keep_rows, "dtype": dtype, "preset": preset,
        "nonlinear": nonlinear, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
        "schedule": schedule, "halve_every": halve_every, "cosine_weight": cosine_weight, "power_weight": power_weight,
        "rmse_weight": rmse_weight, "alpha_start": alpha_start, "alpha_end": alpha_end, "alpha_epochs": alpha_epochs,
        "seed": seed, "head_weight": head_weight,
    }  # fmt: skip
    if not (start is not None and isinstance(config, Config)):  # a complete config says itself what it starts from
        given["init"] = init if start is None else "artifact"
    settled = read_config(_KINDS, given, config=config, like=like, calibrated=calibration is not None)
    from orientc.compression.fit_and_store import fit_and_store  # torch comes with it: wrong settings don't wait for it

    return fit_and_store(
        model,
        settled,
        table=table,
        calibration=calibration,
        init=start,
        log_with=log_with,
        device=device,
        out=out,
        overwrite=overwrite,
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )


def _is_artifact(init: str | Path | Artifact) -> bool:
    return not isinstance(init, str) or init.endswith(SUFFIX)
