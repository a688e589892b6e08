"""`orientc glue`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import finetuned, finetuning_options, options, output
from orientc.evaluation.glue.tasks import ALL, TASKS


def glue(
    task: Annotated[
        str,
        options.choice(
            (*TASKS, ALL),
            help="A task, or all nine and their averages.",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ],
    embeddings: finetuning_options.Embeddings = None,
    model: finetuning_options.TaskModel = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="GLUE's own TSV folders, or a folder that datasets reads. [default: nyu-mll/glue from the hub]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    limit_train: options.LimitTrain = None,
    limit_eval: options.LimitEval = None,
    predict: Annotated[
        bool,
        typer.Option("--predict", help="Write the benchmark's submission files too.", rich_help_panel=options.OUTPUT),
    ] = False,
    train_embeddings: finetuning_options.TrainEmbeddings = "decoder",
    epochs: finetuning_options.Epochs = 3,
    batch_size: finetuning_options.BatchSize = 32,
    gradient_accumulation: finetuning_options.GradientAccumulation = 1,
    learning_rate: finetuning_options.LearningRate = 2e-5,
    warmup: finetuning_options.Warmup = 0,
    weight_decay: finetuning_options.WeightDecay = 0,
    max_length: finetuning_options.MaxLength = 128,
    seed: finetuning_options.Seed = 0,
    seeds: options.Seeds = None,
    precision: finetuning_options.Precision = "float32",
    attention: finetuning_options.Attention = None,
    group_by_length: finetuning_options.GroupByLength = False,
    checkpoint_dir: finetuning_options.CheckpointDir = None,
    save_steps: finetuning_options.SaveSteps = None,
    resume: options.Resume = False,
    keep: finetuning_options.Keep = None,
    log_with: finetuning_options.LogTraining = None,
    device: options.Device = None,
    out: options.RunsFolder = None,
    overwrite: options.OverwriteRun = False,
    force: options.Force = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fine-tune on a GLUE task and score; by default with the paper's settings.

    Example: `orientc glue --task sst2 --embeddings small.safetensors`
    """
    import orientc

    with output.stages(quiet=quiet) as progress:
        found = orientc.glue(
            task,
            embeddings,
            model,
            data=data,
            limit_train=limit_train,
            limit_eval=limit_eval,
            predict=predict,
            train_embeddings=train_embeddings,
            epochs=epochs,
            batch_size=batch_size,
            gradient_accumulation=gradient_accumulation,
            learning_rate=learning_rate,
            warmup=warmup,
            weight_decay=weight_decay,
            max_length=max_length,
            seed=seed,
            seeds=seeds,
            precision=precision,
            attention=attention,
            group_by_length=group_by_length,
            checkpoint_dir=checkpoint_dir,
            save_steps=save_steps,
            resume=resume,
            keep=keep,
            log_with=log_with,
            device=device,
            out=out,
            overwrite=overwrite,
            force=force,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    if as_json:
        output.show_json(found.as_dict())
        return
    finetuned.note_runs(found.runs, keep=keep, quiet=quiet)
    for folder in found.submissions:
        output.note(f"submission files: {folder}", quiet=quiet)
    finetuned.show(
        {f"{name} {figure}": spread for name, figures in found.summary.items() for figure, spread in figures.items()},
        found.runs,
        title="GLUE",
        rows=[(name.replace("_", " "), value) for name, value in found.averages.items()],
    )
