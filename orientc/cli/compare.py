"""`orientc compare`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import options, terminal
from orientc.cli.terminal import figure

if TYPE_CHECKING:
    from orientc.comparison import Comparison, Figure, Findings, Row


def compare(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATHS", help="Artifacts, records, or folders of them. [default: the runs folder]"),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show artifacts and what was measured with them side by side.

    Example: `orientc compare runs/demo`
    """
    from orientc.comparison import compare as line_up
    from orientc.errors import RecordError
    from orientc.runs import runs_folder

    paths = paths or [runs_folder()]
    findings = line_up(paths)
    if not findings.comparisons:
        why = findings.problems or [f"no artifact and no record in {', '.join(map(str, paths))}"]
        raise RecordError(f"nothing to compare: {'; '.join(why)}")
    show(findings, as_json=as_json, quiet=quiet)


def show(findings: Findings, *, as_json: bool, quiet: bool) -> None:
    """Comparisons on stdout, files that could not be used on stderr."""
    for problem in findings.problems:
        terminal.note(f"skipped: {problem}", quiet=quiet)
    if as_json:
        terminal.show_json({"comparisons": [comparison.as_dict() for comparison in findings.comparisons]})
        return
    for comparison in findings.comparisons:
        _show(comparison)


def _show(comparison: Comparison) -> None:
    smallest = list(comparison.rows[0].model_mb)[-1]  # the policy that makes the model small
    header = ["table", "rank", "ratio", "byte ratio", "MB", "bits/w", f"model MB {smallest}", "cos dist", "RMSE"]
    rows = [_cells(row, comparison.columns, smallest) for row in comparison.rows]
    header += [name.replace("perplexity.", "ppl ").replace(".", " ") for name in comparison.columns] + ["fit s"]
    terminal.show_table(header, rows, title=_title(comparison))


def _title(comparison: Comparison) -> str:
    parts = [comparison.model]
    if comparison.text:
        settings = ", ".join(f"{name} {value}" for name, value in comparison.settings.items() if value is not None)
        parts.append(f"{comparison.kind} on {comparison.text} ({settings})")
    return "; ".join(parts)


def _name(row: Row) -> str:
    """The artifact's file name without its suffix, which by default begins with the method; else the method too."""
    if row.path is None:
        return row.method
    stem = Path(row.path).stem
    return stem if stem.startswith(row.method) else f"{stem} ({row.method})"


def _cells(row: Row, columns: tuple[str, ...], smallest: str) -> list[str]:
    cells = [
        _name(row),
        str(row.rank),
        figure(row.parameter_ratio),
        figure(row.byte_ratio),
        f"{row.table_mb:.2f}",
        figure(row.bits_per_weight),
        f"{row.model_mb[smallest]:.2f}",
        f"{row.cosine:.4f}",
        f"{row.rmse:.4f}",
    ]
    cells += [_figure(name, row.figures.get(name), against=row.path is not None) for name in columns]
    return [*cells, "" if row.seconds is None else f"{row.seconds:.1f}"]


def _figure(name: str, found: Figure | None, *, against: bool) -> str:
    """A figure, its deviation over seeds, and what it is `against` the uncompressed model's."""
    if found is None:
        return "–"
    perplexity = name.startswith("perplexity.")
    shown = figure(found.value, 4) if perplexity else f"{found.value:.4f}"
    if found.std is not None:
        shown += f" ± {found.std:.4f}"
    if against and perplexity and found.ratio:
        shown += f" ({found.ratio:.2f}×)"
    elif against and not perplexity and found.difference is not None:
        shown += f" ({found.difference:+.4f})"
    return shown
