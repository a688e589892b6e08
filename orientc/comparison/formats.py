"""Comparisons as text: a table, Markdown, CSV, JSON, a page of HTML."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from orientc.comparison.grid import FRONT, Cell, Grid, grid, shown_columns
from orientc.comparison.rows import FACTS, Comparison
from orientc.errors import UsageError
from orientc.utils.files import encoded, strict_json
from orientc.utils.messages import printable

if TYPE_CHECKING:
    from orientc.comparison.comparisons import Comparisons

FORMATS = ("table", "markdown", "csv", "json", "html")

_FORMULA = "'*[=+\\-@\t\r\n＝＋－＠]"  # with their full-width forms, which spreadsheets read the same way
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222;
  background: #fff }
h1 { font-size: 1.6rem } h2 { margin-top: 2.5rem; overflow-wrap: anywhere }
.wide { overflow-x: auto; margin-bottom: .7rem } table { border-collapse: separate; border-spacing: 0 }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap;
  font-variant-numeric: tabular-nums }
th { padding: 0; vertical-align: bottom }
th button { all: unset; box-sizing: border-box; width: 100%; padding: .3rem .7rem; cursor: pointer }
th button:hover { color: #07c } th button:focus-visible { outline: 2px solid #07c; outline-offset: -2px }
th[aria-sort=ascending] button::after { content: " ▲" } th[aria-sort=descending] button::after { content: " ▼" }
.text { text-align: left }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; border-right: 1px solid #ddd }
.best { font-weight: 700 } tr.front td:first-child { color: #07c }
p { color: #555; margin: .2rem 0; overflow-wrap: anywhere }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem 2rem }
figure { margin: 1rem 0; max-width: 45rem } svg { max-width: 100%; height: auto }
@media (max-width: 40rem) {
  body { font-size: 14px; margin: 1rem auto; padding: 0 .7rem }
  th, td, th button { padding: .3rem .45rem } th { padding: 0 }
  td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; max-width: 38vw }
}
"""
_SCRIPT = """
for (const head of document.querySelectorAll("th")) head.querySelector("button").onclick = () => {
  const up = head.getAttribute("aria-sort") !== "ascending", place = head.cellIndex;
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = head.closest("table").tBodies[0], text = head.className === "text";
  const of = row => text ? row.cells[place].textContent.replace("◆ ", "") : row.cells[place].dataset.v;
  const compared = (a, b) => text ? a.localeCompare(b, undefined, {numeric: true}) : a - b;
  body.append(...[...body.rows].sort((one, other) => {
    const a = of(one), b = of(other);
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return up ? compared(a, b) : compared(b, a);
  }));
};
"""


def render(found: Comparisons, format: str = "table") -> str:
    """What `compare` found as a text, in characters that any file can hold: others are escaped.

    Args:
        found: Which columns are shown and which figure size is weighed against is told by its `columns` and `quality`.
        format: "table" for people, "markdown" for a README, "csv" and "json" for programs, "html" for a page with
            plots, which needs the extra `plot`.

    Raises:
        UsageError: There is no such format, or columns were chosen for JSON, which has every column.
        OutputError: The extra is missing.
    """
    if format not in FORMATS:
        raise UsageError(f"`format` must be one of {', '.join(FORMATS)}, not {format!r}")
    if format == "json":
        if found.columns:
            raise UsageError("`columns` is for tables and csv: JSON has every column")
        # JSON may hold a DEL, which a terminal should not get
        return json.dumps(strict_json(found.as_dict()), indent=1).replace("\x7f", r"\u007f") + "\n"
    return encoded(_text(found, format)).decode()


def _text(found: Comparisons, format: str) -> str:
    if format == "csv":
        return as_csv(found.comparisons, found.columns)
    grids = [
        grid(entry, shown=found.columns, quality=None if found.quality is None else entry.chosen(found.quality))
        for entry in found.comparisons
    ]
    if format == "table":
        return table(grids)
    if format == "markdown":
        return markdown(grids)
    from orientc.comparison import plot

    drawn = [
        [plot.svg(picture) for picture in plot.pictures(entry, shown_columns(entry, found.columns))]
        for entry in found.comparisons
    ]
    return page(zip(grids, drawn, strict=True))


def table(grids: Iterable[Grid]) -> str:
    """Tables in columns: the best of each column with a star, the Pareto front with a diamond."""
    from rich.cells import cell_len

    parts = []
    for entry in grids:
        lines = [[printable(name) for name in entry.header]]
        for number, row in enumerate(entry.rows):
            first = f"{FRONT if number in entry.front else ' '} "
            lines.append([first + printable(row[0].text), *(f"{printable(c.text)}{'*' * c.best}" for c in row[1:])])
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        padded = [
            "  ".join(
                cell + space if place < entry.words else space + cell
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
                for space in [" " * (width - cell_len(cell))]
            )
            for line in lines
        ]
        rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
        parts += [printable(entry.title), padded[0], rule, *padded[1:], *map(printable, entry.legend("*"))]
    return "".join(f"{part}\n" for part in parts)


