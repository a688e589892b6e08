"""`orientc tune`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import options, output
from orientc.comparison.numbers import figure
from orientc.storage.sizes import BOTH, HEAD_ONLY, INPUT_ONLY, TIED


def tune(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="The .safetensors artifact to tune.", show_default=False)
    ],
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            help="An artifact of another table of the model, which it runs with meanwhile; may be repeated.",
            show_default=False,
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps at most.", rich_help_panel=options.METHOD)] = 300,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Minutes at most, if these are over first.", show_default=False, rich_help_panel=options.METHOD
        ),
    ] = None,
    head: Annotated[
        str | None,
        options.choice(
            (TIED, INPUT_ONLY, HEAD_ONLY, BOTH),
            help="Tune for lookup and tied head, for the lookup or a head alone, or beside the other's artifact. "
            "[default: tied where it is]",
            show_default=False,
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Lines, windows or pairs a step. [default: 32 lines, 4 windows, 16 pairs]",
            show_default=False,
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    learning_rate: Annotated[
        float,
        typer.Option(
            help="Relative to the size of what is trained, or to the codes' errors; falls linearly to 0.",
            rich_help_panel=options.METHOD,
        ),
    ] = 0.01,
    hidden_weight: Annotated[
        float,
        typer.Option(help="Weight of the hidden states' cosine distance in the loss.", rich_help_panel=options.METHOD),
    ] = 1.0,
    eval_steps: Annotated[
        int,
        typer.Option(
            help="Move codes, and evaluate on the held-out text, every so many steps.", rich_help_panel=options.METHOD
        ),
    ] = 25,
    patience: Annotated[
        int,
        typer.Option(help="Stop after so many evaluations without a gain.", rich_help_panel=options.METHOD),
    ] = 5,
    seed: Annotated[
        int, typer.Option(help="Draws the order of the text and masks.", rich_help_panel=options.METHOD)
    ] = 0,
    text: options.TuningTexts = None,
    dataset: options.Datasets = None,
    column: options.Column = "text",
    languages: options.Languages = None,
    resume: options.Resume = False,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Runs folder, or the file itself where it ends in .safetensors. [default: beside the artifact]",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    model: options.BaseModel = None,
    force: options.Force = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Distil the original model into an artifact: a few minutes of training on a text of its own.

    Example: `orientc tune runs/bert-base-uncased/svd-r128-1f0c4a2b.safetensors --text articles.txt`
    """
    from orientc.cli import artifacts
    from orientc.distillation.tune import tune

    with output.stages(quiet=quiet) as progress:
        tuned = tune(
            artifact,
            beside=beside,
            text=text,
            dataset=dataset,
            column=column,
            languages=languages,
            head=head,
            steps=steps,
            minutes=minutes,
            batch_size=batch_size,
            learning_rate=learning_rate,
            hidden_weight=hidden_weight,
            eval_steps=eval_steps,
            patience=patience,
            seed=seed,
            resume=resume,
            device=device,
            device_map=device_map,
            max_memory=max_memory,
            out=out,
            overwrite=overwrite,
            model=model,
            force=force,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    if not tuned.fresh:
        output.note(f"done already: {tuned.path} has these settings", quiet=quiet)
    if as_json:
        output.show_json(tuned.as_dict())
        return
    done = tuned.tuning
    told = [] if done is None else [
        ("held-out loss", f"{figure(done['before'])} before, {figure(done['after'])} after"),
        ("steps", f"{done['steps']}, the best after {done['best_step']}"),
    ]  # fmt: skip
    taken = [] if tuned.seconds is None else [("tuned in", f"{tuned.seconds:.1f} s")]
    output.show_facts([("artifact", str(tuned.path)), *artifacts.facts(tuned.description), *told, *taken])
