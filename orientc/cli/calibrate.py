"""`orientc calibrate`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import options, output
from orientc.comparison.numbers import figure

if TYPE_CHECKING:
    from orientc.storage.calibration import Calibration


def calibrate(
    model: options.Model,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="UTF-8 text to count and measure on; not the one you score on. "
            "[default: WikiText-103 raw validation; docstrings for demo]",
            show_default=False,
        ),
    ] = None,
    dataset: options.Dataset = None,
    column: options.Column = "text",
    tokens: Annotated[int, typer.Option(help="Measure on about so many tokens; all of the text is counted.")] = 16384,
    frequency: Annotated[
        str | None,
        typer.Option(
            metavar="wordfreq:LANG|zipf",
            help="Counts from a word list or from the order of token ids. Without a text nothing else is measured.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the pieces of the text, masks and labels.")] = 0,
    device: options.Device = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Runs folder, or the file itself where it ends in .safetensors. [default: $ORIENTC_RUNS or runs]",
            show_default=False,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Count tokens and measure how much a model feels its table, for fitting with --calibration.

    Example: `orientc calibrate bert-base-uncased --text articles.txt`
    """
    import time

    from orientc.calibration import calibrate
    from orientc.models.source import ModelSource
    from orientc.models.table import read_table
    from orientc.storage import calibration, runs
    from orientc.utils.devices import pick_device

    settings = calibrate.Settings(tokens, frequency, seed)
    chosen = pick_device(device)
    source = ModelSource.resolve(
        model, revision=revision, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
    )
    counted = calibrate.text_for(source, path=text, dataset=dataset, column=column, frequency=frequency)
    table = read_table(source).info
    plan = calibrate.Plan(source, counted, settings)
    path = runs.calibration_path(source.id, plan.settings, out)
    start = time.perf_counter()
    with output.stages(quiet=quiet) as progress:
        fresh = runs.keep_calibration(
            plan.settings,
            table,
            path,
            lambda: plan.run(table, device=chosen, progress=progress),
            overwrite=overwrite,
        )
    seconds = round(time.perf_counter() - start, 3) if fresh else None
    if not fresh:
        output.note(f"done already: {path} has these settings", quiet=quiet)
    made = calibration.load(path)
    if as_json:
        about = {"calibration": str(path), "fresh": fresh, "seconds": seconds}
        output.show_json(about | made.facts | made.description.as_dict())
        return
    taken = [] if seconds is None else [("measured in", f"{seconds:.1f} s")]
    output.show_facts([("calibration", str(path)), *facts(made), *taken])


def facts(made: Calibration) -> list[tuple[str, str]]:
    """What a calibration holds, for people."""
    description, figures = made.description, made.facts
    base = description.base
    source = f", frequencies {description.frequency}" if description.frequency else ""
    shown = [
        ("model", f"{base.id}, table {base.vocab} × {base.dim}, {'tied' if base.tied else 'untied, or no head'}"),
        ("text", (description.text or "none") + source),
        ("tokens", f"{description.counted} counted, {description.measured} measured"),
        ("types", f"{figures['types']} of {base.vocab} tokens met"),
        ("objective", description.objective or "none: counts alone"),
    ]
    traces = {"input": figures["input_trace"], "head": figures["head_trace"]}
    return shown + [
        (f"{name} importance", f"trace {figure(trace)}") for name, trace in traces.items() if trace is not None
    ]
