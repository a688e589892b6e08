"""Quality against size: one line per method, the uncompressed model as reference. Drawn by matplotlib and plotext."""

from __future__ import annotations

import importlib
import io
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from orientc.comparison.rows import Column, Comparison, Row
from orientc.errors import OutputError, UsageError
from orientc.utils.files import write_atomically
from orientc.utils.messages import printable

if TYPE_CHECKING:
    from orientc.comparison.comparisons import Comparisons

FORMATS = (".png", ".svg", ".pdf")
_NARROW = 1.1  # up to here all sizes are about one
_WIDE_RANGE = 8  # from here on an axis is logarithmic
# told apart in grey by marker and dash, in colour by a palette made for colour-blind readers
_STYLES = (("#0072b2", "o", "-"), ("#d55e00", "s", "--"), ("#009e73", "^", "-."), ("#cc79a7", "D", ":"))


@dataclass(frozen=True)
class Series:
    """A method's artifacts: sizes in MB, values of the figure, and deviations over seeds (0 where there are none)."""

    name: str
    sizes: list[float]
    values: list[float]
    deviations: list[float]


@dataclass(frozen=True)
class Picture:
    """What is drawn: the series, and the uncompressed model's size and value where they are known."""

    title: str
    quality: str
    series: list[Series]
    original: tuple[float, float] | None

    @property
    def log_x(self) -> bool:
        """Whether sizes span so much that their axis is logarithmic."""
        return _wide([size for entry in self.series for size in entry.sizes])

    @property
    def log_y(self) -> bool:
        """The same of values."""
        reference = [self.original[1]] if self.original else []
        return _wide([value for entry in self.series for value in entry.values] + reference)


def picture(comparison: Comparison, quality: Column) -> Picture:
    """The points of one figure, those that are finite. Raises `UsageError` where no artifact has one."""
    by_method: dict[str, list[Any]] = {}
    for row in comparison.rows[1:]:
        if _drawable(row, quality):
            method = f"{row.method}, {row.settings}" if row.settings else row.method
            by_method.setdefault(method, []).append(row)
    if not by_method:
        raise UsageError(f"there is nothing to draw: no artifact of {comparison.model} has {quality.key}")
    series = []
    for method, rows in by_method.items():
        rows = sorted(rows, key=lambda row: row.table_mb)
        figures = [row.figures[quality.key] for row in rows]
        series.append(
            Series(
                printable(method),
                [row.table_mb for row in rows],
                [figure.value for figure in figures],
                [figure.std or 0.0 for figure in figures],
            )
        )
    first = comparison.rows[0]
    original = (first.table_mb, first.figures[quality.key].value) if _drawable(first, quality) else None
    return Picture(printable(comparison.model), printable(quality.key), series, original)


def pictures(comparison: Comparison, columns: Iterable[Column]) -> list[Picture]:
    """One picture for each of some figures that an artifact has."""
    return [
        picture(comparison, column) for column in columns if any(_drawable(row, column) for row in comparison.rows[1:])
    ]


def save_plot(found: Comparisons, path: Path) -> None:
    """Draw the figure that size is weighed against into a file: .png, .svg or .pdf.

    Raises:
        UsageError: The suffix is another, there is no figure, or there are several base models.
        OutputError: The file can't be written, or the extra is missing.
    """
    drawn = _chosen(found)
    if len(drawn) != 1:
        raise UsageError(f"a plot is of one base model, here are {len(drawn)}: name the folder of one")
    save(drawn[0], path)


def terminal_plot(found: Comparisons) -> str:
    """Draw the figure that size is weighed against in characters, once for each base model.

    Raises `UsageError` where there is no figure, `OutputError` where the extra is missing.
    """
    return "\n".join(terminal(drawn) for drawn in _chosen(found)) + "\n"


def _chosen(found: Comparisons) -> list[Picture]:
    drawn = [picture(entry, column) for entry in found.comparisons if (column := entry.chosen(found.quality))]
    if not drawn:
        raise UsageError("there is nothing to draw: no figure was measured")
    return drawn


