"""`orientc reproduce`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import options, output, study


def reproduce(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Hub id, local folder, .gguf file, or demo. [default: bert-base-uncased; demo with --quick]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A look at the whole in minutes: few lines and examples, tasks whose data is given alone.",
            rich_help_panel=options.EVALUATION,
        ),
    ] = False,
    ratios: study.Ratios = None,
    fit_seeds: study.FitSeeds = None,
    config: study.StudyFile = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="GLUE tasks, all nine, squad or none; may be repeated. [default: all nine and squad]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    text: study.Text = None,
    limit: study.Limit = None,
    data: study.Data = None,
    squad_data: study.SquadData = None,
    limit_train: options.LimitTrain = None,
    limit_eval: options.LimitEval = None,
    train_embeddings: study.TrainEmbeddings = None,
    epochs: study.Epochs = None,
    learning_rate: study.LearningRate = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Seeds of fine-tuning. [default: 22, the authors']",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    precision: study.Precision = None,
    published: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML file with figures of the paper and the tables they stand in, to show beside ours.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    latex: Annotated[
        bool,
        typer.Option(
            "--latex", help="Print LaTeX (booktabs) in the place of Markdown.", rich_help_panel=options.OUTPUT
        ),
    ] = False,
    device: options.Device = None,
    out: options.RunsFolder = None,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Repeat the study of arXiv 2106.08181 on a model, with a verdict on each claim; it can be started again.

    Example: `orientc reproduce --quick`

    Example: `orientc reproduce --model bert-base-uncased --precision bfloat16`
    """
    from orientc.workflows.reproduce import reproduce as run

    with output.stages(quiet=quiet) as progress:
        done = run(
            model=model,
            quick=quick,
            config=config,
            ratios=ratios,
            fit_seeds=fit_seeds,
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
            seeds=seeds,
            precision=precision,
            published=published,
            device=device,
            out=out,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    if as_json:
        output.show_json(done.as_dict())
    else:
        output.show(done.report.latex if latex else done.report.markdown)
    for path in done.files:
        output.note(f"report: {path}", quiet=quiet)
    study.end(done.sweep)
