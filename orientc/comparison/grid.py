"""A comparison as a grid of texts: what the table, Markdown and HTML show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from orientc.comparison.numbers import figure, with_error
from orientc.comparison.rows import FACTS, Column, Comparison, Figure, Row
from orientc.utils.words import explained

FRONT = "◆"
_NAME = "table"
_SECONDS = "fit s"


@dataclass(frozen=True)
class Cell:
    """What a cell says, and whether it is the best of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Grid:
    """A header and rows of cells, the first of each the row's name; `front` are the rows on the Pareto front.

    `notes` explain the columns; `weighed` is the heading of the figure that size is weighed against.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    front: frozenset[int]
    notes: tuple[str, ...]
    weighed: str | None

    def legend(self, best: str) -> tuple[str, ...]:
        """The notes, and what marks and words mean; `best` says what the best of a column is marked with."""
        front = f"{FRONT} nothing else is as small and as good in {self.weighed}"
        marks = [f"{front}; {best} best of its column"] if self.weighed else []
        return (*self.notes, *marks, *explained(*self.header, *marks))


def grid(comparison: Comparison, *, shown: Sequence[str] | None = None, quality: Column | None = None) -> Grid:
    """The cells of a comparison.

    `shown` are the names of facts and figures to keep; unless given all but divergences, for which there is no room.
    """
    quality = quality or comparison.quality
    tags = _tags(comparison)
    facts = [name for name in FACTS if shown is None or name in shown]
    columns = [column for column in comparison.shown(shown) if shown is not None or not column.divergence]
    timed = shown is None or "seconds" in shown
    policy = comparison.rows[0].smallest_policy
    header = [_NAME, *(f"{FACTS[name]} {policy}" if name == "model_mb" else FACTS[name] for name in facts)]
    header += [heading(column, tags) for column in columns]
    best = {name: comparison.best(name) for name in [*facts, *(column.key for column in columns)]}
    seeded = {column.key for column in columns if _seeds_differ(column, comparison)}
    rows = []
    for number, row in enumerate(comparison.rows):
        cells = [Cell(_named(row))]
        cells += [Cell(_fact(row, name), number in best[name]) for name in facts]
        cells += [
            Cell(_figure(column, row, tell_seeds=column.key in seeded), number in best[column.key])
            for column in columns
        ]
        if timed:
            cells.append(Cell("" if row.seconds is None else f"{row.seconds:.1f}"))
        rows.append(tuple(cells))
    return Grid(
        comparison.model,
        (*header, *([_SECONDS] if timed else [])),
        tuple(rows),
        frozenset(comparison.pareto(quality)) if quality else frozenset(),
        (*_notes(columns, tags), *_meanings(columns, comparison)),
        heading(quality, tags) if quality else None,
    )


def heading(column: Column, tags: dict[str, str]) -> str:
    """A column's name as a heading: short, with a letter where a note tells it from others of the name."""
    name = column.name.replace("perplexity.", "ppl ").replace(".", " ")
    return f"{name} [{tags[column.differs]}]" if column.differs else name


def _tags(comparison: Comparison) -> dict[str, str]:
    """A letter for each way of measuring that needs to be told from another."""
    different = dict.fromkeys(column.differs for column in comparison.columns if column.differs)
    return {differs: _letters(number) for number, differs in enumerate(different)}


def _letters(number: int) -> str:
    return (_letters(number // 26 - 1) if number >= 26 else "") + ascii_lowercase[number % 26]


def _notes(columns: Sequence[Column], tags: dict[str, str]) -> list[str]:
    """What each column was measured on and how, once for each way."""
    told: dict[str, str] = {}
    for column in columns:
        measured = {name: value for name, value in column.measured.items() if value is not None}
        on = measured.pop("on", None)
        sha256 = measured.pop("sha256", "")
        how = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measured.items())
        subject = column.name.partition(".")[0]
        label = f"{subject} [{tags[column.differs]}]" if column.differs else subject
        told[f"{label} on {on} ({how}{'; ' if how else ''}{sha256})"] = label
    return [*told]


def _meanings(columns: Sequence[Column], comparison: Comparison) -> list[str]:
    """What ± and brackets mean, where there are any."""
    figures = [row.figures[column.key] for row in comparison.rows for column in columns if column.key in row.figures]
    told = []
    if any(found.std is not None for found in figures):
        told.append("± standard deviation over seeds" + (", of one run its standard error" if _errors(figures) else ""))
    elif _errors(figures):
        told.append("± standard error, by what was measured on")
    if comparison.held_against is not None:
        told.append(f"in brackets: against {comparison.held_against} by the paired test, p corrected (Holm)")
    return told


def _errors(figures: Sequence[Figure]) -> bool:
    return any(found.error and found.std is None for found in figures)


def _named(row: Row) -> str:
    """A row's name, which by default begins with the method; else the method too, and settings that are its own."""
    told = [] if row.name.startswith(row.method) else [row.method]
    told += [row.settings] if row.settings else []
    return f"{row.name} ({', '.join(told)})" if told else row.name


def _fact(row: Row, name: str) -> str:
    value = row.value(name)
    if not isinstance(value, int | float):
        return "–"
    if name in ("table_mb", "model_mb"):
        return f"{value:.2f}"
    if name in ("cosine", "rmse"):
        return f"{value:.4f}"
    return str(value) if isinstance(value, int) else figure(value)


def _figure(column: Column, row: Row, *, tell_seeds: bool) -> str:
    """A figure with its standard error, over seeds their deviation, and what it is against the uncompressed model's."""
    found = row.figures.get(column.key)
    if found is None:
        return "–"
    shown = figure(found.value, 4) if column.lower_is_better else f"{found.value:.4f}"
    if found.std is not None:
        shown += f" ± {found.std:.4f}"
    else:
        shown = with_error(shown, found.error)
    if tell_seeds:
        shown += f" seed{'s' if len(found.seeds) > 1 else ''} {','.join(map(str, found.seeds))}"
    return shown if row.original else shown + _against(column, found)


def _against(column: Column, found: Figure) -> str:
    if (known := found.versus) is not None:
        told = f"{known.value:.3f}×" if known.relative else f"{known.value:+.4f}"
        return f" ({told}, p {known.p_holm:.2g})"
    if column.lower_is_better:
        return f" ({found.ratio:.2f}×)" if found.ratio else ""
    return f" ({found.difference:+.4f})" if found.difference is not None else ""


def _seeds_differ(column: Column, comparison: Comparison) -> bool:
    """Whether some row's figure is over other seeds than another's, which has to be said."""
    return len({row.figures[column.key].seeds for row in comparison.rows if column.key in row.figures}) > 1
