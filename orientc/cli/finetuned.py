"""How `glue` and `squad` show what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orientc.cli import output

if TYPE_CHECKING:
    from orientc.evaluation.finetuning import Run
    from orientc.evaluation.statistics import Spread


def show(
    figures: Mapping[str, Spread], runs: Sequence[Run], *, title: str, rows: Sequence[tuple[str, float]] = ()
) -> None:
    """A table of figures, with their deviation where there are several seeds, and further `rows` below them."""
    several = any(figure.std is not None for figure in figures.values())
    header = ["figure", "mean", "±", "seeds"] if several else ["figure", "value"]
    table = []
    for name, figure in figures.items():
        spread = [f"{figure.std or 0:.4f}", str(figure.count)] if several else []
        table.append([name, f"{figure.mean:.4f}", *spread])
    table += [[name, f"{value:.4f}", *(["", ""] if several else [])] for name, value in rows]
    first = runs[0].record
    what = f"{first.artifact['method']} r{first.artifact['rank']}" if first.artifact else "original"
    output.show_table(header, table, title=f"{first.model['id']} ({what}); {title}")


def note_runs(runs: Sequence[Run], *, quiet: bool) -> None:
    """Say of each run what was there already, and where its model is."""
    for run in runs:
        if not run.fresh:
            output.note(f"done already: {run.path} has these settings", quiet=quiet)
        if run.model:
            output.note(f"fine-tuned model: {run.model}", quiet=quiet)
