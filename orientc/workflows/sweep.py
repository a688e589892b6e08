"""`sweep`: several artifacts of one model, the same evaluations of each, and their comparison.

What is there already is not made again; a cell that fails is remembered and the rest goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from orientc.comparison.compare import Comparisons, compare
from orientc.compression.configs import AutoencoderConfig, SvdConfig
from orientc.compression.fit_and_store import fit_and_store
from orientc.errors import UsageError
from orientc.evaluation import finetuning
from orientc.evaluation.setup import Setup
from orientc.evaluation.texts import Text
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import runs
from orientc.utils import distributed
from orientc.utils.devices import pick_device
from orientc.utils.messages import first_line
from orientc.utils.progress import Progress
from orientc.workflows import sweep_evaluations

METHODS: dict[str, type[SvdConfig | AutoencoderConfig]] = {
    "svd": SvdConfig,
    "ae": AutoencoderConfig,
    "autoencoder": AutoencoderConfig,
}


@dataclass(frozen=True)
class Sweep:
    """What a sweep leaves.

    `compared` is the comparison of its artifacts and records, None where every cell failed; `paths` are their files,
    `failed` has a line for each cell that failed.
    """

    compared: Comparisons | None
    paths: tuple[Path, ...]
    failed: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The comparison as plain values for JSON."""
        return self.compared.as_dict() if self.compared else {"comparisons": []}


def sweep(
    model: str | Path | ModelSource,
    *,
    ratios: str | Sequence[float] = "2.5,5,10",
    methods: str | Sequence[str] = "svd,ae",
    perplexity: bool = False,
    similarity: bool = False,
    task: str | Sequence[str] | None = None,
    text: str | Path | Text | None = None,
    limit: int | None = None,
    data: str | Path | None = None,
    squad_data: str | Path | None = None,
    limit_train: int | None = None,
    limit_eval: int | None = None,
    train_embeddings: str = "decoder",
    epochs: float = 3,
    learning_rate: float | None = None,
    seed: int = 0,
    seeds: str | Sequence[int] | None = None,
    precision: str = "float32",
    device: str | None = None,
    out: str | Path | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Sweep:
    """Compress a model's table by several methods to several ratios, evaluate each artifact, and compare.

    Args:
        model: Hub id, local folder, .gguf file, or "demo".
        ratios: Parameter ratios, a list or text with commas between.
        methods: "svd" and "ae", the paper's autoencoder; a list or text with commas between.
        perplexity: Whether to measure perplexity, on `text`.
        similarity: Whether to measure sentence vectors, on STS-B.
        task: GLUE tasks, or "squad", to fine-tune on.
        text: UTF-8 text file for perplexity; WikiText-103's raw test set unless given, for "demo" its own.
        limit: Perplexity on so many lines (masked) or tokens (causal).
        data: Folder with GLUE's data; from the hub unless given.
        squad_data: Folder with SQuAD's data; from the hub unless given.
        limit_train: Train on so many examples, the first after a seeded shuffle.
        limit_eval: Score so many examples, the first.
        train_embeddings: What of a compressed table trains: "decoder", "all" or "none".
        epochs: Passes over the training set; 0 scores the model as it is.
        learning_rate: AdamW's; 2e-5 for GLUE and 3e-5 for SQuAD unless given.
        seed: Draws the head, the order of the examples and dropout.
        seeds: Several seeds in the place of one, a list or text with commas between.
        precision: Type the model computes in while it is fine-tuned; its weights stay float32.
        device: "cpu", "cuda", "cuda:1" …; accelerate's choice unless given.
        out: Runs folder; `$ORIENTC_RUNS` or "runs" unless given.
        revision: Hub branch, tag or commit of the model.
        allow_pickle: Read .bin weights (tensors only, no code).
        trust_remote_code: Run Python code from the model's repository.
        progress: Told of each fit and evaluation.

    Raises:
        UsageError: The request is wrong by itself.
        ModelError: The model's table can't be read. Whatever goes wrong later fails its cell alone.
    """
    distributed.check_alone("sweep")
    progress = progress or Progress()
    configs = [config(ratio=ratio) for ratio in _ratios(ratios) for config in _methods(methods)]
    tuned: dict[str, Any] = {"epochs": epochs, "train_embeddings": train_embeddings, "precision": precision}
    if learning_rate is not None:
        tuned["learning_rate"] = learning_rate
    if not isinstance(model, ModelSource):
        trust = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
        model = ModelSource.resolve(str(model), revision=revision, **trust)
    chosen, folder = pick_device(device), None if out is None else Path(out)
    setup = Setup(model, runs.model_folder(model.id, folder), chosen, progress=progress)
    wanted = [sweep_evaluations.perplexity(setup, text, limit)] if perplexity else []
    wanted += [sweep_evaluations.similarity(setup, data)] if similarity else []
    limits = finetuning.limits(limit_train, limit_eval, epochs)
    for name in [task] if isinstance(task, str) else task or ():
        own = squad_data if name == sweep_evaluations.SQUAD else data
        wanted.append(sweep_evaluations.task(setup, name, data=own, limits=limits, seeds=seeds, seed=seed, **tuned))

    table = read_table(model)
    paths: list[Path] = []
    failed: list[str] = []
    subjects = [("original", Subject(model))]
    for config in configs:
        with _cell(f"{config.method}, {config.size}", failed):
            path = fit_and_store(table, config, device=str(chosen), out=folder, progress=progress).path
            paths.append(path)
            subjects.append((path.name, Subject(model, path, artifacts.load(path))))
    for measure in wanted:
        for name, subject in subjects:
            with _cell(f"{measure.name} of {name}", failed):
                paths += measure.of(subject)
    return Sweep(compare(paths) if paths else None, tuple(paths), tuple(failed))


@contextlib.contextmanager
def _cell(name: str, failed: list[str]) -> Iterator[None]:
    """Within it a failure becomes a line of `failed`; being interrupted does not."""
    try:
        yield
    except Exception as error:  # whatever it is, the other cells can still be done
        failed.append(f"{name}: {first_line(error)}")


def _ratios(ratios: str | Sequence[float]) -> list[float]:
    try:
        found = [float(ratio) for ratio in (ratios.split(",") if isinstance(ratios, str) else ratios)]
    except ValueError:
        raise UsageError(f"`ratios` takes numbers with commas between, such as 2.5,5,10, not {ratios!r}") from None
    if not found:
        raise UsageError("`ratios` takes one number or more, not none")
    if outside := [ratio for ratio in found if not 1 <= ratio < inf]:
        raise UsageError(
            f"`ratios` must be at least 1, not {outside[0]:g}: at 1 as many numbers are stored as the table has"
        )
    return found


def _methods(methods: str | Sequence[str]) -> list[type[SvdConfig | AutoencoderConfig]]:
    names = [name.strip() for name in (methods.split(",") if isinstance(methods, str) else methods)]
    if unknown := [name for name in names if name not in METHODS]:
        raise UsageError(f"there is no method {unknown[0]!r}: `methods` takes {', '.join(METHODS)}")
    return [METHODS[name] for name in names]
