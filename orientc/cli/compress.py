"""`orientc compress`"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from orientc.cli import options
from orientc.compression.configs import PRESETS, RUNTIMES, AutoencoderConfig
from orientc.methods.recipe import NONLINEAR, SCHEDULES
from orientc.storage.artifact import FLOAT_DTYPES


def _target(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel=options.SIZE, show_default=False)


def _recipe(name: str, text: str, choices: Sequence[str] = (), **shown: Any) -> Any:
    """An option for a field of the recipe, whose help ends with the presets' defaults."""
    values = {preset: getattr(recipe, name) for preset, recipe in PRESETS.items()}
    default = values.pop("default")
    differing = "".join(f"; {preset} {_shown(value)}" for preset, value in values.items() if value != default)
    shown |= {"help": f"{text} [default: {_shown(default)}{differing}]", "rich_help_panel": options.METHOD}
    return (
        options.choice(choices, show_default=False, **shown) if choices else typer.Option(show_default=False, **shown)
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def compress(
    model: options.Model,
    target_bits: Annotated[float | None, _target("Bits per weight at most, in the form that costs least.")] = None,
    target_ratio: Annotated[float | None, _target("The same for a byte ratio of at least this.")] = None,
    target_mb: Annotated[float | None, _target("The same for at most so many MB.")] = None,
    runtime: Annotated[
        str | None,
        options.choice(
            RUNTIMES,
            "--for",
            help="With a target: the form that this runs, one of ggml's block types.",
            show_default=False,
            rich_help_panel=options.SIZE,
        ),
    ] = None,
    effort: options.Effort = None,
    rank: options.Rank = None,
    ratio: options.Ratio = None,
    bits: options.Bits = None,
    group_size: options.GroupSize = None,
    keep_rows: options.KeepRows = None,
    dtype: Annotated[
        str | None,
        options.choice(
            FLOAT_DTYPES,
            help="Type of the stored floats. [default: float32; float16 with a target]",
            show_default=False,
            rich_help_panel=options.SIZE,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        options.choice(
            tuple(PRESETS),
            help="Recipe that other options change: ours, or the paper's to the letter. [default: default]",
            show_default=False,
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    init: Annotated[
        str | None, _recipe("init", "What the fit starts from.", metavar="subspace|random|ARTIFACT")
    ] = None,
    nonlinear: Annotated[str | None, _recipe("nonlinear", "After which linear map an ELU follows.", NONLINEAR)] = None,
    epochs: Annotated[int | None, _recipe("epochs", "Passes over the table.")] = None,
    batch_size: Annotated[int | None, _recipe("batch_size", "Rows per step.")] = None,
    learning_rate: Annotated[float | None, _recipe("learning_rate", "Adam's, at the first step.")] = None,
    schedule: Annotated[
        str | None, _recipe("schedule", "Learning rate to zero by a cosine, or halved every few epochs.", SCHEDULES)
    ] = None,
    halve_every: Annotated[int | None, _recipe("halve_every", "Epochs between two halvings.")] = None,
    cosine_weight: Annotated[float | None, _recipe("cosine_weight", "Weight of the cosine distance.")] = None,
    power_weight: Annotated[float | None, _recipe("power_weight", "Weight of the |x|^α term.")] = None,
    rmse_weight: Annotated[float | None, _recipe("rmse_weight", "Weight of the RMSE.")] = None,
    alpha_start: Annotated[float | None, _recipe("alpha_start", "First α.")] = None,
    alpha_end: Annotated[float | None, _recipe("alpha_end", "Last α.")] = None,
    alpha_epochs: Annotated[int | None, _recipe("alpha_epochs", "Epochs over which α falls linearly.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help=f"Draws first weights and batches. [default: {AutoencoderConfig.seed}]",
            rich_help_panel=options.METHOD,
            show_default=False,
        ),
    ] = None,
    config: options.Config = None,
    like: options.Like = None,
    table: options.Table = None,
    calibration: options.Calibrated = None,
    head_weight: options.HeadWeight = None,
    device: options.Device = None,
    log_with: Annotated[
        list[str] | None,
        typer.Option(
            help="Log each epoch with tensorboard, wandb … (accelerate's trackers); may be repeated.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compress a table to a target size in the form that costs least, or by the paper's autoencoder.

    The least loss for a size needs a calibration: measure one first, with `orientc calibrate MODEL`.

    Example: `orientc compress bert-base-uncased --target-bits 3.5 --calibration FILE`

    Example: `orientc compress bert-base-uncased --ratio 10 --preset paper`
    """
    from orientc.cli import artifacts, output
    from orientc.compression import compress as library

    with output.stages(quiet=quiet) as progress:
        compressed = library.compress(
            model,
            target_bits=target_bits,
            target_ratio=target_ratio,
            target_mb=target_mb,
            runtime=runtime,
            effort=effort,
            rank=rank,
            ratio=ratio,
            bits=bits,
            group_size=group_size,
            keep_rows=options.count_or_auto(keep_rows),
            dtype=dtype,
            preset=preset,
            init=init,
            nonlinear=nonlinear,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            schedule=schedule,
            halve_every=halve_every,
            cosine_weight=cosine_weight,
            power_weight=power_weight,
            rmse_weight=rmse_weight,
            alpha_start=alpha_start,
            alpha_end=alpha_end,
            alpha_epochs=alpha_epochs,
            seed=seed,
            config=config,
            like=like,
            table=table,
            calibration=calibration,
            head_weight=head_weight,
            device=device,
            log_with=log_with,
            out=out,
            overwrite=overwrite,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    from orientc.compression.alternative import alternative  # torch comes with it

    for each in () if quiet else compressed.all:
        if told := alternative(each, out=out):
            output.note(told)
    artifacts.show(compressed, as_json=as_json, quiet=quiet)
