"""`orientc squad`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import finetuned, options, output


def squad(
    embeddings: options.Embeddings = None,
    model: options.TaskModel = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="train-v1.1.json and dev-v1.1.json, or a folder that datasets reads. "
            "[default: rajpurkar/squad from the hub]",
            show_default=False,
        ),
    ] = None,
    score: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Score a predictions.json, without any model.", show_default=False),
    ] = None,
    limit_train: options.LimitTrain = None,
    limit_eval: options.LimitEval = None,
    train_embeddings: options.TrainEmbeddings = "decoder",
    epochs: options.Epochs = 3,
    batch_size: options.BatchSize = 16,
    gradient_accumulation: options.GradientAccumulation = 1,
    learning_rate: options.LearningRate = 3e-5,
    warmup: options.Warmup = 0,
    weight_decay: options.WeightDecay = 0,
    max_length: options.MaxLength = 384,
    window_step: Annotated[int, typer.Option(help="Context tokens from the start of a window to the next.")] = 128,
    seed: options.Seed = 0,
    seeds: options.Seeds = None,
    precision: options.Precision = "float32",
    attention: options.Attention = None,
    group_by_length: options.GroupByLength = False,
    checkpoint_dir: options.CheckpointDir = None,
    save_steps: options.SaveSteps = None,
    resume: options.Resume = False,
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

    Example: `orientc squad --embeddings runs/bert-base-uncased/svd-r128-1f0c4a2b.safetensors`
    """
    from orientc.errors import UsageError
    from orientc.evaluation import finetuning
    from orientc.evaluation.squad import data as sets
    from orientc.utils import distributed

    if score is not None:
        if embeddings or model:
            raise UsageError("--score takes a file of predictions and no model: leave --embeddings and --model out")
        _score(score, data, limit_eval, as_json=as_json, quiet=quiet)
        return

    from orientc.evaluation.squad import evaluate

    every = [
        evaluate.Settings(
            seed=number,
            epochs=epochs,
            batch_size=batch_size,
            gradient_accumulation=gradient_accumulation,
            learning_rate=learning_rate,
            warmup=warmup,
            weight_decay=weight_decay,
            max_length=max_length,
            train_embeddings=train_embeddings,
            precision=precision,
            attention=attention,
            group_by_length=group_by_length,
            window_step=window_step,
        )
        for number in finetuned.seeds(seed, seeds)
    ]
    setup = finetuned.prepare(
        embeddings,
        model,
        device=device,
        out=out,
        options={
            "checkpoint_dir": checkpoint_dir,
            "save_steps": save_steps,
            "resume": resume,
            "overwrite": overwrite,
            "force": force,
        },
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
    limits = finetuning.limits(limit_train, limit_eval, epochs)
    with output.stages(quiet=quiet) as progress:
        with distributed.main_first():
            loaded = sets.load(data, train=epochs > 0, **limits)
        if loaded.unusable:
            progress.warn(
                f"not used: {len(loaded.unusable)} training questions whose answer is not where it should start, "
                f"{loaded.unusable[0]} the first"
            )
        runs = [
            setup.run(
                evaluate.work(setup.subject, loaded, settings, limits=limits, progress=progress), settings, progress
            )
            for settings in every
        ]
    predictions = [str(entry.folder / evaluate.PREDICTIONS) for entry in runs]
    figures = finetuned.summary(runs)
    if as_json:
        output.show_json(
            {
                "runs": [finetuned.as_dict(entry) for entry in runs],
                "summary": {name: vars(spread) for name, spread in figures.items()},
                "predictions": predictions,
            }
        )
        return
    finetuned.note_runs(runs, quiet=quiet)
    for path in predictions:
        output.note(f"predictions: {path}", quiet=quiet)
    finetuned.show(figures, runs, title="SQuAD v1.1")


def _score(predictions: Path, data: Path | None, limit: int | None, *, as_json: bool, quiet: bool) -> None:
    from orientc.evaluation.squad import data as sets
    from orientc.evaluation.squad import metrics

    given = metrics.read_predictions(predictions)
    golds = {asked.id: asked.answers for asked in sets.load(data, limit_eval=limit, train=False).evaluation}
    missing, extra = metrics.differences(golds, given)
    if missing:
        output.note(f"{missing} of {len(golds)} questions have no prediction and count as wrong", quiet=quiet)
    if extra:
        output.note(f"{extra} predictions are for questions that are not in the data", quiet=quiet)
    figures = metrics.score(golds, given)
    if as_json:
        output.show_json(figures | {"questions": len(golds), "missing": missing, "extra": extra})
        return
    output.show_table(["figure", "value"], [[name, f"{value:.4f}"] for name, value in figures.items()])
