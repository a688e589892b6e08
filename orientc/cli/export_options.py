"""Options of the commands that write a model folder: export and shrink."""

from __future__ import annotations

from typing import Annotated

import typer

from orientc.cli.options import HUB, OUTPUT, choice
from orientc.exporters.forms import BODIES
from orientc.storage.artifact import FLOAT_DTYPES

ExportDtype = Annotated[
    str | None,
    choice(
        FLOAT_DTYPES,
        "--dtype",
        help="Type of all weights. [default: the base checkpoint's]",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Body = Annotated[
    str,
    choice(
        BODIES,
        "--body",
        help="Quantize linear layers: int8 (torchao), or int4 (NF4, bitsandbytes); in a graph by ONNX Runtime.",
        rich_help_panel=OUTPUT,
    ),
]
CardName = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="TITLE",
        help="Title of the model card. [default: the base, and the bits of its table]",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Push = Annotated[
    str | None,
    typer.Option(
        metavar="REPO",
        help="Upload the folder to the hub too; HF_TOKEN says who you are.",
        show_default=False,
        rich_help_panel=HUB,
    ),
]
Private = Annotated[
    bool,
    typer.Option(
        "--private",
        help="Make the repository private; a public one is left alone.",
        rich_help_panel=HUB,
    ),
]
