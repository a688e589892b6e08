"""Fine-tune a model on a benchmark and score it; the one path GLUE and SQuAD share.

The table is substituted, what of it trains is set, transformers' `Trainer` trains; a killed run goes on from its last
checkpoint. What is left is a record, and beside it a folder of the same name with the history of its training and the
model, where that is to be kept, in the compact form where its table is compressed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import DataCollatorWithPadding, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, Trainer
from transformers.models.auto import modeling_auto

from orientc.errors import EvaluationError, UsageError
from orientc.evaluation import figures
from orientc.evaluation.checkpoints import SUFFIX, Checkpoints
from orientc.evaluation.configs import FinetuningConfig, check_choice, not_default
from orientc.evaluation.option_values import BEST, KEEP, LAST, NONE
from orientc.evaluation.setup import Setup, prepare
from orientc.evaluation.statistics import Spread
from orientc.evaluation.trainer import LogsWith, trainer_for
from orientc.modeling.modules import CompressedTable
from orientc.modeling.table_names import INPUT
from orientc.models import compact, foreign_code
from orientc.models.fingerprint import fingerprint
from orientc.models.resolve import Subject, is_artifact
from orientc.models.source import ModelSource
from orientc.models.substitute import substitute
from orientc.storage import records
from orientc.storage.records import Record
from orientc.storage.sizes import INPUT_ONLY
from orientc.utils import distributed
from orientc.utils.documents import document
from orientc.utils.files import check_writable, strict_json, write_json
from orientc.utils.folders import check_place, remove_others, write_folder
from orientc.utils.logging import quietly
from orientc.utils.progress import Progress
from orientc.utils.tracking import trackers

HISTORY = "training.json"
LOGS_SUFFIX = ".logs"
DEFAULT_MODEL = "bert-base-uncased"

Outputs = Any  # what a model gives for all examples of a set: one array `[examples, …]`, or a tuple of them


@dataclass(frozen=True)
class Benchmark:
    """One benchmark for one model: data sets, metric function, writers.

    Args:
        kind: The record's kind: "glue" or "squad".
        auto_class: The transformers auto class that puts the task's head on top.
        data: The record's `data`.
        configure: Tells a configuration of the task's labels.
        train: Makes the training examples: a list or data set of features for a padding collator.
        evaluation: The examples to score, by name, as `train` gives them.
        metrics: Makes the record's figures of the outputs, by the same names.
        blocks: Makes what their errors are computed from, as a record has it, of the outputs.
        score: What a run is worth by its figures, in one number, the larger the better.
        write: Leaves further files of a run. It is handed a function that runs the model over other examples, and is
            called in every process.
        written: Whether the files that `write` leaves are there already.
        files: Names of the files that `write` leaves in the run's folder.
    """

    kind: str
    auto_class: Any
    data: dict[str, Any]
    configure: Callable[[PreTrainedConfig], object]
    train: Callable[[], Any]
    evaluation: Mapping[str, Any]
    metrics: Callable[[dict[str, Outputs]], dict[str, float]]
    blocks: Callable[[dict[str, Outputs]], dict[str, list[float]]]
    score: Callable[[Mapping[str, float]], float]
    write: Callable[[Run, Callable[[str, Any], Outputs]], None] = lambda *_: None
    written: Callable[[Run], bool] = lambda _run: True
    files: Sequence[str] = ()


@dataclass(frozen=True)
class Run:
    """A fine-tuning run: its record, and the file that holds it. `fresh` is false where it was done before."""

    record: Record
    path: Path
    fresh: bool = True

    @property
    def folder(self) -> Path:
        """What else the run leaves: the history of its training, the benchmark's own files, the model if it is kept."""
        return self.path.with_suffix("")

    @property
    def model(self) -> Path | None:
        """The folder with the fine-tuned model, where one was trained and kept."""
        return self.folder if _has_model(self.folder) else None

    def as_dict(self) -> dict[str, Any]:
        """The run as JSON: its record, and where that and the model lie."""
        return {
            "path": str(self.path),
            "model": str(self.model) if self.model else None,
            "fresh": self.fresh,
            "record": self.record.as_dict(),
        }


