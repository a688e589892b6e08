"""A GLUE task as a `Benchmark`: texts encoded, outputs turned into answers, figures and submission files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import transformers
from numpy.typing import NDArray
from transformers import PreTrainedConfig

from orientc.errors import EvaluationError
from orientc.evaluation import finetuning
from orientc.evaluation.configs import FinetuningConfig
from orientc.evaluation.finetuning import Benchmark, Outputs, Run
from orientc.evaluation.glue import metrics, submission
from orientc.evaluation.glue.data import Data, rows_sha256
from orientc.evaluation.glue.tasks import Task
from orientc.evaluation.left_out import cut, in_words
from orientc.evaluation.setup import Setup, tokenizer_for
from orientc.models.source import ModelSource
from orientc.models.tokens import check_ids
from orientc.utils import distributed
from orientc.utils.files import json_bytes, short_hash
from orientc.utils.folders import add_file

KIND = "glue"
SUBMITTED = "submission.json"  # in a run's folder
AUTO_CLASS = transformers.AutoModelForSequenceClassification


def task_benchmark(
    setup: Setup,
    task: Task,
    data: Data,
    config: FinetuningConfig,
    *,
    limits: Mapping[str, int | None],
    tests: Mapping[str, datasets.Dataset] | None = None,
) -> Benchmark:
    """A GLUE task for one model; it serves each of the model's artifacts, and configs that differ in the seed.

    Args:
        setup: The model, and how it is evaluated.
        task: The task.
        data: Its training and evaluation sets.
        config: How the model is fine-tuned.
        limits: What the data was cut to, for the record.
        tests: Test sets by the stem of their submission file, where such files are wanted.

    Raises:
        EvaluationError: Where the model can't do the task.
    """
    source = setup.source
    length = finetuning.fitting_length(source, config.max_length, setup.progress)
    tokenizer = tokenizer_for(source)
    special = tokenizer.num_special_tokens_to_add(pair=len(task.texts) > 1)
    if length <= special:  # the tokenizer would leave such texts whole
        raise EvaluationError(
            f"a maximum length of {length} leaves no room for {task.folder}'s texts beside {special} special tokens: "
            "raise `max_length`"
        )
    order = _own_order(source, task) if not config.epochs and finetuning.has_head(source, AUTO_CLASS) else None

    def encode(rows: datasets.Dataset) -> datasets.Dataset:
        datasets.disable_progress_bars()
        encoded = rows.map(
            lambda batch: tokenizer(*(batch[name] for name in task.texts), truncation=True, max_length=length),
            batched=True,
            remove_columns=[name for name in rows.column_names if name != "label"],
        )
        check_ids(source, [[tokenizer.pad_token_id], *encoded["input_ids"]])
        lengths = [len(ids) for ids in encoded["input_ids"]]
        lost = cut(tokenizer, lengths, length, *(rows[name] for name in task.texts))
        phrase = f"{{}} tokens of {lost.texts} of {len(rows)} examples that are cut to {length} tokens are left out"
        if told := in_words(task.name, {phrase: lost.tokens}):
            setup.progress.warn(told)
        return encoded

    def answers(outputs: Outputs) -> NDArray[Any]:
        """Scores as they are, or the ids of the likeliest classes."""
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        if task.regression:
            return np.asarray(logits, dtype=np.float64).reshape(-1)
        return np.asarray(np.argmax(logits if order is None else logits[:, order], axis=-1))

    def figures(outputs: dict[str, Outputs]) -> dict[str, float]:
        return {
            f"{name}_{split}".rstrip("_"): value
            for split, given in outputs.items()
            for name, value in metrics.compute(task, answers(given), data.evaluation[split]["label"]).items()
        }

    def blocks(outputs: dict[str, Outputs]) -> dict[str, list[float]]:
        return {
            f"{name}_{split}".rstrip("_"): sums
            for split, given in outputs.items()
            for name, sums in metrics.blocks(task, answers(given), data.evaluation[split]["label"]).items()
        }

    def write(run: Run, outputs: Callable[[str, Any], Outputs]) -> None:
        if tests:
            sets = {stem: (rows, encode(rows).remove_columns("label")) for stem, rows in tests.items()}
            found = {stem: (rows["idx"], answers(outputs(stem, given))) for stem, (rows, given) in sets.items()}
            if distributed.is_main():
                submission.write(submission_folder(run), found)
                add_file(run.folder, SUBMITTED, json_bytes(submitted(run)))

    test_sha256s = {stem: rows_sha256(rows) for stem, rows in (tests or {}).items()}

    def submitted(run: Run) -> dict[str, Any]:
        """What the submission's files are made of and what they are; another run may write into their folder, too."""
        there = submission.sha256s(submission_folder(run), test_sha256s)
        return {stem: {"test_sha256": sha256, "sha256": there[stem]} for stem, sha256 in test_sha256s.items()}

    def written(run: Run) -> bool:
        try:
            known = json.loads((run.folder / SUBMITTED).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            known = None
        return tests is None or (
            None not in submission.sha256s(submission_folder(run), tests).values() and known == submitted(run)
        )

    return Benchmark(
        kind=KIND,
        auto_class=AUTO_CLASS,
        data={"task": task.name, "name": data.name, "sha256": data.sha256, **limits},
        configure=lambda config: None if order is not None else _label(config, task),
        train=lambda: encode(data.train) if data.train is not None else None,
        evaluation={split: encode(rows) for split, rows in data.evaluation.items()},
        metrics=figures,
        blocks=blocks,
        score=task.score,
        write=write,
        written=written,
        files=[SUBMITTED],
    )


def submission_folder(run: Run) -> Path:
    """Where a run's submission files go: one folder for all tasks done with the same model and settings."""
    alike = {**run.record.measured, "data": None}
    stem = run.path.name.partition(f".{KIND}-")[0]
    return run.path.with_name(f"{stem}.{KIND}-submission-{short_hash(alike)}")


def _label(config: PreTrainedConfig, task: Task) -> None:
    """Tell a configuration how many outputs the task has, and what they are called."""
    config.num_labels = len(task.labels) or 1
    if task.labels:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: number for number, label in enumerate(task.labels)}
    config.problem_type = "regression" if task.regression else "single_label_classification"


def _own_order(source: ModelSource, task: Task) -> list[int]:
    """Where a fine-tuned model's outputs stand for the task's classes, by its own names for them if it has such.

    Raises `EvaluationError` where its head is for another task.
    """
    config = source.config
    if config.num_labels != (len(task.labels) or 1):
        raise EvaluationError(
            f"{source.id} was fine-tuned for {config.num_labels} outputs, {task.name} has {len(task.labels) or 1}: "
            "it is not a model for this task"
        )
    named = {str(label).lower(): int(number) for label, number in (config.label2id or {}).items()}
    if task.labels and named.keys() == set(task.labels):
        return [named[label] for label in task.labels]
    return list(range(config.num_labels))