def markdown(grids: Iterable[Grid]) -> str:
    """Tables to paste into a README: the best of each column in bold, the Pareto front with a diamond."""
    parts = []
    for entry in grids:
        lines = [f"**{escaped(entry.title)}**", "", _line(map(escaped, entry.header))]
        lines.append(_line([*["---"] * entry.words, *["---:"] * (len(entry.header) - entry.words)]))
        for number, row in enumerate(entry.rows):
            first = f"{FRONT} " if number in entry.front else ""
            lines.append(_line([first + escaped(row[0].text), *map(_bold, row[1:])]))
        lines += ["", *(f"{escaped(note)}  " for note in entry.legend("bold:"))]
        parts.append("\n".join(lines).rstrip() + "\n")
    return "\n".join(parts)


def as_csv(comparisons: Sequence[Comparison], shown: Sequence[str] | None = None) -> str:
    """One line per row of every comparison, numbers in full; a column that a comparison lacks is empty.

    Text that a spreadsheet would take for a formula has an apostrophe before it, as OWASP advises; so has text that
    would look so otherwise, and taking one apostrophe away gives all of it back.

    `shown` are the names of facts and figures to keep, all unless given.
    """
    columns = [entry.columns if shown is None else entry.shown(shown) for entry in comparisons]
    keys = dict.fromkeys(column.key for own in columns for column in own)
    heads = dict.fromkeys(head for comparison in comparisons for head in comparison.rows[0].model_mb)
    kept = [name for name in (*FACTS, "seconds") if shown is None or name in shown]
    facts = [f"model_mb.{head}" for head in heads] if "model_mb" in kept else []
    facts = [name for name in kept if name not in ("model_mb", "seconds")] + facts
    names = ["name", "method", "settings", "dtype", *facts, *(["seconds"] if "seconds" in kept else []), "path"]
    header = ["model", *names, *(name for key in keys for name in (key, f"{key} ±", f"{key} seeds", f"{key} error"))]
    lines = [_csv_line(header)]
    for comparison in comparisons:
        for row in comparison.rows:
            cells: list[object] = [comparison.model, *(row.value(name) for name in names)]
            for key in keys:
                found = row.figures.get(key)
                cells += [found.value, found.std, len(found.seeds) or None, found.error] if found else [""] * 4
            lines.append(_csv_line(cells))
    return "".join(lines)


def page(sections: Iterable[tuple[Grid, Sequence[str]]]) -> str:
    """One self-contained page: tables that a click on a heading sorts, each with its plots as SVG."""
    body = []
    for entry, plots in sections:
        head = "".join(
            f"<th{_kind(place, entry)}><button>{html.escape(name)}</button></th>"
            for place, name in enumerate(entry.header)
        )
        rows = "".join(
            f"{'<tr class=front>' if number in entry.front else '<tr>'}{_cells(row, entry, number)}</tr>"
            for number, row in enumerate(entry.rows)
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in entry.legend("bold:"))
        drawn = "".join(f"<figure>{plot}</figure>" for plot in plots)
        body.append(
            f'<h2>{html.escape(entry.title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>{notes}"
            f'<div class="plots">{drawn}</div>'
        )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>orientc compare</title>'
        f"<style>{_STYLE}</style></head><body><h1>orientc compare</h1>{''.join(body)}<script>{_SCRIPT}</script></body>"
        "</html>\n"
    )


def _csv_line(cells: Iterable[object]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\r\n").writerow(map(_cell, cells))  # so that a CR in a cell is quoted
    return written.getvalue().removesuffix("\r\n") + "\n"


def _cell(value: object) -> object:
    """A cell of CSV: numbers as they are, text without the power to compute."""
    if isinstance(value, str):
        return f"'{value}" if re.match(_FORMULA, value) else value
    return "" if value is None else value


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _bold(cell: Cell) -> str:
    return f"**{escaped(cell.text)}**" if cell.best else escaped(cell.text)


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands, on one line, within a line: no markup, no link, nothing unprintable."""
    signs = re.sub(r"[\\|*_`~$\[]", r"\\\g<0>", printable(" ".join(text.split())))
    signs = re.sub(r"(?=://)|(?<=www)(?=\.)", r"\\", signs, flags=re.IGNORECASE)  # GitHub makes links of bare addresses
    return signs.replace("&", "&amp;").replace("<", "&lt;")


def _kind(place: int, entry: Grid, *, best: bool = False) -> str:
    """A cell's class: text reads from the left."""
    return ' class="text"' if place < entry.words else ' class="best"' if best else ""


def _cells(row: Sequence[Cell], entry: Grid, number: int) -> str:
    mark = f"{FRONT} " if number in entry.front else ""
    return "".join(
        f"<td{_kind(place, entry, best=cell.best)}{_sorted_by(cell)}>{mark * (place == 0)}{html.escape(cell.text)}</td>"
        for place, cell in enumerate(row)
    )


def _sorted_by(cell: Cell) -> str:
    return "" if cell.value is None else f' data-v="{str(float(cell.value)).replace("inf", "Infinity")}"'
