"""Options that several commands share, each spelled once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from orientc.methods.effort import EFFORTS
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.storage.artifact import FLOAT_DTYPES

# The panels that a command's help groups its options in, in this order.
SIZE, METHOD, CALIBRATION = "Size", "Method", "Calibration"
EVALUATION, OUTPUT, HUB = "Evaluation", "Output", "Hub and trust"


def choice(values: Sequence[str], *names: str, **settings: Any) -> Any:
    """A `typer.Option` of type `str` that takes one of `values`, which errors list, and help without a `metavar`."""

    def parse(value: str) -> str:
        if value not in values:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(values)}")
        return value

    return typer.Option(*names, parser=parse, **{"metavar": "|".join(values)} | settings)


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
Subjects = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL|ARTIFACT…",
        help="Hub id, local folder, .gguf file or demo; or a .safetensors artifact, or one of each of several tables.",
        show_default=False,
    ),
]
BaseModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Base model of the artifact. [default: the one it names]",
        show_default=False,
        rich_help_panel=HUB,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(help="Hub branch, tag or commit of the model.", show_default=False, rich_help_panel=HUB),
]
AllowPickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Read .bin weights (tensors only, no code).", rich_help_panel=HUB),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run Python code from the model's repository.", rich_help_panel=HUB),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Go on, with a warning, where the artifact was made from another table.",
        rich_help_panel=HUB,
    ),
]


# -- which table
def table(default: str) -> Any:
    """An option for a table by name, or for all of them."""
    return typer.Option(
        "--table",
        metavar="input|head|all|NAME",
        help="The lookup's table, that of a head which does not share it, all, or another that orientc inspect lists. "
        f"[default: {default}]",
        show_default=False,
        rich_help_panel=SIZE,
    )


Table = Annotated[str | None, table("input")]
AllTables = Annotated[str | None, table("all")]
MeasuredTables = Annotated[
    str,
    choice(
        ("input", "head", "all"),
        "--table",
        help="Leave out a head that has a table of its own, or measure it, too.",
        rich_help_panel=CALIBRATION,
    ),
]

# -- how small
Rank = Annotated[int | None, typer.Option(help="Latent width.", show_default=False, rich_help_panel=SIZE)]
Ratio = Annotated[
    float | None,
    typer.Option(help="Largest rank whose parameter ratio is at least this.", show_default=False, rich_help_panel=SIZE),
]
Bits = Annotated[
    int | None,
    typer.Option(
        metavar="8|4|3|2",
        help="Bits per latent. [default: none, latents are floats]",
        show_default=False,
        rich_help_panel=SIZE,
    ),
]
Block = Annotated[
    str | None,
    choice(
        tuple(BLOCK_TYPES),
        help="In place of bits: codes and scales as ggml's blocks, for orientc export --form gguf.",
        show_default=False,
        rich_help_panel=SIZE,
    ),
]
GroupSize = Annotated[
    int | None,
    typer.Option(help="Latents that share a scale. [default: 64]", show_default=False, rich_help_panel=SIZE),
]
KeepRows = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Store the N most frequent rows uncompressed. [default: 0]",
        show_default=False,
        rich_help_panel=SIZE,
    ),
]
Effort = Annotated[
    str | None,
    choice(
        EFFORTS,
        help="Of a target: how long to search for codes; best takes several times as long. [default: fast]",
        show_default=False,
        rich_help_panel=METHOD,
    ),
]
StoredDtype = Annotated[
    str | None,
    choice(
        FLOAT_DTYPES,
        "--dtype",
        help="Type of the stored floats. [default: float32]",
        show_default=False,
        rich_help_panel=SIZE,
    ),
]


def count_or_auto(text: str | None) -> int | str | None:
    """What `--keep-rows` says. Raises `UsageError`."""
    from orientc.errors import UsageError

    if text is None or text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"`keep_rows` takes a whole number or auto, not {text!r}") from None


# -- with a calibration
Calibrated = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Token counts and importance matrices of orientc calibrate, to weight errors by.",
        show_default=False,
        rich_help_panel=CALIBRATION,
    ),
]
HeadWeight = Annotated[
    float | None,
    typer.Option(
        help="Weight of the head's importance matrix; 0 if the model is to keep its head. [default: 1]",
        show_default=False,
        rich_help_panel=CALIBRATION,
    ),
]
TuningTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="FILE[=WEIGHT]",
        help="UTF-8 text to tune on; not the one you score on. Several have equal shares, or shares by weight. "
        "[default: WikiText-103 raw validation; docstrings for demo]",
        show_default=False,
        rich_help_panel=CALIBRATION,
    ),
]
CalibrationTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="FILE[=WEIGHT]",
        help="UTF-8 text to measure on; not the one you score on. Several have equal shares, or shares by weight. "
        "[default: WikiText-103 raw validation; docstrings for demo]",
        show_default=False,
        rich_help_panel=CALIBRATION,
    ),
]
Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        metavar="NAME[:CONFIG][:SPLIT][=WEIGHT]",
        help="Text out of a data set, as the datasets library names it; the split is train unless given. May be "
        "repeated, and stand beside --text.",
        show_default=False,
        rich_help_panel=CALIBRATION,
    ),
]
Languages = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE,TARGET",
        help="Of an encoder-decoder's pairs, what source and target are called; a multilingual tokenizer's languages.",
        show_default=False,
        rich_help_panel=EVALUATION,
    ),
]
ScoredDataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME[:CONFIG][:SPLIT]",
        help="Text, or pairs, out of a data set, as the datasets library names it; the split is train unless given.",
        show_default=False,
        rich_help_panel=EVALUATION,
    ),
]
ScoredColumn = Annotated[
    str,
    typer.Option(
        "--column",
        help="The data set's column that holds the text; of pairs by default translation.",
        rich_help_panel=EVALUATION,
    ),
]
Column = Annotated[str, typer.Option(help="The data set's column that holds the text.", rich_help_panel=CALIBRATION)]

# -- settings from elsewhere
Config = Annotated[
    Path | None,
    typer.Option(
        help="Settings from a TOML or JSON file, named as the options are.",
        show_default=False,
        rich_help_panel=METHOD,
    ),
]
Like = Annotated[
    Path | None,
    typer.Option(
        metavar="ARTIFACT",
        help="The settings of another artifact, rank and all.",
        show_default=False,
        rich_help_panel=METHOD,
    ),
]

# -- evaluation
ComputeDtype = Annotated[
    str,
    choice(FLOAT_DTYPES, "--dtype", help="Type the model computes in.", rich_help_panel=EVALUATION),
]
LimitTrain = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Train on so many, the first after a seeded shuffle.",
        show_default=False,
        rich_help_panel=EVALUATION,
    ),
]
LimitEval = Annotated[
    int | None,
    typer.Option(min=1, help="Score only so many, the first.", show_default=False, rich_help_panel=EVALUATION),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,…",
        help="Several seeds: mean ± standard deviation.",
        show_default=False,
        rich_help_panel=EVALUATION,
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run was.", rich_help_panel=OUTPUT)]
OverwriteRun = Annotated[
    bool, typer.Option("--overwrite", help="Measure again what was measured before.", rich_help_panel=OUTPUT)
]

# -- where things go, and what is said meanwhile
Out = Annotated[
    Path | None,
    typer.Option(
        help="Runs folder, or the file itself where it ends in .safetensors. [default: $ORIENTC_RUNS or runs]",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
RunsFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Runs folder. [default: $ORIENTC_RUNS or runs]",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.", rich_help_panel=OUTPUT)]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1, mps … [default: accelerate's choice]",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        metavar="auto|balanced|FILE",
        help="Spread a model larger than one device, by accelerate: over all there are, or as a JSON file says.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE=SIZE",
        help="With a device map, the most memory of each device, as 0=10GiB,cpu=30GiB.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.", rich_help_panel=OUTPUT)]


def _quieten(quiet: bool) -> bool:
    """Keep the libraries' own bars away too; told before any of them is imported."""
    if quiet or not sys.stderr.isatty():
        os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    return quiet


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Nothing but errors on stderr.",
        callback=_quieten,
        rich_help_panel=OUTPUT,
    ),
]