def summary(runs: Sequence[Run]) -> dict[str, Spread]:
    """Mean and deviation of each figure, over runs that differ in their seed alone."""
    return {name: Spread.of([run.record.metrics[name] for run in runs]) for name in runs[0].record.metrics}


def prepare_finetuning(
    embeddings: str | Path | None, model: str | Path | ModelSource | None, **options: Any
) -> tuple[Setup, Subject]:
    """Find the model, by default BERT, and the artifact to put into it; `options` are those of `prepare`.

    Raises `UsageError` for embeddings that are no artifact, else as `prepare` does.
    """
    if embeddings is None:
        setup, subject = prepare(DEFAULT_MODEL if model is None else model, model=None, **options)
    elif is_artifact(str(embeddings)):
        setup, subject = prepare(embeddings, model=model, **options)
    else:
        raise UsageError(f"`embeddings` takes an artifact, which ends in .safetensors, not {embeddings}")
    if other := [table for table in subject.tables if table != INPUT]:
        raise UsageError(f"fine-tuning takes an artifact of the table that tokens are looked up in, not of {other[0]}")
    check_writable(setup.folder)
    return setup, subject


def has_head(source: ModelSource, auto_class: Any) -> bool:
    """Whether the checkpoint was saved with the head that `auto_class` puts on top."""
    named: str = source.architecture.__name__
    return named == source.class_for(auto_class).__name__


def is_classifier(source: ModelSource) -> bool:
    """Whether the checkpoint was saved with a head for whole texts, which gives them classes or a score."""
    own: str = source.architecture.__name__
    return own in modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values()


def fitting_length(source: ModelSource, wanted: int, progress: Progress) -> int:
    """`wanted` tokens, or fewer where the model has no positions for so many; says so then."""
    possible: int = min(wanted, source.longest)
    if possible < wanted:
        progress.warn(f"{source.id} takes {possible} tokens at most: `max_length` {wanted} is cut to that")
    return possible


def run_seeds(
    setup: Setup,
    subject: Subject,
    benchmark: Benchmark,
    configs: Sequence[FinetuningConfig],
    *,
    keep: str | None = None,
    **options: Any,
) -> list[Run]:
    """Fine-tune and score once for each of several configs, which differ in their seed alone.

    Args:
        setup: The model, and how it is evaluated.
        subject: The same model with the artifact to put in, or without one.
        benchmark: What it is trained and scored on.
        configs: How.
        keep: Which fine-tuned model stays: "none", the "last" config's, or the "best" one's by `benchmark.score`; the
            figures are over all seeds in any case. "none" with several configs, "last" with one unless given. A model
            of an earlier call stays where it is, except that "best" leaves one of all these.
        options: Those of `run`.

    Raises:
        What `run` does.
    """
    keep = keep or (LAST if len(configs) == 1 else NONE)
    found: list[Run] = []
    for number, config in enumerate(configs, 1):
        kept = keep == BEST or (keep == LAST and number == len(configs))
        found.append(run(setup, subject, benchmark, config, keep_model=kept, **options))
        if keep == BEST and distributed.is_main():
            best = max(found, key=lambda each: benchmark.score(each.record.metrics))
            for other in found:
                if other is not best and other.model:
                    remove_others(other.folder, [HISTORY, *benchmark.files])
    return found


def check_keep(keep: str | None) -> None:
    """Raise `UsageError` for a `keep` that `run_seeds` doesn't know."""
    if keep is not None:
        check_choice("keep", keep, KEEP)


