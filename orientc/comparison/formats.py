"""Comparisons as Markdown, CSV and a page of HTML."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterable, Sequence

from orientc.comparison.compare import FACTS, Comparison
from orientc.comparison.grid import FRONT, Cell, Grid

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222 }
h2 { margin-top: 2.5rem } table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child, td:first-child { text-align: left } .best { font-weight: 700 } tr.front td:first-child { color: #07c }
p { color: #555; margin: .2rem 0 } svg { max-width: 100%; height: auto }
"""


def markdown(grids: Iterable[Grid]) -> str:
    """Tables to paste into a README: the best of each column in bold, the Pareto front with a diamond."""
    parts = []
    for grid in grids:
        lines = [f"**{_escaped(grid.title)}**", "", _line(map(_escaped, grid.header))]
        lines.append(_line(["---", *["---:"] * (len(grid.header) - 1)]))
        for number, row in enumerate(grid.rows):
            first = f"{FRONT} " if number in grid.front else ""
            lines.append(_line([first + _escaped(row[0].text), *map(_bold, row[1:])]))
        lines += ["", *(f"{_escaped(note)}  " for note in grid.legend("bold:"))]
        parts.append("\n".join(lines).rstrip() + "\n")
    return "\n".join(parts)


def as_csv(comparisons: Sequence[Comparison], shown: Sequence[str] | None = None) -> str:
    """One line per row of every comparison, numbers in full; a column that a comparison lacks is empty.

    `shown` are the names of facts and figures to keep, all unless given.
    """
    keys = dict.fromkeys(column.key for comparison in comparisons for column in comparison.shown(shown))
    heads = dict.fromkeys(head for comparison in comparisons for head in comparison.rows[0].model_mb)
    kept = [name for name in (*FACTS, "seconds") if shown is None or name in shown]
    facts = [f"model_mb.{head}" for head in heads] if "model_mb" in kept else []
    facts = [name for name in kept if name not in ("model_mb", "seconds")] + facts
    names = ["name", "method", "settings", "dtype", *facts, *(["seconds"] if "seconds" in kept else []), "path"]
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["model", *names, *(name for key in keys for name in (key, f"{key} ±", f"{key} seeds"))])
    for comparison in comparisons:
        for row in comparison.rows:
            cells: list[object] = [comparison.model, *(row.value(name) for name in names)]
            for key in keys:
                found = row.figures.get(key)
                cells += [found.value, found.std, len(found.seeds) or None] if found else ["", "", ""]
            writer.writerow(["" if cell is None else cell for cell in cells])
    return written.getvalue()


def page(sections: Iterable[tuple[Grid, Sequence[str]]]) -> str:
    """One self-contained page: tables, each with its plots as SVG."""
    body = []
    for grid, plots in sections:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in grid.header)
        rows = "".join(
            f'<tr class="front">{_cells(row, f"{FRONT} ")}</tr>' if number in grid.front else f"<tr>{_cells(row)}</tr>"
            for number, row in enumerate(grid.rows)
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in grid.legend("bold:"))
        drawn = "".join(f"<figure>{plot}</figure>" for plot in plots)
        body.append(
            f"<h2>{html.escape(grid.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"{notes}{drawn}"
        )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>orientc compare</title>'
        f"<style>{_STYLE}</style></head><body><h1>orientc compare</h1>{''.join(body)}</body></html>\n"
    )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _bold(cell: Cell) -> str:
    return f"**{_escaped(cell.text)}**" if cell.best else _escaped(cell.text)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    signs = re.sub(r"[\\|*_`~$\[]", r"\\\g<0>", " ".join(text.split()))
    return signs.replace("&", "&amp;").replace("<", "&lt;")


def _cells(row: Sequence[Cell], mark: str = "") -> str:
    first, *rest = row
    return f"<td>{mark}{html.escape(first.text)}</td>" + "".join(
        f'<td class="best">{html.escape(cell.text)}</td>' if cell.best else f"<td>{html.escape(cell.text)}</td>"
        for cell in rest
    )
