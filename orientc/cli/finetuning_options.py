"""Options of the commands that fine-tune: glue and squad."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orientc.cli.options import EVALUATION, OUTPUT, choice
from orientc.evaluation.option_values import KEEP, TRAIN_EMBEDDINGS
from orientc.storage.artifact import FLOAT_DTYPES

Precision = Annotated[
    str,
    choice(FLOAT_DTYPES, help="Type the model computes in; its weights stay float32.", rich_help_panel=EVALUATION),
]
Embeddings = Annotated[
    Path | None,
    typer.Option(
        metavar="ARTIFACT",
        help="Compressed table to put in. [default: none]",
        show_default=False,
        rich_help_panel=EVALUATION,
    ),
]
TaskModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Hub id, local folder or demo. [default: the artifact's base, else bert-base-uncased]",
        show_default=False,
        rich_help_panel=EVALUATION,
    ),
]
Epochs = Annotated[
    float,
    typer.Option(help="Passes over the training set; 0 scores the model as it is.", rich_help_panel=EVALUATION),
]
BatchSize = Annotated[
    int, typer.Option(help="Examples at a time, over all processes together.", rich_help_panel=EVALUATION)
]
GradientAccumulation = Annotated[int, typer.Option(help="Batches per step.", rich_help_panel=EVALUATION)]
LearningRate = Annotated[float, typer.Option(help="AdamW's; falls linearly to 0.", rich_help_panel=EVALUATION)]
Warmup = Annotated[
    float,
    typer.Option(help="Share of the steps in which the learning rate rises.", rich_help_panel=EVALUATION),
]
WeightDecay = Annotated[float, typer.Option(help="AdamW's.", rich_help_panel=EVALUATION)]
MaxLength = Annotated[int, typer.Option(help="Tokens per example, special ones included.", rich_help_panel=EVALUATION)]
Seed = Annotated[
    int,
    typer.Option(help="Draws the head, the order of the examples and dropout.", rich_help_panel=EVALUATION),
]
TrainEmbeddings = Annotated[
    str,
    choice(
        TRAIN_EMBEDDINGS,
        help="Of a compressed table its decoder, all of it, or nothing trains; an uncompressed one with all alone.",
        rich_help_panel=EVALUATION,
    ),
]
Attention = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="eager, sdpa, flash_attention_2 … [default: transformers' choice]",
        show_default=False,
        rich_help_panel=EVALUATION,
    ),
]
GroupByLength = Annotated[
    bool,
    typer.Option(
        "--group-by-length",
        help="Batches of examples of like length: faster, in another order.",
        rich_help_panel=EVALUATION,
    ),
]
CheckpointDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder for checkpoints while training. [default: beside the record]",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
SaveSteps = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Checkpoint every so many steps. [default: every epoch]",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Keep = Annotated[
    str | None,
    choice(
        KEEP,
        help="Fine-tuned models to keep: none, last or best seed's. [default: last; none with several seeds]",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
LogTraining = Annotated[
    list[str] | None,
    typer.Option(
        "--log-with",
        metavar="NAME",
        help="Log training with tensorboard, wandb … (accelerate's trackers); may be repeated.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
