"""`orientc glue`"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import finetuned, options, output

if TYPE_CHECKING:
    from orientc.evaluation.finetuning import Run


class Task(StrEnum):
    """GLUE's tasks."""

    cola = "cola"
    sst2 = "sst2"
    mrpc = "mrpc"
    stsb = "stsb"
    qqp = "qqp"
    mnli = "mnli"
    qnli = "qnli"
    rte = "rte"
    wnli = "wnli"
    all = "all"


def glue(
    task: Annotated[Task, typer.Option(help="A task, or all nine and their averages.", show_default=False)],
    embeddings: options.Embeddings = None,
    model: options.TaskModel = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="GLUE's own TSV folders, or a folder that datasets reads. [default: nyu-mll/glue from the hub]",
            show_default=False,
        ),
    ] = None,
    limit_train: options.LimitTrain = None,
    limit_eval: options.LimitEval = None,
    predict: Annotated[bool, typer.Option("--predict", help="Write the benchmark's submission files too.")] = False,
    train_embeddings: options.TrainEmbeddings = "decoder",
    epochs: options.Epochs = 3,
    batch_size: options.BatchSize = 32,
    gradient_accumulation: options.GradientAccumulation = 1,
    learning_rate: options.LearningRate = 2e-5,
    warmup: options.Warmup = 0,
    weight_decay: options.WeightDecay = 0,
    max_length: options.MaxLength = 128,
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
    """Fine-tune on a GLUE task and score; by default with the paper's settings.

    Example: `orientc glue --task sst2 --embeddings runs/bert-base-uncased/svd-r128-1f0c4a2b.safetensors`
    """
    from orientc.evaluation import finetuning
    from orientc.evaluation.glue import data as sets
    from orientc.evaluation.glue import evaluate
    from orientc.evaluation.glue.tasks import TASKS, averages
    from orientc.utils import distributed

    every = [
        finetuning.Settings(
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
    runs: dict[str, list[Run]] = {}
    with output.stages(quiet=quiet) as progress:
        for name in TASKS if task is Task.all else [task.value]:
            with distributed.main_first():
                loaded = sets.load(TASKS[name], data, train=epochs > 0, **limits)
                tests = sets.load_tests(TASKS[name], data) if predict else None
            for line in loaded.unusable:
                progress.warn(f"not used: {line}")
            for settings in every:
                work = evaluate.work(
                    setup.subject, TASKS[name], loaded, settings, limits=limits, tests=tests, progress=progress
                )
                runs.setdefault(name, []).append(setup.run(work, settings, progress))
    summaries = {name: finetuned.summary(done) for name, done in runs.items()}
    averaged = averages(
        {
            name: TASKS[name].score({figure: spread.mean for figure, spread in summary.items()})
            for name, summary in summaries.items()
        }
    )
    flat = [entry for done in runs.values() for entry in done]
    submissions = sorted({str(evaluate.submission_folder(entry)) for entry in flat}) if predict else []
    if as_json:
        output.show_json(
            {
                "runs": [finetuned.as_dict(entry) for entry in flat],
                "summary": {
                    name: {figure: vars(spread) for figure, spread in summary.items()}
                    for name, summary in summaries.items()
                },
                "averages": averaged,
                "submissions": submissions,
            }
        )
        return
    finetuned.note_runs(flat, quiet=quiet)
    for submission in submissions:
        output.note(f"submission files: {submission}", quiet=quiet)
    finetuned.show(
        {f"{name} {figure}": spread for name, summary in summaries.items() for figure, spread in summary.items()},
        flat,
        title="GLUE",
        rows=[(name.replace("_", " "), value) for name, value in averaged.items()],
    )
