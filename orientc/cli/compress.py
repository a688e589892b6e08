"""`orientc compress`"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from orientc.cli import options


class Preset(StrEnum):
    """Recipes the other options start from."""

    default = "default"
    paper = "paper"


class Nonlinear(StrEnum):
    """Where an ELU follows a linear map."""

    none = "none"
    encoder = "encoder"
    decoder = "decoder"
    both = "both"


class Schedule(StrEnum):
    """How the learning rate goes."""

    cosine = "cosine"
    halving = "halving"


def compress(
    model: options.Model,
    rank: options.Rank = None,
    ratio: options.Ratio = None,
    preset: Annotated[
        Preset | None,
        typer.Option(help="Recipe to start from: ours, or the paper's to the letter. [default: default]"),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="subspace|random|ARTIFACT", help="Where the fit starts from.", show_default=False),
    ] = None,
    nonlinear: Annotated[Nonlinear | None, typer.Option(help="Where an ELU follows.", show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the table.", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows per step.", show_default=False)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's, at the first step.", show_default=False)] = None,
    schedule: Annotated[
        Schedule | None,
        typer.Option(help="Learning rate to zero, or halved now and then.", show_default=False),
    ] = None,
    halve_every: Annotated[int | None, typer.Option(help="Epochs between two halvings.", show_default=False)] = None,
    cosine_weight: Annotated[
        float | None, typer.Option(help="Weight of the cosine distance.", show_default=False)
    ] = None,
    power_weight: Annotated[float | None, typer.Option(help="Weight of |x|^α.", show_default=False)] = None,
    rmse_weight: Annotated[float | None, typer.Option(help="Weight of the RMSE.", show_default=False)] = None,
    alpha_start: Annotated[float | None, typer.Option(help="First α.", show_default=False)] = None,
    alpha_end: Annotated[float | None, typer.Option(help="Last α.", show_default=False)] = None,
    alpha_epochs: Annotated[
        int | None, typer.Option(help="Epochs over which α is annealed.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draws first weights and batches.", show_default=False)] = None,
    target_bits: Annotated[
        float | None, typer.Option(help="Choose the best form of at most so many bits per weight.", show_default=False)
    ] = None,
    target_ratio: Annotated[
        float | None, typer.Option(help="The same for a byte ratio of at least this.", show_default=False)
    ] = None,
    target_mb: Annotated[
        float | None, typer.Option(help="The same for at most so many MB.", show_default=False)
    ] = None,
    bits: options.Bits = None,
    group_size: options.GroupSize = None,
    calibration: options.Calibrated = None,
    head_weight: options.HeadWeight = None,
    keep_rows: options.KeepRows = None,
    dtype: options.StoredDtype = None,
    config: options.Config = None,
    like: options.Like = None,
    log_with: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb … (accelerate's trackers); may be repeated.")
    ] = None,
    device: options.Device = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compress a table by the paper's autoencoder, cosine distance and annealed |x|^α, or best to a target size.

    Example: `orientc compress bert-base-uncased --rank 128`
    """
    from orientc.cli import artifacts
    from orientc.compression.configs import AUTOENCODER, TARGET, TARGETS, Plan
    from orientc.models.resolve import is_artifact

    given: dict[str, Any] = {
        "rank": rank, "ratio": ratio, "preset": preset, "nonlinear": nonlinear, "epochs": epochs,
        "batch_size": batch_size, "learning_rate": learning_rate, "schedule": schedule, "halve_every": halve_every,
        "cosine_weight": cosine_weight, "power_weight": power_weight, "rmse_weight": rmse_weight,
        "alpha_start": alpha_start, "alpha_end": alpha_end, "alpha_epochs": alpha_epochs, "seed": seed,
        "dtype": dtype, "bits": bits, "group_size": group_size, "head_weight": head_weight,
        "keep_rows": options.count_or_auto(keep_rows), "target_bits": target_bits,
        "target_ratio": target_ratio, "target_mb": target_mb,
    }  # fmt: skip
    start = Path(init) if init and is_artifact(init) else None
    given["init"] = "artifact" if start else init
    layers = artifacts.layers(like, config, given)
    plan = Plan.from_layers(
        TARGET if any(layer.get(name) is not None for layer in layers for name in TARGETS) else AUTOENCODER,
        *layers,
        init_sha256=artifacts.sha256_of(start),
        calibration_sha256=artifacts.sha256_of(calibration),
    )
    stored = artifacts.fit(
        model,
        plan,
        init=start,
        calibration=calibration,
        out=out,
        overwrite=overwrite,
        device=device,
        quiet=quiet,
        log_with=log_with,
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
    artifacts.show(stored, as_json=as_json)
