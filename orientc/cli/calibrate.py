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
    text: options.CalibrationTexts = None,
    dataset: options.Datasets = None,
    column: options.Column = "text",
    languages: options.Languages = None,
    tokens: Annotated[
        int,
        typer.Option(
            help="Measure on about so many tokens of all texts; all of each text is counted.",
            rich_help_panel=options.CALIBRATION,
        ),
    ] = 16384,
    frequency: Annotated[
        str | None,
        typer.Option(
            metavar="wordfreq:LANG|zipf",
            help="Counts from a word list or from the order of token ids. Without a text nothing else is measured.",
            show_default=False,
            rich_help_panel=options.CALIBRATION,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(help="Draws the pieces of the text, masks and labels.", rich_help_panel=options.CALIBRATION),
    ] = 0,
    table: options.MeasuredTables = "all",
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    imatrix: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the importance of columns as a GGUF file too, for llama-quantize --imatrix.",
            show_default=False,
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
    """Measure token counts and importance matrices, for compressing with --calibration.

    Example: `orientc calibrate bert-base-uncased --text articles.txt`
    """
    from orientc.calibration.calibrate import calibrate

    with output.stages(quiet=quiet) as progress:
        made = calibrate(
            model,
            text=text,
            dataset=dataset,
            column=column,
            languages=languages,
            tokens=tokens,
            frequency=frequency,
            seed=seed,
            table=table,
            device=device,
            device_map=device_map,
            max_memory=max_memory,
            imatrix=imatrix,
            out=out,
            overwrite=overwrite,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    if not made.fresh:
        output.note(f"done already: {made.path} has these settings", quiet=quiet)
    if as_json:
        output.show_json(made.as_dict())
        return
    taken = [] if made.seconds is None else [("measured in", f"{made.seconds:.1f} s")]
    output.show_facts([("calibration", str(made.path)), *facts(made.calibration), *taken])


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
    for name in ("input", "head"):
        trace, share = figures[f"{name}_trace"], figures[f"{name}_shrinkage"]
        if trace is not None and share is not None:
            own = f", of {description.head.vocab} rows" if name == "head" and description.head else ""
            shown.append((f"{name} importance", f"trace {figure(trace)}, {share:.1%} shrunk towards its diagonal{own}"))
    return shown
