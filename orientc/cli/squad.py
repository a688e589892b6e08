"""`orientc squad`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import finetuned, finetuning_options, options, output
from orientc.comparison.numbers import with_error


def squad(
    embeddings: finetuning_options.Embeddings = None,
    model: finetuning_options.TaskModel = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="train-v1.1.json and dev-v1.1.json, or a folder that datasets reads. "
            "[default: rajpurkar/squad from the hub]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    score: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Score a predictions.json, without any model.",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    limit_train: options.LimitTrain = None,
    limit_eval: options.LimitEval = None,
    train_embeddings: finetuning_options.TrainEmbeddings = "decoder",
    epochs: finetuning_options.Epochs = 3,
    batch_size: finetuning_options.BatchSize = 16,
    gradient_accumulation: finetuning_options.GradientAccumulation = 1,
    learning_rate: finetuning_options.LearningRate = 3e-5,
    warmup: finetuning_options.Warmup = 0,
    weight_decay: finetuning_options.WeightDecay = 0,
    max_length: finetuning_options.MaxLength = 384,
    window_step: Annotated[
        int,
        typer.Option(help="Context tokens from the start of a window to the next.", rich_help_panel=options.EVALUATION),
    ] = 128,
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
    """Fine-tune on SQuAD v1.1 and score by exact match and F1; by default with the paper's settings.

    Example: `orientc squad --embeddings small.safetensors`
    """
    import orientc
    from orientc.evaluation.squad.squad import SquadScore

    with output.stages(quiet=quiet) as progress:
        found = orientc.squad(
            embeddings,
            model,
            data=data,
            score=score,
            limit_train=limit_train,
            limit_eval=limit_eval,
            train_embeddings=train_embeddings,
            epochs=epochs,
            batch_size=batch_size,
            gradient_accumulation=gradient_accumulation,
            learning_rate=learning_rate,
            warmup=warmup,
            weight_decay=weight_decay,
            max_length=max_length,
            window_step=window_step,
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
    if isinstance(found, SquadScore):
        if found.missing:
            output.note(
                f"{found.missing} of {found.questions} questions have no prediction and count as wrong", quiet=quiet
            )
        if found.extra:
            output.note(f"{found.extra} predictions are for questions that are not in the data", quiet=quiet)
    if as_json:
        output.show_json(found.as_dict())
    elif isinstance(found, SquadScore):
        figures = {"exact_match": found.exact_match, "f1": found.f1}
        errors = {name: error["standard_error"] for name, error in found.errors.items()}
        rows = [[name, with_error(f"{value:.4f}", errors.get(name))] for name, value in figures.items()]
        output.show_table(["figure", "value"], rows)
    else:
        finetuned.note_runs(found.runs, keep=keep, quiet=quiet)
        for path in found.predictions:
            output.note(f"predictions: {path}", quiet=quiet)
        finetuned.show(found.summary, found.runs, title="SQuAD v1.1")
