"""The commands, each in a file of its own, in the panels that help shows them in."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from orientc._version import __version__
from orientc.cli import (
    calibrate,
    compare,
    compress,
    demo,
    export,
    glue,
    inspect,
    messages,
    options,
    perplexity,
    quantize,
    reproduce,
    schema,
    shrink,
    similarity,
    squad,
    svd,
    sweep,
    tune,
)
from orientc.utils import words

PANELS = {
    "Start here": (shrink.shrink, demo.demo),
    "Compress": (compress.compress, svd.svd, quantize.quantize, calibrate.calibrate, tune.tune),
    "Measure": (
        perplexity.perplexity,
        similarity.similarity,
        glue.glue,
        squad.squad,
        sweep.sweep,
        reproduce.reproduce,
        compare.compare,
        inspect.inspect,
    ),
    "Ship": (export.export,),
    "Scripts": (schema.schema,),
}

app = typer.Typer(
    name="orientc",
    help="Make the token-embedding table of a Transformer small, and measure what that cost.",
    epilog=f"Words on screen:\n\n{words.glossary()}",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Command(TyperCommand):
    """A command whose options errors can name, and whose help explains its words and has `--help` in no own panel."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        shown = [self.help, *(text for each in self.params for text in (each.metavar, getattr(each, "help", None)))]
        self.epilog = "\n\n".join(words.explained(*filter(None, shown)))

    def get_params(self, ctx: Any) -> Any:
        """The options as help shows them."""
        parameters: list[Any] = super().get_params(ctx)
        for parameter in parameters:
            if parameter.name == "help":
                parameter.rich_help_panel = options.OUTPUT
        return parameters

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        messages.begin(self.params)
        return super().invoke(ctx)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orientc {__version__}")
        raise typer.Exit


@app.callback()
def orientc(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an error nobody expected; may stand anywhere.")
    ] = False,
) -> None:
    """Make the token-embedding table of a Transformer small, and measure what that cost."""


for _panel, _commands in PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel, cls=Command)(_command)
