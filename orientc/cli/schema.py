"""`orientc schema`"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from orientc.cli import output


def schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Which document. [default: list them]", show_default=False),
    ] = None,
) -> None:
    """Print the JSON Schema of a document: of what a command prints with --json, or of a file that it leaves.

    Example: `orientc schema perplexity`
    """
    from orientc.utils import documents

    if name is None:
        output.show_facts([*documents.titles().items()])
    else:
        output.show(json.dumps(documents.schema(name), indent=2, ensure_ascii=False) + "\n")
