"""Options that several commands share, each spelled once."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

# The panels that a command's help groups its options in.
SIZE, METHOD, CALIBRATION = "Size", "Method", "Calibration"
EVALUATION, OUTPUT, HUB = "Evaluation", "Output", "Hub and trust"

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


# -- texts other than the one that is scored
Dataset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:CONFIG][:SPLIT]",
        help="Text out of a data set, as the datasets library names it; the split is train unless given.",
        show_default=False,
    ),
]
Column = Annotated[str, typer.Option(help="The data set's column that holds the text.")]


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
Calibrated = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Importance and token counts of orientc calibrate: errors count as the model feels them.",
        show_default=False,
    ),
]
HeadWeight = Annotated[
    float | None,
    typer.Option(help="Weight of the head in the metric; 0 if the model is to keep its head. [default: 1]"),
]
KeepRows = Annotated[
    str | None,
    typer.Option(metavar="N|auto", help="Keep the N most frequent rows as they are. [default: 0]", show_default=False),
]
Bits = Annotated[
    int | None,
    typer.Option(metavar="8|4|3|2", help="Store latents in so many bits. [default: as numbers]", show_default=False),
]
GroupSize = Annotated[int | None, typer.Option(help="Latents that share a scale. [default: 64]", show_default=False)]


def count_or_auto(text: str | None) -> int | str | None:
    """What `--keep-rows` says. Raises `UsageError`."""
    from orientc.errors import UsageError

    if text is None or text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--keep-rows takes a whole number or auto, not {text!r}") from None


StoredDtype = Annotated[
    Dtype | None,
    typer.Option("--dtype", help="Type of the stored numbers. [default: float32]", show_default=False),
]


# -- fine-tuning
class TrainEmbeddings(StrEnum):
    """What of the table trains."""

    decoder = "decoder"
    all = "all"
    none = "none"


Embeddings = Annotated[
    Path | None,
    typer.Option(metavar="ARTIFACT", help="Compressed table to put in. [default: none]", show_default=False),
]
TaskModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Hub id, local folder or demo. [default: the artifact's base, else bert-base-uncased]",
        show_default=False,
    ),
]
LimitTrain = Annotated[
    int | None, typer.Option(min=1, help="Train on so many, the first after a seeded shuffle.", show_default=False)
]
LimitEval = Annotated[int | None, typer.Option(min=1, help="Score only so many, the first.", show_default=False)]
Epochs = Annotated[float, typer.Option(help="Passes over the training set; 0 scores the model as it is.")]
BatchSize = Annotated[int, typer.Option(help="Examples at a time, over all processes together.")]
GradientAccumulation = Annotated[int, typer.Option(help="Batches per step.")]
LearningRate = Annotated[float, typer.Option(help="AdamW's; falls linearly to 0.")]
Warmup = Annotated[float, typer.Option(help="Share of the steps in which the learning rate rises.")]
WeightDecay = Annotated[float, typer.Option(help="AdamW's.")]
MaxLength = Annotated[int, typer.Option(help="Tokens per example, special ones included.")]
Seed = Annotated[int, typer.Option(help="Draws the head, the order of the examples and dropout.")]
Seeds = Annotated[
    str | None,
    typer.Option(metavar="N,N,…", help="Several seeds: mean ± standard deviation.", show_default=False),
]
TrainEmbeddingsOption = Annotated[
    TrainEmbeddings,
    typer.Option(
        "--train-embeddings",
        help="Of a compressed table its decoder, all of it, or nothing trains; an uncompressed one with all alone.",
    ),
]
Precision = Annotated[Dtype, typer.Option(help="Type the model computes in; its weights stay float32.")]
Attention = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="eager, sdpa, flash_attention_2 … [default: transformers' choice]"),
]
GroupByLength = Annotated[
    bool, typer.Option("--group-by-length", help="Batches of examples of like length: faster, in another order.")
]
CheckpointDir = Annotated[
    Path | None,
    typer.Option(help="Folder for checkpoints while training. [default: beside the record]", show_default=False),
]
SaveSteps = Annotated[
    int | None, typer.Option(min=1, help="Checkpoint every so many steps. [default: every epoch]", show_default=False)
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of an interrupted run.")]
OverwriteRun = Annotated[bool, typer.Option("--overwrite", help="Run again what was run before.")]

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
