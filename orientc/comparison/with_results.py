"""Figures that other tools measured, as columns of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orientc.comparison.columns import told_apart
from orientc.comparison.numbers import ratio
from orientc.comparison.other_tools import Outcome, Results, read_results
from orientc.comparison.rows import Z95, Column, Comparison, Figure, Row
from orientc.errors import UsageError
from orientc.utils.files import canonical_json


def with_results(comparisons: Sequence[Comparison], given: Sequence[str | Path]) -> tuple[Comparison, ...]:
    """Add what is in result files of lm-evaluation-harness and mteb, a column for each figure.

    Args:
        comparisons: What they are added to.
        given: Files, or folders of them; "ROW=FILE" says whose they are, else it is the row, or the base model, that
            the last part of the model's name in the file is the name of.

    Raises:
        RecordError: A file is not there, or is none of these tools'.
        UsageError: It is not clear which row one is of.
    """
    found: dict[tuple[int, int], list[Outcome]] = {}
    for entry in given:
        named, path = _split(entry, comparisons)
        for results in read_results(path):
            found.setdefault(_place(comparisons, results, named), []).extend(results.outcomes)
    return tuple(
        _with(comparison, {row: outcomes for (number, row), outcomes in found.items() if number == place})
        for place, comparison in enumerate(comparisons)
    )


def _split(entry: str | Path, comparisons: Sequence[Comparison]) -> tuple[str | None, Path]:
    """The row that is named before a file, if one is, and the file."""
    name, sign, path = str(entry).partition("=")
    known = {row.name for comparison in comparisons for row in comparison.rows}
    return (name, Path(path)) if sign and name in known else (None, Path(entry))


def _place(comparisons: Sequence[Comparison], results: Results, named: str | None) -> tuple[int, int]:
    """The comparison and the row that results are of, by number."""
    last = named or Path(results.model).name
    found = [
        (place, number)
        for place, comparison in enumerate(comparisons)
        for number, row in enumerate(comparison.rows)
        if row.name == last or (row.original and not named and Path(comparison.model).name == last)
    ]
    if len(found) != 1:
        there = ", ".join(row.name for comparison in comparisons for row in comparison.rows)
        raise UsageError(
            f"{results.path} is of {results.model or 'a model without a name'}, which is the name of "
            f"{'no row' if not found else 'several rows'}: say which as ROW=FILE; there are {there}"
        )
    return found[0]


def _with(comparison: Comparison, outcomes: dict[int, list[Outcome]]) -> Comparison:
    ways: dict[str, dict[str, Outcome]] = {}
    for measured in outcomes.values():
        for each in measured:
            ways.setdefault(each.name, {}).setdefault(canonical_json(each.measured), each)
    columns: list[Column] = []
    keys: dict[tuple[str, str], str] = {}
    artifacts = {
        (each.name, canonical_json(each.measured))
        for number, measured in outcomes.items()
        for each in measured
        if not comparison.rows[number].original
    }
    for name, several in ways.items():
        made = [
            Column(name, each.chosen, each.measured, lower=each.lower_is_better, of_artifacts=(name, way) in artifacts)
            for way, each in several.items()
        ]
        for way, column in zip(several, told_apart(made), strict=True):
            columns.append(column)
            keys[name, way] = column.key
    rows: list[Row] = []
    for number, row in enumerate(comparison.rows):
        own = {keys[each.name, canonical_json(each.measured)]: each for each in outcomes.get(number, ())}
        original = rows[0].figures if rows else {}
        figures = {key: _figure(each, original.get(key)) for key, each in own.items()}
        rows.append(replace(row, figures=row.figures | figures))
    return replace(comparison, columns=(*comparison.columns, *columns), rows=tuple(rows))


def _figure(outcome: Outcome, original: Figure | None) -> Figure:
    made = Figure(outcome.value, error=outcome.error)
    if outcome.error is not None:
        width = Z95 * outcome.error
        made = replace(made, low=outcome.value - width, high=outcome.value + width)
    if original is None:
        return made
    return replace(made, ratio=ratio(outcome.value, original.value), difference=outcome.value - original.value)
