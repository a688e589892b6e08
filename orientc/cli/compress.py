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
    """Compress a table by the paper's autoencoder: cosine distance and annealed |x|^α.

    Example: `orientc compress bert-base-uncased --rank 128`
    """
    from orientc.arguments import is_artifact
    from orientc.cli import fitting
    from orientc.compression import AUTOENCODER, Plan
    from orientc.files import file_sha256

    given: dict[str, Any] = {
        "rank": rank, "ratio": ratio, "preset": preset, "nonlinear": nonlinear, "epochs": epochs,
        "batch_size": batch_size, "learning_rate": learning_rate, "schedule": schedule, "halve_every": halve_every,
        "cosine_weight": cosine_weight, "power_weight": power_weight, "rmse_weight": rmse_weight,
        "alpha_start": alpha_start, "alpha_end": alpha_end, "alpha_epochs": alpha_epochs, "seed": seed,
        "dtype": dtype,
    }  # fmt: skip
    start = Path(init) if init and is_artifact(init) else None
    given["init"] = "artifact" if start else init
    plan = Plan.from_layers(
        AUTOENCODER,
        *fitting.layers(like, config, given),
        init_sha256=file_sha256(start) if start else None,
    )
    stored = fitting.fit(
        model,
        plan,
        init=start,
        out=out,
        overwrite=overwrite,
        device=device,
        quiet=quiet,
        log_with=log_with,
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
    fitting.show(stored, as_json=as_json)
