"""The commands, each in a file of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from orientc._version import __version__
from orientc.cli import (
    calibrate,
    compare,
    compress,
    demo,
    export,
    glue,
    inspect,
    perplexity,
    quantize,
    similarity,
    squad,
    svd,
    sweep,
    tune,
)

app = typer.Typer(
    name="orientc",
    help="Make the token-embedding table of a Transformer small, and measure what that cost.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orientc {__version__}")
        raise typer.Exit


@app.callback()
def orientc(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Make the token-embedding table of a Transformer small, and measure what that cost."""


app.command()(demo.demo)
app.command()(inspect.inspect)
app.command()(compress.compress)
app.command()(svd.svd)
app.command()(quantize.quantize)
app.command()(calibrate.calibrate)
app.command()(tune.tune)
app.command()(perplexity.perplexity)
app.command()(glue.glue)
app.command()(squad.squad)
app.command()(similarity.similarity)
app.command()(sweep.sweep)
app.command()(compare.compare)
app.command()(export.export)
