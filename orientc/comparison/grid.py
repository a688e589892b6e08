"""A comparison as a grid of texts: what the table, Markdown and HTML show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from orientc.comparison.names import subject_of
from orientc.comparison.numbers import figure, with_error
from orientc.comparison.rows import FACTS, Column, Comparison, Figure, Row
from orientc.utils.words import explained

FRONT = "◆"
_NAME, _METHOD, _SETTINGS = "table", "method", "settings"
_SECONDS = "fit s"


@dataclass(frozen=True)
class Cell:
    """What a cell says, whether it is the best of its column, and the number it is sorted by, if it has one."""

    text: str
    best: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Grid:
    """A header and rows of cells, the first of each the row's name; `front` are the rows on the Pareto front.

    `words` is how many of the first columns are text; `notes` explain the columns; `weighed` is the heading of the
    figure that size is weighed against.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    front: frozenset[int]
    words: int
    notes: tuple[str, ...]
    weighed: str | None

    def legend(self, best: str) -> tuple[str, ...]:
        """The notes, and what marks and words mean that there are; `best` says what marks the best of a column."""
        marks = [f"{FRONT} nothing else is as small and as good in {self.weighed}"] if self.weighed else []
        marks += [f"{best} best of its column"] if any(cell.best for row in self.rows for cell in row) else []
        return (*self.notes, *(["; ".join(marks)] if marks else []), *explained(*self.header, *marks))


def grid(comparison: Comparison, *, shown: Sequence[str] | None = None, quality: Column | None = None) -> Grid:
    """The cells of a comparison.

    Args:
        comparison: What is shown.
        shown: Names of the facts and figures to keep; unless given all but divergences, for which there is no room, and
            what the uncompressed model alone was measured by.
        quality: The figure that size is weighed against; of those shown the one asked for first unless given.
    """
    facts = [name for name in FACTS if shown is None or name in shown]
    columns = shown_columns(comparison, shown)
    quality = quality or comparison.preferred(columns)
    columns += [quality] if quality and quality not in columns else []
    tags = _tags(columns)
    timed = shown is None or "seconds" in shown
    words = _words(comparison.rows)
    policies = {row.smallest_policy for row in comparison.rows[1:] or comparison.rows}  # of several tables each has one
    policy = f" {next(iter(policies))}" if len(policies) == 1 else ""
    header = [_NAME, *words, *(f"{FACTS[name]}{policy}" if name == "model_mb" else FACTS[name] for name in facts)]
    header += [heading(column, tags) for column in columns]
    best = {name: comparison.best(name) for name in [*facts, *(column.key for column in columns)]}
    seeded = {column.key for column in columns if _seeds_differ(column, comparison)}
    rows = []
    for number, row in enumerate(comparison.rows):
        cells = [Cell(row.name), *(Cell(str(row.value(name))) for name in words)]
        cells += [Cell(_fact(row, name), number in best[name], _number(row.value(name))) for name in facts]
        cells += [
            Cell(
                _figure(column, row, comparison, tell_seeds=column.key in seeded),
                number in best[column.key],
                _number(row.value(column.key)),
            )
            for column in columns
        ]
        if timed:
            cells.append(Cell("" if row.seconds is None else f"{row.seconds:.1f}", value=row.seconds))
        rows.append(tuple(cells))
    return Grid(
        comparison.model,
        (*header, *([_SECONDS] if timed else [])),
        tuple(rows),
        frozenset(comparison.pareto(quality)) if quality else frozenset(),
        1 + len(words),
        (*_notes(columns, tags), *_meanings(columns, comparison)),
        heading(quality, tags) if quality else None,
    )


def shown_columns(comparison: Comparison, shown: Sequence[str] | None) -> list[Column]:
    """The figures that are shown, by the names of those to keep; see `grid`."""
    return [column for column in comparison.shown(shown) if shown is not None or not column.divergence]


def heading(column: Column, tags: dict[tuple[str, str], str]) -> str:
    """A column's name as a heading: short, with a letter where a note tells it from others of its subject."""
    name = column.name.replace("perplexity.", "ppl ").replace(".", " ")
    tag = _tag(column, tags)
    return f"{name} [{tag}]" if tag else name


def _tags(columns: Sequence[Column]) -> dict[tuple[str, str], str]:
    """A letter for each way of measuring that is not the only one of its subject, by subject and what was chosen."""
    ways: dict[str, dict[str, None]] = {}
    for column in columns:
        ways.setdefault(subject_of(column.name), {})[column.label] = None
    several = {subject: own for subject, own in ways.items() if len(own) > 1}
    letters = {own: _letters(number) for number, own in enumerate({w: None for o in several.values() for w in o if w})}
    return {(subject, own): letters[own] for subject, labels in several.items() for own in labels if own}


def _tag(column: Column, tags: dict[tuple[str, str], str]) -> str:
    return tags.get((subject_of(column.name), column.label), "")


def _letters(number: int) -> str:
    return (_letters(number // 26 - 1) if number >= 26 else "") + ascii_lowercase[number % 26]


def _notes(columns: Sequence[Column], tags: dict[tuple[str, str], str]) -> list[str]:
    """What each column was measured on and how, once for each way, by the name that conditions know it by."""
    told: dict[str, None] = {}
    for column in columns:
        measured = {name: value for name, value in column.measured.items() if value is not None}
        on = measured.pop("on", None)
        sha256 = measured.pop("sha256", "")
        how = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measured.items())
        tag = _tag(column, tags)
        name = f"{f'[{tag}] ' if tag else ''}{subject_of(column.name)}{column.label}"
        told[f"{name} on {on} ({how}{'; ' if how else ''}{sha256})"] = None
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


def _words(rows: Sequence[Row]) -> list[str]:
    """What of the rows has a column beside their names: the method where a name does not begin with it, settings."""
    named = all(row.name.startswith(row.method) for row in rows)
    return [*([] if named else [_METHOD]), *([_SETTINGS] if any(row.settings for row in rows) else [])]


def _number(value: float | str | None) -> float | None:
    return value if isinstance(value, int | float) else None


def _fact(row: Row, name: str) -> str:
    value = row.value(name)
    if not isinstance(value, int | float):
        return "–"
    if name in ("table_mb", "model_mb"):
        return f"{value:.2f}"
    if name in ("cosine", "rmse"):
        return f"{value:.4f}"
    return str(value) if isinstance(value, int) else figure(value)


def _figure(column: Column, row: Row, comparison: Comparison, *, tell_seeds: bool) -> str:
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
    return shown if row.original else shown + _against(column, found, held=comparison.held_against is not None)


def _against(column: Column, found: Figure, *, held: bool) -> str:
    """What stands in brackets: against the row that others are held against, if one is named, else the original."""
    if held:
        if (known := found.versus) is None:  # that row itself, or no pair
            return ""
        told = f"{known.value:.3f}×" if known.relative else f"{known.value:+.4f}"
        return f" ({told}, p {known.p_holm:.2g})"
    if column.lower_is_better:
        return f" ({found.ratio:.2f}×)" if found.ratio else ""
    return f" ({found.difference:+.4f})" if found.difference is not None else ""


def _seeds_differ(column: Column, comparison: Comparison) -> bool:
    """Whether some row's figure is over other seeds than another's, which has to be said."""
    return len({row.figures[column.key].seeds for row in comparison.rows if column.key in row.figures}) > 1
