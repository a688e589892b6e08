"""Fine-tune a model on a labelled task and score it; the one path GLUE and SQuAD share.

The table is substituted, what of it trains is set, transformers' `Trainer` trains; a killed run goes on from its last
checkpoint. What is left is a record, and beside it a folder of the same name with the model, in the compact form
where its table is compressed, and the history of its training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import DataCollatorWithPadding, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, Trainer

from orientc.errors import EvaluationError, UsageError
from orientc.evaluation.checkpoints import SUFFIX, Checkpoints
from orientc.evaluation.choices import TRAIN_EMBEDDINGS
from orientc.evaluation.subjects import base_table, described_artifact, described_model
from orientc.evaluation.trainer import trainer_for
from orientc.modeling.modules import CompressedTable
from orientc.models import compact
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource, usable_positions
from orientc.models.substitute import substitute
from orientc.storage import records
from orientc.storage.records import Record
from orientc.storage.sizes import UNTIED
from orientc.utils import distributed
from orientc.utils.files import check_writable, strict_json, write_folder, write_json
from orientc.utils.logging import quietly
from orientc.utils.progress import Progress
from orientc.utils.versions import versions

HISTORY = "training.json"

Outputs = Any  # what a model gives for all examples of a set: one array `[examples, …]`, or a tuple of them


@dataclass(frozen=True)
class Settings:
    """How a model is fine-tuned; the defaults are the paper's for GLUE.

    `batch_size` examples go in at a time, over all processes together, and a step takes `gradient_accumulation` of
    such batches. `warmup` is a share of all steps. `train_embeddings` says what of the table trains: "decoder"
    (what comes after the latents; nothing of an uncompressed table), "all" or "none". `precision` is the type the
    model computes in, its weights stay float32. `attention` is the name of one of transformers' implementations.
    `group_by_length` makes batches of examples of like length: less padding, and another order.
    """

    epochs: float = 3.0
    batch_size: int = 32
    gradient_accumulation: int = 1
    learning_rate: float = 2e-5
    warmup: float = 0.0
    weight_decay: float = 0.0
    max_length: int = 128
    seed: int = 0
    train_embeddings: str = "decoder"
    precision: str = "float32"
    attention: str | None = None
    group_by_length: bool = False

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value no training can use."""
        for name in ("batch_size", "gradient_accumulation", "max_length"):
            if not 1 <= getattr(self, name) < 2**31:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.epochs < float("inf"):
            raise UsageError(f"--epochs must be 0 (score only) or more, not {self.epochs}")
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"--learning-rate must be above 0, not {self.learning_rate}")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"--warmup is a share of all steps, from 0 to below 1, not {self.warmup}")
        if not 0 <= self.weight_decay < float("inf"):
            raise UsageError(f"--weight-decay must be 0 or more, not {self.weight_decay}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"a seed must be from 0 to below 2³², not {self.seed}")
        if self.train_embeddings not in TRAIN_EMBEDDINGS:
            raise UsageError(f"--train-embeddings must be one of {', '.join(TRAIN_EMBEDDINGS)}")

    def recorded(self, *, new_head: bool) -> dict[str, Any]:
        """What a record keeps: what the figures depend on."""
        values = asdict(self)
        if self.epochs:
            return values
        used = ("epochs", "max_length", "precision", "attention", *(["seed"] if new_head else []))
        return {name: value for name, value in values.items() if name in used or name not in _SHARED}


_SHARED = frozenset(Settings.__dataclass_fields__)


@dataclass(frozen=True)
class Work:
    """What a benchmark brings: its data as the model takes it, and what the model's outputs are worth.

    `data` is the record's. `configure` tells a configuration of the labels. `train` makes the training examples,
    `evaluation` holds those to score, by name; both are lists or data sets of features for a padding collator.
    `metrics` makes the record's figures of the outputs. `write` leaves files of a run and is handed a function that
    runs the model over further examples, for which it is called in every process; `written` says whether the files
    are there already.
    """

    kind: str
    auto_class: Any
    data: dict[str, Any]
    configure: Callable[[PreTrainedConfig], object]
    train: Callable[[], Any]
    evaluation: Mapping[str, Any]
    metrics: Callable[[dict[str, Outputs]], dict[str, float]]
    write: Callable[[Run, Callable[[str, Any], Outputs]], None] = lambda *_: None
    written: Callable[[Run], bool] = lambda _run: True


@dataclass(frozen=True)
class Run:
    """A fine-tuning run: its record, and the file that holds it. `fresh` is false where it was done before."""

    record: Record
    path: Path
    fresh: bool = True

    @property
    def folder(self) -> Path:
        """What else the run leaves: the fine-tuned model, the history of its training, the benchmark's own files."""
        return self.path.with_suffix("")


def has_head(source: ModelSource, auto_class: Any) -> bool:
    """Whether the checkpoint was saved with the head that `auto_class` puts on top."""
    return type(source.skeleton).__name__ == source.class_for(auto_class).__name__


def tokenizer_for(source: ModelSource) -> PreTrainedTokenizerBase:
    """The model's tokenizer, padding on the right, and with the end of text where it has no token for that.

    Raises `ModelError` or `EvaluationError` where there is none that can be used.
    """
    tokenizer = source.tokenizer
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise EvaluationError(f"the tokenizer of {source.id} has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def fitting_length(source: ModelSource, wanted: int, progress: Progress) -> int:
    """`wanted` tokens, or fewer where the model has no positions for so many; says so then."""
    positions = usable_positions(source.skeleton)
    possible: int = min(wanted, source.tokenizer.model_max_length, positions or wanted)
    if possible < wanted:
        progress.warn(f"{source.id} takes {possible} tokens at most: --max-length {wanted} is cut to that")
    return possible


@quietly()
def run(
    subject: Subject,
    work: Work,
    settings: Settings,
    *,
    folder: Path,
    device: torch.device,
    checkpoint_dir: Path | None = None,
    save_steps: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Fine-tune and score; the record is written into `folder`, the model beside it.

    A run that is done already, by the same versions, is not done again unless `overwrite`. Raises
    `ArtifactMismatchError` for an artifact of another table unless `force`, `OutputError` where checkpoints are in
    the way (see `Checkpoints.last`), and `EvaluationError` where training diverges.
    """
    progress = progress or Progress()
    source, artifact = subject.source, subject.artifact
    info = base_table(source, artifact, force=force, progress=progress)
    new_head = not has_head(source, work.auto_class)
    record = Record(
        kind=work.kind,
        model=described_model(source, info),
        artifact=described_artifact(subject.path, artifact) if subject.path and artifact else None,
        head=UNTIED,  # a task's model has no language-model head
        settings=settings.recorded(new_head=new_head),
        data=work.data,
        metrics={},
        seconds=0.0,
        versions=versions(),
    )
    this = Run(record, folder / record.file_name)
    done = distributed.from_main(lambda: None if overwrite else records.reusable(record, folder))
    if done and distributed.from_main(lambda: work.written(this)):
        return Run(done, this.path, fresh=False)
    start = time.perf_counter()
    identity = strict_json({"identity": record.identity, "versions": record.versions})
    checkpoints = Checkpoints(checkpoint_dir or this.folder.with_name(this.folder.name + SUFFIX), identity)

    def trainer(model: PreTrainedModel, train: Any = None) -> Trainer:
        collate = DataCollatorWithPadding(source.tokenizer)
        return trainer_for(
            model, collate, settings, checkpoints, device=device, train=train, save_steps=save_steps, progress=progress
        )

    if settings.epochs and (overwrite or not distributed.from_main(lambda: _trained(this.folder, identity))):
        last = distributed.from_main(lambda: checkpoints.last(resume=resume, overwrite=overwrite))
        ready = trainer(_prepared(subject, work, settings, new_head=new_head), work.train())
        if distributed.is_main():
            if last is None:
                checkpoints.clear(others=True)
            check_writable(checkpoints.folder)
        ready.train(resume_from_checkpoint=str(last) if last else None)
        history = {"run": identity, "log": ready.state.log_history}
        if distributed.is_main():
            _save(ready.model, source.tokenizer, history, this.folder)
    elif settings.epochs:
        saved = ModelSource.resolve(str(this.folder))
        ready = trainer(saved.load(work.auto_class, dtype=torch.float32, attention=settings.attention))
    else:
        if new_head:
            progress.warn(f"{source.id} has no head for this task: a random one is scored, nothing is trained")
        ready = trainer(_prepared(subject, work, settings, new_head=new_head))

    def outputs(name: str, examples: Any) -> Outputs:
        progress.stage(f"scoring {name}".rstrip(), -(-len(examples) // settings.batch_size))
        found = ready.predict(examples).predictions
        if not all(np.isfinite(array).all() for array in (found if isinstance(found, tuple) else (found,))):
            raise EvaluationError(
                "the model gives numbers that are not finite: training diverged; try a smaller --learning-rate"
            )
        return found

    scored = {name: outputs(name, examples) for name, examples in work.evaluation.items()}
    metrics = work.metrics(scored)
    work.write(this, outputs)
    record = replace(record, metrics=metrics, seconds=round(time.perf_counter() - start, 3))
    if distributed.is_main():
        checkpoints.clear()  # first: with a record there is nothing left to do, also not that
        records.write(record, folder)
    distributed.wait()
    return Run(record, this.path)


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


def _prepared(subject: Subject, work: Work, settings: Settings, *, new_head: bool) -> PreTrainedModel:
    """The model to train or score: a new head drawn by the seed, the table substituted, what trains set."""
    transformers.set_seed(settings.seed)
    model = subject.source.load(
        work.auto_class,
        dtype=torch.float32,
        new_head=new_head or settings.epochs > 0,
        configure=work.configure,
        attention=settings.attention,
    )
    model.config.get_text_config().pad_token_id = subject.source.tokenizer.pad_token_id
    if subject.artifact:
        substitute(model, subject.artifact, UNTIED)
    train_only(model, settings.train_embeddings)
    return model


def _save(model: Any, tokenizer: PreTrainedTokenizerBase, history: dict[str, Any], folder: Path) -> None:
    def fill(target: Path) -> None:
        compact.save(model, target, UNTIED)
        tokenizer.save_pretrained(target)
        write_json(target / HISTORY, history)

    write_folder(folder, fill)


def _trained(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether the model this run would train is there, whole: a folder appears only when all is in it."""
    try:
        found = json.loads((folder / HISTORY).read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(found == identity)
