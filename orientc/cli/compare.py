"""`orientc compare`"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import options, output

if TYPE_CHECKING:
    from orientc.comparison.compare import Comparison, Findings
    from orientc.comparison.gates import Condition


class Format(StrEnum):
    """Forms a comparison can take."""

    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"
    html = "html"


Several = list[str] | None


def compare(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATHS", help="Artifacts, records, or folders of them. [default: the runs folder]"),
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="For people, for a README, for programs.")] = Format.table,
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw quality against size: .png, .svg, .pdf; - for the terminal."),
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Figure that size is weighed against. [default: tied perplexity if any]"),
    ] = None,
    sort: Annotated[str | None, typer.Option(metavar="NAME", help="Sort rows by this; -NAME, largest first.")] = None,
    where: Annotated[Several, typer.Option(metavar="CONDITION", help="Only rows with, say, 'rank <= 64'.")] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Only these: rank, table_mb, perplexity.tied, sst2 …")
    ] = None,
    require: Annotated[
        Several,
        typer.Option(
            metavar="CONDITION",
            help="A gate: 'perplexity.tied <= 1.2x', 'sst2.accuracy >= -0.5pt', 'rmse < 0.1'. Exit code 3 if missed.",
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show artifacts and what was measured with them side by side, and hold them against gates.

    Example: `orientc compare runs/demo --require 'perplexity.tied <= 1.2x'`
    """
    from orientc.comparison import gates
    from orientc.comparison.compare import FACTS
    from orientc.comparison.compare import compare as line_up
    from orientc.comparison.plot import check_suffix
    from orientc.errors import UsageError
    from orientc.storage.runs import runs_folder

    wanted = [gates.Condition.parse(text) for text in where or []]
    required = [gates.Condition.parse(text) for text in require or []]
    shown = [name.strip() for name in columns.split(",")] if columns else None
    if shown and (as_json or format is Format.json):
        raise UsageError("--columns is for tables and csv: JSON has every column")
    if plot and plot != "-":
        check_suffix(Path(plot))
    findings = line_up(paths or [runs_folder()])
    report(findings, paths or [runs_folder()], quiet=quiet)
    given = [condition.name for condition in wanted]
    gates.check_names(findings.comparisons, [*given, *([sort.removeprefix("-")] if sort else [])])
    gates.check_names(findings.comparisons, shown or [], [*FACTS, "seconds"])
    chosen = [gates.select(comparison, wanted, sort) for comparison in findings.comparisons]
    show(chosen, Format.json if as_json else format, shown=shown, quality=quality)
    if plot:
        draw(chosen, plot, quality)
    hold(chosen, required)


def report(findings: Findings, paths: Sequence[Path], *, quiet: bool) -> None:
    """Files that could not be used, on stderr. Raises `RecordError` where nothing could."""
    from orientc.errors import RecordError

    if not findings.comparisons:
        why = findings.problems or [f"no artifact and no record in {', '.join(map(str, paths))}"]
        raise RecordError(f"nothing to compare: {'; '.join(why)}")
    for problem in findings.problems:
        output.note(f"skipped: {problem}", quiet=quiet)


def show(
    comparisons: Sequence[Comparison],
    format: Format = Format.table,
    *,
    shown: list[str] | None = None,
    quality: str | None = None,
) -> None:
    """Comparisons on stdout."""
    from orientc.comparison import formats
    from orientc.comparison.grid import FRONT, grid

    if format is Format.json:
        output.show_json({"comparisons": [comparison.as_dict() for comparison in comparisons]})
        return
    if format is Format.csv:
        output.show(formats.as_csv(comparisons, shown))
        return
    grids = [grid(entry, shown=shown, quality=entry.chosen(quality)) for entry in comparisons]
    if format is Format.markdown:
        output.show(formats.markdown(grids))
    elif format is Format.html:
        from orientc.comparison import plot

        drawn = [[plot.svg(picture) for picture in plot.pictures(entry)] for entry in comparisons]
        output.show(formats.page(zip(grids, drawn, strict=True)))
    else:
        for entry in grids:
            rows = [[f"{cell.text}*" if cell.best else cell.text for cell in row] for row in entry.rows]
            for number, row in enumerate(rows):
                row[0] = f"{FRONT} {row[0]}" if number in entry.front else f"  {row[0]}"
            output.show_table(entry.header, rows, title=entry.title)
            output.show("".join(f"{note}\n" for note in entry.legend("*")))


def draw(comparisons: Sequence[Comparison], target: str, quality: str | None) -> None:
    """A plot in a file, or in the terminal. Raises `UsageError` where that takes several."""
    from orientc.comparison import plot
    from orientc.errors import UsageError

    pictures = [plot.picture(entry, chosen) for entry in comparisons if (chosen := entry.chosen(quality))]
    if not pictures:
        raise UsageError("there is nothing to draw: no figure was measured")
    if target == "-":
        output.show("\n".join(plot.terminal(picture) for picture in pictures) + "\n")
    elif len(pictures) != 1:
        raise UsageError(f"a plot is of one base model, here are {len(pictures)}: name the folder of one")
    else:
        plot.save(pictures[0], Path(target))


def hold(comparisons: Sequence[Comparison], required: Sequence[Condition]) -> None:
    """Raise `GateError` where a row misses a gate, after saying which and by what."""
    from orientc.comparison import gates
    from orientc.comparison.numbers import figure
    from orientc.errors import GateError

    missed = gates.failures(comparisons, required)
    for entry in missed:
        has = figure(entry.value, 4) if isinstance(entry.value, float) else entry.value or "not measured"
        output.note(f"{entry.model}, {entry.row.name}: {entry.figure} is {has}, required {entry.condition.text}")
    if missed:
        raise GateError(f"the gate is not met: {len(missed)} required figure{'s' * (len(missed) > 1)} missed")
