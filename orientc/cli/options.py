"""Options that several commands share, each spelled once."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

# -- what to work on
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Hub id, local folder, .gguf file, or demo.", show_default=False),
]
Subject = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|ARTIFACT",
        help="Hub id, local folder, .gguf file or demo; or a .safetensors artifact.",
        show_default=False,
    ),
]
BaseModel = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Base model of the artifact, where it is not the one it names."),
]
Revision = Annotated[str | None, typer.Option(help="Hub branch, tag or commit of the model.")]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="Read .bin weights (tensors only, no code).")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code from the model's repository.")
]
Force = Annotated[bool, typer.Option("--force", help="Go on, with a warning, where the artifact is of another table.")]


# -- how small
class Dtype(StrEnum):
    """Float types numbers are stored or computed in."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


Rank = Annotated[int | None, typer.Option(help="Numbers kept per token.", show_default=False)]
Ratio = Annotated[
    float | None,
    typer.Option(help="Largest rank whose parameter ratio is at least this.", show_default=False),
]
StoredDtype = Annotated[
    Dtype | None,
    typer.Option("--dtype", help="Type of the stored numbers. [default: float32]", show_default=False),
]

# -- settings from elsewhere
Config = Annotated[Path | None, typer.Option(help="Settings from a TOML or JSON file, named as the options are.")]
Like = Annotated[Path | None, typer.Option(metavar="ARTIFACT", help="The settings of another artifact, rank and all.")]

# -- where things go, and what is said meanwhile
Out = Annotated[
    Path | None,
    typer.Option(
        help="Runs folder, or the artifact itself where it ends in .safetensors. [default: $ORIENTC_RUNS or runs]",
        show_default=False,
    ),
]
RunsFolder = Annotated[
    Path | None,
    typer.Option("--out", help="Runs folder. [default: $ORIENTC_RUNS or runs]", show_default=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, mps …  [default: accelerate's choice]", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def _quieten(quiet: bool) -> bool:
    """Keep the libraries' own bars away too; told before any of them is imported."""
    if quiet or not sys.stderr.isatty():
        os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    return quiet


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors on stderr.", callback=_quieten)]