@quietly()
def run(
    setup: Setup,
    subject: Subject,
    benchmark: Benchmark,
    config: FinetuningConfig,
    *,
    checkpoint_dir: str | Path | None = None,
    save_steps: int | None = None,
    resume: bool = False,
    log_with: Sequence[str] = (),
    keep_model: bool = True,
) -> Run:
    """Fine-tune and score; the record is written into `setup.folder`, the model beside it.

    A run that is done already, by the same versions, is not done again unless `setup.overwrite`.

    Args:
        setup: The model, and how it is evaluated.
        subject: The same model with the artifact to put in, or without one.
        benchmark: What it is trained and scored on.
        config: How.
        checkpoint_dir: Folder for checkpoints while training; beside the record unless given.
        save_steps: Optimizer steps from one checkpoint to the next; an epoch unless given.
        resume: Go on from the last checkpoint of an interrupted run.
        log_with: Names of accelerate's trackers that training is logged with, in a folder beside the record.
        keep_model: Whether the fine-tuned model is kept.

    Raises:
        ArtifactMismatchError: For an artifact of another table, unless `setup.force`.
        OutputError: Where checkpoints are in the way (see `Checkpoints.last`), or files that orientc did not write.
        EvaluationError: Where training diverges.
    """
    source, folder, progress, overwrite = setup.source, setup.folder, setup.progress, setup.overwrite
    new_head = not has_head(source, benchmark.auto_class)
    settings = config.recorded(new_head=new_head)
    # the model of a task has no language-model head
    record = setup.record(
        benchmark.kind,
        subject,
        head=INPUT_ONLY,
        settings=settings,
        data=benchmark.data,
        chosen=_chosen(settings, config, benchmark),
    )
    this = Run(record, folder / record.file_name)
    done = distributed.from_main(lambda: None if overwrite else records.reusable(record, folder))
    if done and distributed.from_main(lambda: benchmark.written(this)):
        return Run(done, this.path, fresh=False)
    start = time.perf_counter()
    identity = strict_json(record.identity)
    place = Path(checkpoint_dir or this.folder.with_name(this.folder.name + SUFFIX))
    if checkpoint_dir:
        check_writable(place)
    checkpoints = Checkpoints(place, identity)

    def trainer(model: PreTrainedModel, train: Any = None) -> Trainer:
        collate = DataCollatorWithPadding(source.tokenizer)
        return trainer_for(
            model,
            collate,
            config,
            checkpoints,
            device=setup.device,
            train=train,
            save_steps=save_steps,
            progress=progress,
        )

    train = bool(config.epochs) and (overwrite or not distributed.from_main(lambda: _trained(this.folder, identity)))
    last = None
    if train:
        distributed.from_main(lambda: check_place(this.folder, overwrite=True))
        last = distributed.from_main(lambda: checkpoints.last(resume=resume, overwrite=overwrite))
        ready = trainer(_loaded(setup, subject, benchmark, config, new_head=new_head), benchmark.train())
    elif config.epochs:
        saved = ModelSource.resolve(str(this.folder))
        ready = trainer(saved.load(benchmark.auto_class, dtype=torch.float32, attention=config.attention))
    else:
        if new_head:
            progress.warn(f"{source.id} has no head for this task: a random one is scored, nothing is trained")
        ready = trainer(_loaded(setup, subject, benchmark, config, new_head=new_head))

    def outputs(name: str, examples: Any) -> Outputs:
        progress.stage(f"scoring {name}".rstrip(), -(-len(examples) // config.batch_size))
        found = ready.predict(examples).predictions
        if not all(np.isfinite(array).all() for array in (found if isinstance(found, tuple) else (found,))):
            raise EvaluationError(
                "the model gives numbers that are not finite: training diverged; try a smaller `learning_rate`"
            )
        return found

    logged = {name: value for name, value in (settings | benchmark.data).items() if value is not None}
    with trackers(list(log_with), this.folder.with_name(this.folder.name + LOGS_SUFFIX), logged) as track:
        if train:
            ready.add_callback(LogsWith(track))
            if distributed.is_main():
                if last is None:
                    checkpoints.clear(others=True)
                checkpoints.begin()
            ready.train(resume_from_checkpoint=str(last) if last else None)
            history = document("training", {"run": identity, "log": ready.state.log_history})
            if distributed.is_main():
                _save(ready.model if keep_model else None, source.tokenizer, history, this.folder)
        scored = {name: outputs(name, examples) for name, examples in benchmark.evaluation.items()}
        metrics, blocks = benchmark.metrics(scored), benchmark.blocks(scored)
        track(ready.state.global_step, metrics)
    benchmark.write(this, outputs)
    there = config.epochs and keep_model
    trained = distributed.from_main(lambda: fingerprint(ModelSource.resolve(this.folder))) if there else None
    record = replace(
        record,
        metrics=metrics,
        blocks=blocks,
        errors=figures.errors(metrics, blocks),
        seconds=round(time.perf_counter() - start, 3),
        finetuned=trained,
    )
    if distributed.is_main():
        checkpoints.clear()  # first: with a record there is nothing left to do, also not that
        records.write(record, folder)
    distributed.wait()
    return Run(record, this.path)


def _chosen(settings: dict[str, Any], config: FinetuningConfig, benchmark: Benchmark) -> dict[str, Any]:
    """What is not as it is by default; the seed alone is not told, for over seeds a figure is a mean."""
    cut = {name: value for name, value in benchmark.data.items() if name.startswith("limit_") and value is not None}
    own = not_default(settings, type(config)().recorded(new_head=True))
    return cut | {name: value for name, value in own.items() if name != "seed"}


def limits(limit_train: int | None, limit_eval: int | None, epochs: float) -> dict[str, int | None]:
    """How much of the data is used, as records say it; where nothing trains, a limit on training says nothing."""
    return {"limit_train": limit_train if epochs else None, "limit_eval": limit_eval}


def train_only(model: PreTrainedModel, train_embeddings: str) -> None:
    """Let all of a model train except of its table what `train_embeddings` leaves out."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # codes and ids can't
    for module in model.modules():
        if isinstance(module, CompressedTable):
            for name, parameter in module.factors.tensors.items():
                chosen = ("all", "decoder") if name.startswith("decoder.") else ("all",)
                parameter.requires_grad_(train_embeddings in chosen and parameter.is_floating_point())
    table = model.get_input_embeddings()
    if not isinstance(table, CompressedTable):
        table.weight.requires_grad_(train_embeddings == "all")


def _loaded(
    setup: Setup, subject: Subject, benchmark: Benchmark, config: FinetuningConfig, *, new_head: bool
) -> PreTrainedModel:
    """The model to train or score: a new head drawn by the seed, the table substituted, what trains set."""
    transformers.set_seed(config.seed)
    model = subject.source.load(
        benchmark.auto_class,
        dtype=torch.float32,
        new_head=new_head or config.epochs > 0,
        configure=benchmark.configure,
        attention=config.attention,
    )
    setup.check_unchanged()
    model.config.get_text_config().pad_token_id = subject.source.tokenizer.pad_token_id
    if subject.artifacts:
        substitute(model, subject.artifacts, INPUT_ONLY)
    train_only(model, config.train_embeddings)
    return model


def _save(model: Any | None, tokenizer: PreTrainedTokenizerBase, history: dict[str, Any], folder: Path) -> None:
    """Write a run's folder: the history of its training, and the model and its tokenizer unless that is None."""

    def fill(target: Path) -> None:
        if model is not None:
            compact.save(model, target, INPUT_ONLY)
            tokenizer.save_pretrained(target)
            if not foreign_code.is_foreign(type(model.config)):
                foreign_code.strip(target)
        write_json(target / HISTORY, history)

    write_folder(folder, fill, overwrite=True)


def _has_model(folder: Path) -> bool:
    return (folder / HISTORY).is_file() and (folder / records.MODEL_CONFIG).is_file()


def _trained(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether the model this run would train is there, whole: a folder appears only when all is in it."""
    try:
        found = json.loads((folder / HISTORY).read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(found == identity) and _has_model(folder)