def svg(drawn: Picture) -> str:
    """The picture as an `<svg>` element, the same each time."""
    written = io.StringIO()
    unsaid = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _matplotlib().rc_context({"svg.hashsalt": "orientc", "svg.fonttype": "none"}):
        _save(_figure(drawn), written, format="svg", metadata=unsaid)
    text = written.getvalue()
    return text[text.index("<svg") :]


def _save(figure: Any, stream: IO[Any], **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name can have signs that no font has
        figure.savefig(stream, **options)


def check_suffix(path: Path) -> None:
    """Raise `UsageError` for a file that is named as no form a plot can take."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"a plot can be written as {', '.join(FORMATS)}, not as {path.name}")


def save(drawn: Picture, path: Path) -> None:
    """Write the picture, in the form its suffix names. Raises `UsageError` for another, `OutputError`."""
    check_suffix(path)
    if path.suffix.lower() == ".svg":
        text = svg(drawn)
        write_atomically(path, lambda stream: stream.write(text.encode()))
        return
    figure = _figure(drawn)
    try:
        write_atomically(path, lambda stream: _save(figure, stream, format=path.suffix[1:].lower(), dpi=160))
    except ValueError as error:
        raise OutputError(f"can't draw {path}: {error}") from error


def terminal(drawn: Picture, *, width: int = 100, height: int = 26) -> str:
    """The picture in characters."""
    plot = _library("plotext")
    plot.clear_figure()
    plot.theme("clear")
    plot.plotsize(width, height)
    for marker, entry in zip("ox+*#@" * len(drawn.series), drawn.series, strict=False):
        plot.plot(entry.sizes, entry.values, marker=marker, label=entry.name)
    if drawn.original:
        plot.hline(drawn.original[1])
    if drawn.log_x:
        plot.xscale("log")
    if drawn.log_y:
        plot.yscale("log")
    plot.xlabel("table, MB")
    plot.ylabel(drawn.quality)
    plot.title(drawn.title)
    return str(plot.uncolorize(plot.build()))


def _figure(drawn: Picture) -> Any:
    _matplotlib()
    figures, ticker = importlib.import_module("matplotlib.figure"), importlib.import_module("matplotlib.ticker")
    figure = figures.Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    for (color, marker, dash), entry in zip(_STYLES * len(drawn.series), drawn.series, strict=False):
        axes.errorbar(
            entry.sizes, entry.values, yerr=entry.deviations if any(entry.deviations) else None, color=color,
            marker=marker, linestyle=dash, markersize=6, capsize=3, label="a series",
        )  # fmt: skip
    if drawn.original:
        size, value = drawn.original
        axes.axhline(value, color="#555", linewidth=1, linestyle=(0, (1, 1)), label=f"original, {size:.3g} MB")
    sizes = [size for entry in drawn.series for size in entry.sizes]
    if max(sizes) < _NARROW * min(sizes):  # else hairs between tables of one size would fill the picture
        axes.set_xlim(min(sizes) / _NARROW, max(sizes) * _NARROW)
    for axis, log in ((axes.xaxis, drawn.log_x), (axes.yaxis, drawn.log_y)):
        if log:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            axis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel("size of the table, MB")
    axes.set_ylabel(drawn.quality, parse_math=False)
    axes.set_title(drawn.title, fontsize=11, parse_math=False)
    axes.grid(which="major", alpha=0.3)
    # names come last: as labels those that begin with "_" would be left out
    shown = [text for text in axes.legend(frameon=False, fontsize=9).get_texts() if text.get_text() == "a series"]
    for text, entry in zip(shown, drawn.series, strict=True):
        text.set_parse_math(False)
        text.set_text(entry.name)
    return figure


def _drawable(row: Row, quality: Column) -> bool:
    return quality.key in row.figures and math.isfinite(row.figures[quality.key].value)


def _wide(values: list[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) / min(values) >= _WIDE_RANGE


def _matplotlib() -> Any:
    return _library("matplotlib")


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise OutputError("drawing needs the extra: pip install 'orientc[plot]'") from None
