"""How commands speak: results on stdout, progress and notes on stderr. The only place that prints."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from orientc.cli import messages
from orientc.utils import distributed, words
from orientc.utils.files import strict_json
from orientc.utils.messages import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from orientc.utils.progress import Progress

_WIDE = 500  # a table takes the width it needs, in a pipe and on a narrow terminal alike: no figure is ever cut


def plain(text: str, *, lines: bool = False) -> str:
    """Text that can't do anything to a terminal: what is not printable is escaped, line ends only without `lines`.

    Files from strangers have strings in them, and what we say repeats them.
    """
    return printable(text, kept="\n\t" if lines else "")


def show_json(value: Any) -> None:
    """One JSON document on stdout; numbers that JSON has no word for become null."""
    print(json.dumps(strict_json(value), indent=1).replace("\x7f", r"\u007f"))  # noqa: T201


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """A table on stdout, with its words explained; the first column reads from the left, figures from the right."""
    if title:
        print(plain(title))  # noqa: T201
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for number, name in enumerate(header):
        table.add_column(plain(name), justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    Console(width=_WIDE, highlight=False, markup=False, emoji=False).print(table)
    _explain(title or "", *header, *(cell for row in rows for cell in row))


def show(text: str) -> None:
    """Text on stdout, in the lines it has."""
    print(plain(text, lines=True), end="")  # noqa: T201


def show_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns on stdout, with their words explained."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(f"{name:<{width}}  {plain(value)}")  # noqa: T201
    _explain(*(text for fact in facts for text in fact))


def _explain(*texts: str) -> None:
    for line in words.explained(*texts):
        print(line)  # noqa: T201


def note(message: str, *, quiet: bool = False) -> None:
    """A line on stderr, the library's fields in it as the options of the running command."""
    if not quiet and distributed.is_main():
        print(f"orientc: {plain(messages.translated(message))}", file=sys.stderr)  # noqa: T201


@contextlib.contextmanager
def stages(*, quiet: bool) -> Iterator[Progress]:
    """A bar for each stage of an evaluation, warnings as notes, each once, and a line for each part that is done."""
    from orientc.utils.progress import Progress

    said: set[str] = set()
    with _bars(quiet) as bars:

        def stage(name: str, total: int) -> None:
            bars.add_task(name, total=total, stage=name)

        def status(text: str) -> None:
            bars.update(bars.task_ids[-1], description=f"{bars.tasks[-1].fields['stage']}: {text}")

        def warn(message: str) -> None:
            if message not in said:
                note(message, quiet=quiet)
            said.add(message)

        def advance(count: int) -> None:
            bars.advance(bars.task_ids[-1], count)

        yield Progress(stage, advance, warn, status, lambda line: note(line, quiet=quiet))


def _bars(quiet: bool) -> Bars:
    """Progress bars on stderr where that is a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Bars(*columns, console=console, disable=quiet or not console.is_terminal or not distributed.is_main())
