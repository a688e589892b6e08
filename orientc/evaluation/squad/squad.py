"""Fine-tune on SQuAD v1.1 and score, or score a file of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orientc.errors import UsageError
from orientc.evaluation import figures
from orientc.evaluation.configs import SquadConfig, check_counts
from orientc.evaluation.squad import data as sets
from orientc.evaluation.squad import metrics
from orientc.utils import distributed, tracking
from orientc.utils.documents import document
from orientc.utils.progress import Progress

if TYPE_CHECKING:  # a file of predictions is scored without torch
    from orientc.evaluation.finetuning import Benchmark, Run
    from orientc.evaluation.setup import Setup
    from orientc.evaluation.statistics import Spread
    from orientc.models.source import ModelSource


@dataclass(frozen=True)
class SquadResult:
    """What `squad` found: a run for each seed, mean and deviation of each figure in percent, files of predictions."""

    runs: tuple[Run, ...]
    summary: dict[str, Spread]
    predictions: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        found = {
            "runs": [run.as_dict() for run in self.runs],
            "summary": {name: asdict(spread) for name, spread in self.summary.items()},
            "predictions": [str(path) for path in self.predictions],
        }
        return document("squad", found)


@dataclass(frozen=True)
class SquadScore:
    """What a file of predictions is worth.

    `exact_match` and `f1` are in percent, over all `questions`; `errors` are theirs, as in a `Record`. `missing` of
    the questions have no prediction and count as wrong; `extra` predictions are for questions that are not in the data.
    """

    exact_match: float
    f1: float
    questions: int
    missing: int
    extra: int
    errors: dict[str, dict[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        return document("squad-score", asdict(self))


def squad(
    embeddings: str | Path | None = None,
    model: str | Path | ModelSource | None = None,
    *,
    data: str | Path | None = None,
    score: str | Path | None = None,
    limit_train: int | None = None,
    limit_eval: int | None = None,
    train_embeddings: str = "decoder",
    epochs: float = 3,
    batch_size: int = 16,
    gradient_accumulation: int = 1,
    learning_rate: float = 3e-5,
    warmup: float = 0,
    weight_decay: float = 0,
    max_length: int = 384,
    window_step: int = 128,
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
) -> SquadResult | SquadScore:
    """Fine-tune a model on SQuAD v1.1 and score it, with an artifact in the place of its table where one is given.

    Args:
        embeddings: Path of the artifact; the model is uncompressed unless given.
        model: Hub id, local folder or "demo"; the artifact's base model unless given, else bert-base-uncased.
        data: Folder with train-v1.1.json and dev-v1.1.json, or one that datasets reads; `rajpurkar/squad` unless given.
        score: Score this file of predictions, a JSON object from question ids to answers, without any model.
        limit_train: Train on so many questions, the first after a seeded shuffle.
        limit_eval: Score only so many, the first.
        train_embeddings, epochs, batch_size, gradient_accumulation, learning_rate, warmup, weight_decay, max_length,
            window_step, seed, precision, attention, group_by_length: See `SquadConfig`.
        seeds: Several seeds, or text with commas between them, in the place of `seed`.
        checkpoint_dir, save_steps, resume: See `finetuning.run`.
        keep: Fine-tuned models to keep: "none", the "last" seed's or the "best" one's. "none" with several seeds,
            "last" with one unless given.
        log_with: Names of accelerate's trackers that training is logged with.
        device: Name of a device; accelerate picks one unless given.
        out: Runs folder for the records; those of an artifact go beside it unless given.
        overwrite: Run again what was run before.
        force: Go on, with a warning, where the artifact was made from another table.
        revision, allow_pickle, trust_remote_code: See `ModelSource.resolve`.
        progress: Whom to tell how it goes.

    Returns:
        The runs, whose records, models and predictions are also written; with `score` what that file is worth.

    Raises:
        UsageError: For an option no training can use, or `score` and a model.
        EvaluationError: For a model that can't do the task, unusable data, or training that diverges.
        ModelError, ArtifactError, DeviceError, OutputError: Where one of them can't be had or written.
    """
    check_counts(limit_train=limit_train, limit_eval=limit_eval, save_steps=save_steps)
    config = SquadConfig(
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
        window_step=window_step,
    )
    if score is not None:
        if embeddings or model:
            raise UsageError("`score` takes a file of predictions and no model: leave `embeddings` and `model` out")
        given = {
            "limit_train": limit_train, "seeds": seeds, "checkpoint_dir": checkpoint_dir, "save_steps": save_steps,
            "resume": resume, "keep": keep, "log_with": log_with, "device": device, "out": out, "overwrite": overwrite,
            "force": force, "revision": revision, "allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code,
        }  # fmt: skip
        unused = [name for name, value in given.items() if value not in (None, False)]
        unused += [name for name, value in asdict(config).items() if value != getattr(SquadConfig, name)]
        if unused:
            raise UsageError(f"`score` and `{unused[0]}` exclude each other: no model is run")
        return _scored(Path(score), data, limit_eval)

    from orientc.evaluation import finetuning
    from orientc.evaluation.squad.task_benchmark import PREDICTIONS

    finetuning.check_keep(keep)
    tracking.check(log_with or ())
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
    benchmark = squad_benchmark(setup, config, data=data, limits=limits)
    found = finetuning.run_seeds(
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
    runs = tuple(found)
    return SquadResult(runs, finetuning.summary(runs), tuple(run.folder / PREDICTIONS for run in runs))


def squad_benchmark(
    setup: Setup, config: SquadConfig, *, data: str | Path | None, limits: dict[str, int | None]
) -> Benchmark:
    """Read SQuAD and make its benchmark for one model, to be used for each of the model's artifacts in turn.

    Args:
        setup: The model, and how it is evaluated.
        config: How the model is fine-tuned.
        data: As in `squad`.
        limits: `limit_train` and `limit_eval`, as in `finetuning.limits`.

    Raises:
        EvaluationError: Where the model can't do the task, or the data is not to be had.
    """
    from orientc.evaluation.squad.task_benchmark import questions_benchmark

    with distributed.main_first():
        loaded = sets.load(None if data is None else Path(data), train=config.epochs > 0, **limits)
    if loaded.unusable:
        setup.progress.warn(
            f"not used: {len(loaded.unusable)} training questions whose answer is not where it should start, "
            f"{loaded.unusable[0]} the first"
        )
    return questions_benchmark(setup, loaded, config, limits=limits)


def _scored(predictions: Path, data: str | Path | None, limit: int | None) -> SquadScore:
    """The figures of a file of predictions."""
    given = metrics.read_predictions(predictions)
    loaded = sets.load(None if data is None else Path(data), limit_eval=limit, train=False)
    golds = {asked.id: asked.answers for asked in loaded.evaluation}
    missing, extra = metrics.differences(golds, given)
    found = metrics.score(golds, given)
    errors = figures.errors(found, metrics.blocks(loaded.evaluation, given))
    return SquadScore(**found, questions=len(golds), missing=missing, extra=extra, errors=errors)
