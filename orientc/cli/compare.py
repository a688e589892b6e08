"""`orientc compare`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import options, output
from orientc.comparison.formats import FORMATS
from orientc.errors import GateError

if TYPE_CHECKING:
    from orientc.comparison.comparisons import Comparisons


def compare(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATHS", help="Artifacts, records, or folders of them. [default: the runs folder]"),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="A gate: 'perplexity.tied <= 1.2x', 'sst2.accuracy >= -0.5pt', 'kl.tied < 0.1 @95%' (all of the 95 % "
            "interval), 'perplexity.tied[limit=100] <= 1.2x' (measured so). Exit code 3 if missed.",
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION", help="Only rows with, say, 'rank <= 64'.", rich_help_panel=options.EVALUATION
        ),
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Figure that size is weighed against. [default: tied perplexity if any]",
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="Only these: rank, table_mb, perplexity.tied, sst2 … [default: all]",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Sort rows by this; -NAME, largest first. [default: parameter_ratio]",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Hold the other rows against this one: paired tests, corrected for their number.",
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(
            "--results",
            "--with",
            metavar="[ROW=]FILE",
            help="Figures from a result file of lm-evaluation-harness or mteb as columns.",
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    format: Annotated[
        str, options.choice(FORMATS, help="For people, for a README, for programs.", rich_help_panel=options.OUTPUT)
    ] = "table",
    plot: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Draw quality against size: .png, .svg, .pdf; - for the terminal.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show artifacts and what was measured with them side by side, and hold them against gates.

    Example: `orientc compare runs/demo --require 'perplexity.tied <= 1.2x'`
    """
    from orientc.comparison.compare import compare as run
    from orientc.comparison.plot import terminal_plot

    found = run(
        paths or None,
        require=require,
        where=where,
        quality=quality,
        columns=columns,
        sort=sort,
        against=against,
        results=results or None,
        plot=None if plot == "-" else plot,
    )
    show(found, "json" if as_json else format, quiet=quiet)
    if plot == "-":
        output.show(terminal_plot(found))
    for line in (*found.notes, *map(str, found.failures)):
        output.note(line)
    if missed := len(found.failures):
        raise GateError(f"the gate is not met: {missed} required figure{'s' * (missed > 1)} missed")


def show(found: Comparisons, format: str, *, quiet: bool) -> None:
    """Comparisons on stdout, and the files that could not be used on stderr."""
    from orientc.comparison.formats import render

    note_problems(found, quiet=quiet)
    output.show(render(found, format))


def note_problems(found: Comparisons | None, *, quiet: bool) -> None:
    """The files that could not be used on stderr."""
    for problem in found.problems if found else ():
        output.note(f"skipped: {problem}", quiet=quiet)
