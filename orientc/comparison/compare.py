"""`compare`: artifacts and records side by side, one table for each base model. Never imports torch.

A row is a table, the uncompressed one or an artifact's; a column is one figure, measured in one way. Figures that were
measured in different ways (another text, limit, setting) are different columns, whose names say what was chosen of the
way: `names`. Only the seed of a fine-tuning is not: over seeds a figure is the mean, with its deviation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from orientc.comparison import gates
from orientc.comparison import plot as plots
from orientc.comparison.collect import line_up
from orientc.comparison.comparisons import Comparisons
from orientc.comparison.gates import Condition
from orientc.comparison.rows import FACTS, Comparison
from orientc.comparison.with_results import with_results
from orientc.errors import RecordError, UsageError
from orientc.storage.runs import runs_folder


def compare(
    paths: str | Path | Sequence[str | Path] | None = None,
    *,
    require: str | Sequence[str] | None = None,
    where: str | Sequence[str] | None = None,
    quality: str | None = None,
    columns: str | Sequence[str] | None = None,
    sort: str | None = None,
    against: str | None = None,
    results: str | Path | Sequence[str | Path] | None = None,
    plot: str | Path | None = None,
) -> Comparisons:
    """Put artifacts and what was measured with them side by side, and hold them against gates.

    Args:
        paths: Artifacts, records, or folders of them; the runs folder unless given.
        require: Gates, each a condition that every artifact shown has to meet: "perplexity.tied <= 1.2x".
        where: Conditions on the rows to show: "rank <= 64". The uncompressed table is always shown.
        quality: Name of the figure that size is weighed against; perplexity of the smallest model unless given.
        columns: Names of the facts and figures to show, a list or text with commas between.
        sort: Name of the fact or figure to sort rows by; "-" before it sorts the largest first.
        against: Name of a row, as it is shown, or path of an artifact, that the others' figures are held against by the
            paired test, corrected for how many they are.
        results: Result files of lm-evaluation-harness or mteb, or folders of them, whose figures become columns;
            "ROW=FILE" says whose they are.
        plot: File to draw quality against size in: .png, .svg or .pdf.

    Raises:
        UsageError: A condition or a name makes no sense here, or there is nothing to draw.
        RecordError: There is nothing to compare, or a result file is none.
        OutputError: The plot can't be written, or the extra is missing.
    """
    if plot is not None:
        plots.check_suffix(Path(plot))
    required, wanted = _conditions(require), _conditions(where)
    shown = _names(columns)
    given = _paths(paths)
    comparisons, problems = line_up(given)
    if not comparisons:
        why = problems or [f"no artifact and no record in {', '.join(map(str, given))}"]
        raise RecordError(f"nothing to compare: {'; '.join(why)}")
    if results is not None:
        comparisons = with_results(comparisons, [results] if isinstance(results, str | Path) else results)
    gates.check_names(comparisons, [condition.name for condition in (*required, *wanted)])
    gates.check_names(comparisons, [sort.removeprefix("-")] if sort else [], there=True)
    gates.check_names(comparisons, shown or (), [*FACTS, "seconds"], there=True)
    chosen = tuple(gates.select(comparison, wanted, sort) for comparison in comparisons)
    for comparison in chosen:
        comparison.chosen(quality)
    if against is not None:
        chosen = _held_against(chosen, against)
    left = [gates.nothing_left(*each, wanted) for each in zip(comparisons, chosen, strict=True)]
    notes = tuple(line for line in left if line)
    # a model of which there is no artifact at all is none that a gate is about, unless there is no other
    held = [after for before, after in zip(comparisons, chosen, strict=True) if len(before.rows) > 1] or chosen
    found = Comparisons(chosen, problems, tuple(gates.verdicts(held, required)), notes, shown, quality)
    if plot is not None:
        plots.save_plot(found, Path(plot))
    return found


def _held_against(comparisons: tuple[Comparison, ...], name: str) -> tuple[Comparison, ...]:
    """Hold figures against those of the row of a name, in the comparisons that have it; one has to."""
    if not any(comparison.row_named(name) for comparison in comparisons):
        there = ", ".join(row.name for comparison in comparisons for row in comparison.rows)
        raise UsageError(f"`against` takes the name of a row or the path of an artifact, not {name!r}; rows: {there}")
    return tuple(
        comparison.against(row) if (row := comparison.row_named(name)) else comparison for comparison in comparisons
    )


def _conditions(texts: str | Sequence[str] | None) -> list[Condition]:
    """Conditions as they are written, one alone or several."""
    return [Condition.parse(text) for text in ([texts] if isinstance(texts, str) else texts or ())]


def _names(columns: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Names in a list, or in a text with commas between (those in brackets are a name's own); None for none."""
    names = re.split(r",(?![^\[]*\])", columns) if isinstance(columns, str) else columns
    return tuple(name.strip() for name in names) or None if names is not None else None


def _paths(paths: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """One path or several; the runs folder for None."""
    given = [runs_folder()] if paths is None else [paths] if isinstance(paths, str | Path) else paths
    return [Path(path) for path in given]
