"""`orientc sweep`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import compare, options, output
from orientc.errors import SweepError

if TYPE_CHECKING:
    from orientc.workflows.sweep import Sweep


def sweep(
    model: options.Model,
    ratios: Annotated[
        str, typer.Option(metavar="X,X,…", help="Parameter ratios.", rich_help_panel=options.SIZE)
    ] = "2.5,5,10",
    methods: Annotated[str, typer.Option(metavar="NAME,…", help="svd, ae.", rich_help_panel=options.METHOD)] = "svd,ae",
    perplexity: Annotated[
        bool, typer.Option("--perplexity", help="Measure perplexity.", rich_help_panel=options.EVALUATION)
    ] = False,
    similarity: Annotated[
        bool,
        typer.Option("--similarity", help="Measure sentence vectors, on STS-B.", rich_help_panel=options.EVALUATION),
    ] = False,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="Fine-tune on a GLUE task or squad; may be repeated.",
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help="UTF-8 text for perplexity. [default: WikiText-103 raw test; demo's own for demo]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Perplexity on so many lines (masked) or tokens (causal). [default: all]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="GLUE's data, as for orientc glue. [default: from the hub]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    squad_data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="SQuAD's data, as for orientc squad. [default: from the hub]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    limit_train: options.LimitTrain = None,
    limit_eval: options.LimitEval = None,
    train_embeddings: options.TrainEmbeddings = "decoder",
    epochs: options.Epochs = 3,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="AdamW's. [default: 2e-5 for GLUE, 3e-5 for SQuAD]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    seed: options.Seed = 0,
    seeds: options.Seeds = None,
    precision: options.Precision = "float32",
    device: options.Device = None,
    out: options.RunsFolder = None,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make the artifacts and records of a comparison, skip what is there, and show it; failed cells are named.

    Example: `orientc sweep bert-base-uncased --ratios 5,10 --perplexity --task sst2`
    """
    from orientc.workflows.sweep import sweep as run

    with output.stages(quiet=quiet) as progress:
        done = run(
            model,
            ratios=ratios,
            methods=methods,
            perplexity=perplexity,
            similarity=similarity,
            task=task,
            text=text,
            limit=limit,
            data=data,
            squad_data=squad_data,
            limit_train=limit_train,
            limit_eval=limit_eval,
            train_embeddings=train_embeddings,
            epochs=epochs,
            learning_rate=learning_rate,
            seed=seed,
            seeds=seeds,
            precision=precision,
            device=device,
            out=out,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    show(done, as_json=as_json, quiet=quiet)


def show(done: Sweep, *, as_json: bool, quiet: bool) -> None:
    """The comparison on stdout. Raises `SweepError` where cells failed, after naming them."""
    if done.compared:
        compare.show(done.compared, "json" if as_json else "table", quiet=quiet)
    for line in done.failed:
        output.note(f"failed: {line}")
    if failed := len(done.failed):
        cells = "1 cell" if failed == 1 else f"{failed} cells"
        raise SweepError(f"{cells} failed, the others are done: start again to try just those")
