"""Fine-tune on GLUE and score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orientc.errors import UsageError
from orientc.evaluation import finetuning
from orientc.evaluation.configs import FinetuningConfig, check_counts
from orientc.evaluation.finetuning import Benchmark, Run
from orientc.evaluation.glue import data as sets
from orientc.evaluation.glue.averages import averages
from orientc.evaluation.glue.task_benchmark import submission_folder, task_benchmark
from orientc.evaluation.glue.tasks import ALL, TASKS
from orientc.evaluation.setup import Setup
from orientc.evaluation.statistics import Spread
from orientc.models.source import ModelSource
from orientc.utils import distributed, tracking
from orientc.utils.documents import document
from orientc.utils.progress import Progress


@dataclass(frozen=True)
class GlueResult:
    """What `glue` found.

    `runs` has one for each task and seed. `summary` has mean and deviation over the seeds by task and figure, from 0
    to 1; `averages` the benchmark's own over the tasks, where all are there. `submissions` are folders with the files
    that the benchmark's server scores, where they were asked for.
    """

    runs: tuple[Run, ...]
    summary: dict[str, dict[str, Spread]]
    averages: dict[str, float]
    submissions: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        found = {
            "runs": [run.as_dict() for run in self.runs],
            "summary": {
                task: {name: asdict(spread) for name, spread in figures.items()}
                for task, figures in self.summary.items()
            },
            "averages": self.averages,
            "submissions": [str(folder) for folder in self.submissions],
        }
        return document("glue", found)


def glue(
    task: str,
    embeddings: str | Path | None = None,
    model: str | Path | ModelSource | None = None,
    *,
    data: str | Path | None = None,
    limit_train: int | None = None,
    limit_eval: int | None = None,
    predict: bool = False,
    train_embeddings: str = "decoder",
    epochs: float = 3,
    batch_size: int = 32,
    gradient_accumulation: int = 1,
    learning_rate: float = 2e-5,
    warmup: float = 0,
    weight_decay: float = 0,
    max_length: int = 128,
    seed: int = 0,
    seeds: Sequence[int] | str | None = None,
    precision: str = "float32",
    attention: str | None = None,
    group_by_length: bool = False,
    checkpoint_dir: str | Path | None = None,
    save_steps: int | None = None,
    resume: bool = False,
    keep: str | None = None,
    log_with: Sequence[str] | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    force: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> GlueResult:
    """Fine-tune a model on a GLUE task and score it, with an artifact in the place of its table where one is given.

    Args:
        task: "cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", or "all" nine.
        embeddings: Path of the artifact; the model is uncompressed unless given.
        model: Hub id, local folder or "demo"; the artifact's base model unless given, else bert-base-uncased.
        data: Folder with GLUE's own TSV folders, or one that datasets reads; `nyu-mll/glue` unless given.
        limit_train: Train on so many examples, the first after a seeded shuffle.
        limit_eval: Score only so many, the first of each evaluation set.
        predict: Write the benchmark's submission files too.
        train_embeddings, epochs, batch_size, gradient_accumulation, learning_rate, warmup, weight_decay, max_length,
            seed, precision, attention, group_by_length: See `FinetuningConfig`.
        seeds: Several seeds, or text with commas between them, in the place of `seed`.
        checkpoint_dir, save_steps, resume: See `finetuning.run`.
        keep: Fine-tuned models to keep of each task: "none", the "last" seed's or the "best" one's. "none" with several
            seeds, "last" with one unless given.
        log_with: Names of accelerate's trackers that training is logged with.
        device: Name of a device; accelerate picks one unless given.
        out: Runs folder for the records; those of an artifact go beside it unless given.
        overwrite: Run again what was run before.
        force: Go on, with a warning, where the artifact was made from another table.
        revision, allow_pickle, trust_remote_code: See `ModelSource.resolve`.
        progress: Whom to tell how it goes.

    Returns:
        The runs, whose records and models are also written.

    Raises:
        UsageError: For an option no training can use.
        EvaluationError: For a model that can't do the task, unusable data, or training that diverges.
        ModelError, ArtifactError, DeviceError, OutputError: Where one of them can't be had or written.
    """
    if task not in (*TASKS, ALL):
        raise UsageError(f"there is no `task` {task!r}: choose from {', '.join(TASKS)} and {ALL}")
    check_counts(limit_train=limit_train, limit_eval=limit_eval, save_steps=save_steps)
    finetuning.check_keep(keep)
    tracking.check(log_with or ())
    config = FinetuningConfig(
        epochs=epochs,
        batch_size=batch_size,
        gradient_accumulation=gradient_accumulation,
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        max_length=max_length,
        seed=seed,
        train_embeddings=train_embeddings,
        precision=precision,
        attention=attention,
        group_by_length=group_by_length,
    )
    configs = config.with_seeds(seeds)
    setup, subject = finetuning.prepare_finetuning(
        embeddings,
        model,
        force=force,
        device=device,
        out=out,
        overwrite=overwrite,
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )
    limits = finetuning.limits(limit_train, limit_eval, epochs)
    runs: dict[str, list[Run]] = {}
    for name in TASKS if task == ALL else [task]:
        benchmark = glue_benchmark(setup, name, config, data=data, limits=limits, predict=predict)
        runs[name] = finetuning.run_seeds(
            setup,
            subject,
            benchmark,
            configs,
            keep=keep,
            checkpoint_dir=checkpoint_dir,
            save_steps=save_steps,
            resume=resume,
            log_with=log_with or (),
        )
    every = tuple(run for found in runs.values() for run in found)
    summaries = {name: finetuning.summary(found) for name, found in runs.items()}
    means = {name: {figure: spread.mean for figure, spread in found.items()} for name, found in summaries.items()}
    return GlueResult(
        runs=every,
        summary=summaries,
        averages=averages({name: TASKS[name].score(found) for name, found in means.items()}),
        submissions=tuple(sorted({submission_folder(run) for run in every})) if predict else (),
    )


def glue_benchmark(
    setup: Setup,
    task: str,
    config: FinetuningConfig,
    *,
    data: str | Path | None,
    limits: dict[str, int | None],
    predict: bool = False,
) -> Benchmark:
    """Read a task's data and make its benchmark for one model, to be used for each of the model's artifacts in turn.

    Args:
        setup: The model, and how it is evaluated.
        task: The task's name.
        config: How the model is fine-tuned.
        data: As in `glue`.
        limits: `limit_train` and `limit_eval`, as in `finetuning.limits`.
        predict: Write the benchmark's submission files too.

    Raises:
        EvaluationError: Where the model can't do the task, or its data is not to be had.
    """
    folder = None if data is None else Path(data)
    with distributed.main_first():
        loaded = sets.load(TASKS[task], folder, train=config.epochs > 0, **limits)
        tests = sets.load_tests(TASKS[task], folder) if predict else None
    for line in loaded.unusable:
        setup.progress.warn(f"not used: {line}")
    return task_benchmark(setup, TASKS[task], loaded, config, limits=limits, tests=tests)
