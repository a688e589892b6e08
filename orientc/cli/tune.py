"""`orientc tune`"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import options, output
from orientc.comparison.numbers import figure


class Head(StrEnum):
    """What runs from the artifact while it is tuned."""

    tied = "tied"
    input_only = "input-only"
    untied = "untied"


def tune(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="The .safetensors artifact to tune.", show_default=False)
    ],
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="UTF-8 text to tune on, its last 5 % held out; not the one you score on. "
            "[default: WikiText-103 raw validation; docstrings for demo]",
            show_default=False,
        ),
    ] = None,
    dataset: options.Dataset = None,
    column: options.Column = "text",
    head: Annotated[
        Head | None,
        typer.Option(help="Tune for lookup and tied head, or the lookup alone. [default: tied where it is]"),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps at most.")] = 300,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes at most, if these are over first.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Lines or windows a step. [default: 32 lines, or 4 windows]", show_default=False),
    ] = None,
    learning_rate: Annotated[
        float, typer.Option(help="Relative to the size of what is trained; falls linearly to 0.")
    ] = 0.01,
    hidden_weight: Annotated[float, typer.Option(help="Weight of the hidden states' agreement in the loss.")] = 1.0,
    eval_steps: Annotated[int, typer.Option(help="Measure on the held-out text every so many steps.")] = 25,
    patience: Annotated[int, typer.Option(help="Stop after so many measurements without a gain.")] = 5,
    seed: Annotated[int, typer.Option(help="Draws the order of the text and masks.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run was.")] = False,
    model: options.BaseModel = None,
    force: options.Force = False,
    device: options.Device = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an artifact's numbers for a few minutes, until the model says again what the original says.

    Example: `orientc tune runs/bert-base-uncased/svd-r128-1f0c4a2b.safetensors --text articles.txt`
    """
    from orientc.cli import artifacts
    from orientc.distillation import data, tune
    from orientc.distillation.config import Settings
    from orientc.distillation.plan import Plan
    from orientc.models import resolve
    from orientc.storage import runs

    settings = Settings(steps, minutes, batch_size, learning_rate, hidden_weight, eval_steps, patience, seed)
    chosen = tune.place(device)
    found = resolve.subject(
        resolve.artifact(artifact),
        model=model,
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
    read = data.text_for(found.source, path=text, dataset=dataset, column=column)
    plan = Plan(found, read, settings, head)
    path = runs.tuned_path(artifact, found.source.id, plan.settings, out)
    with output.stages(quiet=quiet) as progress:
        stored = tune.produce(
            plan, path, device=chosen, resume=resume, overwrite=overwrite, force=force, progress=progress
        )
    if not stored.fresh:
        output.note(f"done already: {path} has these settings", quiet=quiet)
    done = tune.outcome(path)
    if as_json:
        about = {"artifact": str(path), "fresh": stored.fresh, "seconds": stored.seconds, "tuning": done}
        output.show_json(about | stored.description.as_dict())
        return
    told = [] if done is None else [
        ("held-out loss", f"{figure(done['before'])} before, {figure(done['after'])} after"),
        ("steps", f"{done['steps']}, the best after {done['best_step']}"),
    ]  # fmt: skip
    output.show_facts(
        [("artifact", str(path)), *artifacts.facts(stored.description), *told, ("tuned", f"{stored.seconds} s")]
    )
