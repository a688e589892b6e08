"""How `glue` and `squad` show what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orientc.cli import output
from orientc.comparison.numbers import with_error
from orientc.evaluation.option_values import BEST, LAST

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
        table.append([name, with_error(f"{figure.mean:.4f}", None if several else _error(name, runs)), *spread])
    table += [[name, f"{value:.4f}", *(["", ""] if several else [])] for name, value in rows]
    first = runs[0].record
    what = f"{first.artifact['method']} r{first.artifact['rank']}" if first.artifact else "original"
    output.show_table(header, table, title=f"{first.model['id']} ({what}); {title}")


def _error(name: str, runs: Sequence[Run]) -> float | None:
    """The standard error of a figure, "f1" or, of one of several tasks, "mrpc f1"."""
    task, _, metric = name.rpartition(" ")
    own = [run.record for run in runs if not task or (run.record.data or {}).get("task") == task]
    return own[0].standard_error(metric)


def note_runs(runs: Sequence[Run], *, keep: str | None, quiet: bool) -> None:
    """Say of each run what was there already, and where its model is; where none is, how to get the one asked for."""
    for run in runs:
        if not run.fresh:
            output.note(f"done already: {run.path} has these settings", quiet=quiet)
        if run.model:
            output.note(f"fine-tuned model: {run.model}", quiet=quiet)
    trained = any(run.record.settings["epochs"] for run in runs)
    if trained and keep in (LAST, BEST) and not any(run.model for run in runs):
        output.note("the fine-tuned model was not kept then: train it again with `overwrite`", quiet=quiet)
