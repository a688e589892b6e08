"""Options that `sweep` and `reproduce` share, and how both show what they did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import options, output
from orientc.errors import SweepError
from orientc.evaluation.option_values import KEEP, TRAIN_EMBEDDINGS
from orientc.storage.artifact import FLOAT_DTYPES

if TYPE_CHECKING:
    from orientc.workflows.sweep import Sweep

StudyFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings of the study from a TOML or JSON file, named as the options; a table for a task's own.",
        show_default=False,
        rich_help_panel=options.METHOD,
    ),
]
Ratios = Annotated[
    str | None,
    typer.Option(
        metavar="X,X,…",
        help="Parameter ratios of svd and ae. [default: 2.5,5,10]",
        show_default=False,
        rich_help_panel=options.SIZE,
    ),
]
FitSeeds = Annotated[
    str | None,
    typer.Option(metavar="N,N,…", help="Seeds of ae. [default: 0]", show_default=False, rich_help_panel=options.METHOD),
]
Text = Annotated[
    Path | None,
    typer.Option(
        help="UTF-8 text for perplexity. [default: WikiText-103 raw test; demo's own for demo]",
        show_default=False,
        rich_help_panel=options.EVALUATION,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        help="Perplexity on so many lines (masked), tokens (causal) or pairs. [default: all]",
        show_default=False,
        rich_help_panel=options.EVALUATION,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="GLUE's data, as for orientc glue. [default: from the hub]",
        show_default=False,
        rich_help_panel=options.EVALUATION,
    ),
]
SquadData = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="SQuAD's data, as for orientc squad. [default: from the hub]",
        show_default=False,
        rich_help_panel=options.EVALUATION,
    ),
]
TrainEmbeddings = Annotated[
    str | None,
    options.choice(
        TRAIN_EMBEDDINGS,
        help="Of a compressed table its decoder, all of it, or nothing trains. [default: decoder]",
        show_default=False,
        rich_help_panel=options.EVALUATION,
    ),
]
Epochs = Annotated[
    float | None,
    typer.Option(
        help="Passes over the training set; 0 scores the model as it is. [default: 3]",
        show_default=False,
        rich_help_panel=options.EVALUATION,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        help="AdamW's. [default: 2e-5 for GLUE, 3e-5 for SQuAD]",
        show_default=False,
        rich_help_panel=options.EVALUATION,
    ),
]
Precision = Annotated[
    str | None,
    options.choice(
        FLOAT_DTYPES,
        help="Type the model computes in; its weights stay float32. [default: float32]",
        show_default=False,
        rich_help_panel=options.EVALUATION,
    ),
]
Keep = Annotated[
    str | None,
    options.choice(
        KEEP,
        help="Fine-tuned models to keep: none, the last seed's, the best one's. [default: none]",
        show_default=False,
        rich_help_panel=options.OUTPUT,
    ),
]


def end(done: Sweep) -> None:
    """Name the cells that failed. Raises `SweepError` where there are some."""
    for line in done.failed:
        output.note(f"failed: {line}")
    if failed := len(done.failed):
        cells = "1 cell" if failed == 1 else f"{failed} cells"
        raise SweepError(f"{cells} failed, the others are done: start again to try just those")
