"""`orientc sweep`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import compare, options, output, study

if TYPE_CHECKING:
    from orientc.workflows.sweep import Sweep


def sweep(
    model: options.Model,
    ratios: study.Ratios = None,
    bits: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="8, 4, 3, 2 or none: of the numbers svd, ae and quantize store. [default: none; quantize 4]",
            show_default=False,
            rich_help_panel=options.SIZE,
        ),
    ] = None,
    blocks: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE,…",
            help="IQ4_NL, Q5_0 …: rows as ggml's blocks, of quantize.",
            show_default=False,
            rich_help_panel=options.SIZE,
        ),
    ] = None,
    target_bits: Annotated[
        str | None,
        typer.Option(
            metavar="X,X,…",
            help="Bits per weight of target. [default: 1.5,2,3]",
            show_default=False,
            rich_help_panel=options.SIZE,
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="svd, ae, quantize, target. [default: those whose sizes are given, else svd,ae]",
            show_default=False,
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    presets: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="Recipes of ae: default, paper. [default: default]",
            show_default=False,
            rich_help_panel=options.METHOD,
        ),
    ] = None,
    effort: options.Effort = None,
    fit_seeds: study.FitSeeds = None,
    config: study.StudyFile = None,
    table: options.Table = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            metavar="none|auto|FILE",
            help="Make each artifact with it; auto measures one and keeps it; may be repeated. [default: none]",
            show_default=False,
            rich_help_panel=options.CALIBRATION,
        ),
    ] = None,
    perplexity: Annotated[
        bool | None, typer.Option("--perplexity", help="Measure perplexity.", rich_help_panel=options.EVALUATION)
    ] = None,
    similarity: Annotated[
        bool | None,
        typer.Option("--similarity", help="Measure sentence vectors, on STS-B.", rich_help_panel=options.EVALUATION),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="Fine-tune on a GLUE task, all nine, or squad; may be repeated.",
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    text: study.Text = None,
    languages: options.Languages = None,
    limit: study.Limit = None,
    data: study.Data = None,
    squad_data: study.SquadData = None,
    limit_train: options.LimitTrain = None,
    limit_eval: options.LimitEval = None,
    train_embeddings: study.TrainEmbeddings = None,
    epochs: study.Epochs = None,
    learning_rate: study.LearningRate = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Draws the head, the order of the examples and dropout. [default: 0]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    seeds: options.Seeds = None,
    precision: study.Precision = None,
    keep: study.Keep = None,
    device: options.Device = None,
    out: options.RunsFolder = None,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make the artifacts and records of a comparison, skip what is there, and show it; failed cells are named.

    Example: `orientc sweep bert-base-uncased --target-bits 1.5,2,3 --calibration auto --perplexity`

    Example: `orientc sweep bert-base-uncased --ratios 5,10 --perplexity --task sst2`
    """
    from orientc.workflows.sweep import sweep as run

    with output.stages(quiet=quiet) as progress:
        done = run(
            model,
            config=config,
            methods=methods,
            ratios=ratios,
            bits=bits,
            blocks=blocks,
            target_bits=target_bits,
            presets=presets,
            effort=effort,
            fit_seeds=fit_seeds,
            table=table,
            calibration=calibration,
            perplexity=perplexity,
            similarity=similarity,
            task=task,
            text=text,
            languages=languages,
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
            keep=keep,
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
    if as_json:
        compare.note_problems(done.compared, quiet=quiet)
        output.show_json(done.as_dict())
    elif done.compared:
        compare.show(done.compared, "table", quiet=quiet)
    study.end(done)
