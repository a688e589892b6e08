"""`sweep`: several artifacts of one model, the same evaluations of each, and their comparison.

What is there already is not made again; a cell that fails is remembered and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from orientc.calibration.calibrate import calibrate
from orientc.comparison.compare import compare
from orientc.comparison.comparisons import Comparisons
from orientc.compression.fit_and_store import fit_and_store
from orientc.errors import SweepError, UsageError
from orientc.evaluation.setup import Setup
from orientc.evaluation.texts import Text
from orientc.modeling.table_names import INPUT
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import Table, read_table
from orientc.models.tables import ALL, chosen
from orientc.storage import artifact as artifacts
from orientc.storage import runs
from orientc.utils import distributed
from orientc.utils.devices import pick_device
from orientc.utils.documents import document
from orientc.utils.progress import Progress
from orientc.workflows.cells import FAILED, Cell, Cells
from orientc.workflows.fits import Fit, fits
from orientc.workflows.study import AUTO, read_study
from orientc.workflows.sweep_evaluations import Measure, measures


@dataclass(frozen=True)
class Sweep:
    """What a sweep leaves.

    `compared` is the comparison of its artifacts and records, None where every cell failed; `cells` are what it made,
    skipped because it was there already, and failed to make.
    """

    compared: Comparisons | None
    cells: tuple[Cell, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of all cells: artifacts and records."""
        return tuple(path for cell in self.cells for path in cell.paths)

    @property
    def failed(self) -> tuple[str, ...]:
        """A line for each cell that failed."""
        return tuple(f"{cell.name}: {cell.error}" for cell in self.cells if cell.status == FAILED)

    def as_dict(self) -> dict[str, Any]:
        """The comparison, and the cells, as plain values for JSON."""
        compared = self.compared.as_dict()["comparisons"] if self.compared else []
        return document("sweep", {"comparisons": compared, "cells": [cell.as_dict() for cell in self.cells]})


def sweep(
    model: str | Path | ModelSource,
    *,
    config: str | Path | None = None,
    methods: str | Sequence[str] | None = None,
    ratios: str | Sequence[float] | None = None,
    bits: str | Sequence[int | str] | None = None,
    blocks: str | Sequence[str] | None = None,
    target_bits: str | Sequence[float] | None = None,
    table: str | None = None,
    presets: str | Sequence[str] | None = None,
    effort: str | None = None,
    fit_seeds: str | Sequence[int] | None = None,
    calibration: str | Path | Sequence[str | Path] | None = None,
    perplexity: bool | None = None,
    similarity: bool | None = None,
    task: str | Sequence[str] | None = None,
    text: str | Path | Text | None = None,
    languages: str | None = None,
    limit: int | None = None,
    data: str | Path | None = None,
    squad_data: str | Path | None = None,
    limit_train: int | None = None,
    limit_eval: int | None = None,
    train_embeddings: str | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    seeds: str | Sequence[int] | None = None,
    precision: str | None = None,
    keep: str | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Sweep:
    """Compress a model's table by several methods to several sizes, evaluate each artifact, and compare.

    None leaves a setting to `config`, or to its default. Several values are a list, or text with commas between.

    Args:
        model: Hub id, local folder, .gguf file, or "demo".
        config: TOML or JSON file of these settings, named as here; in it a table named for a task, or "glue", holds
            that task's own: the fields of `FinetuningConfig` or `SquadConfig`, `limit_train`, `limit_eval`, `seeds`,
            `data`.
        methods: Of "svd", "ae" (the paper's autoencoder), "quantize" and "target". Unless given those whose sizes are:
            svd and ae for `ratios`, target for `target_bits`, quantize for `blocks` and for `bits` alone; svd and ae
            where none is.
        ratios: Parameter ratios of svd and ae; 2.5, 5 and 10 unless given.
        bits: 8, 4, 3, 2 or "none": of the numbers that svd, ae and quantize store; floats ("none") unless given, 4 for
            quantize.
        blocks: Types of ggml's blocks, such as "IQ4_NL", of quantize; none unless given.
        target_bits: Bits per weight of target; 1.5, 2 and 3 unless given.
        table: Which table to compress: "input" unless given; "head", an untied head's own; or "all", whose artifacts
            are measured together, by perplexity.
        presets: Recipes of ae, of "default" and "paper"; "default" unless given.
        effort: How long target searches for codes: "fast" or "best"; "fast" unless given.
        fit_seeds: Seeds of ae; 0 unless given.
        calibration: "none", "auto" or a calibration's file, or several: each artifact is made with each. "auto" is
            measured as `calibrate` does by default, and kept. "none" unless given.
        perplexity: Whether to measure perplexity, on `text`.
        similarity: Whether to measure sentence vectors, on STS-B.
        task: GLUE tasks, "all" nine of them, or "squad", to fine-tune on.
        text: UTF-8 text file for perplexity; WikiText-103's raw test set unless given, for "demo" its own. An
            encoder-decoder's is pairs, as for `perplexity`.
        languages: Of an encoder-decoder's pairs, what source and target are called in `text`, and a multilingual
            tokenizer's languages, as "en,de".
        limit: Perplexity on so many lines (masked), tokens (causal) or pairs.
        data: Folder with GLUE's data; from the hub unless given.
        squad_data: Folder with SQuAD's data; from the hub unless given.
        limit_train: Train on so many examples, the first after a seeded shuffle.
        limit_eval: Score so many examples, the first.
        train_embeddings: What of a compressed table trains: "decoder", "all" or "none"; "decoder" unless given.
        epochs: Passes over the training set; 0 scores the model as it is; 3 unless given.
        learning_rate: AdamW's; 2e-5 for GLUE and 3e-5 for SQuAD unless given.
        seed: Draws the head, the order of the examples and dropout; 0 unless given.
        seeds: Several seeds in the place of one.
        precision: Type the model computes in while it is fine-tuned; its weights stay float32; "float32" unless given.
        keep: Fine-tuned models to keep: "none", the "last" seed's or the "best" one's; "none" unless given.
        device: "cpu", "cuda", "cuda:1" …; accelerate's choice unless given.
        out: Runs folder; `$ORIENTC_RUNS` or "runs" unless given.
        revision: Hub branch, tag or commit of the model.
        allow_pickle: Read .bin weights (tensors only, no code).
        trust_remote_code: Run Python code from the model's repository.
        progress: Told of each fit and evaluation, and with a line of each cell that is done.

    Raises:
        UsageError: The request is wrong by itself.
        ModelError: The model's table can't be read. Whatever goes wrong later fails its cell alone.
    """
    distributed.check_alone("sweep")
    given: dict[str, Any] = {
        "methods": methods, "ratios": ratios, "bits": bits, "blocks": blocks, "target_bits": target_bits,
        "presets": presets, "effort": effort, "fit_seeds": fit_seeds, "calibration": calibration,
        "perplexity": perplexity, "similarity": similarity, "task": task, "text": text, "languages": languages,
        "limit": limit, "data": data, "squad_data": squad_data, "limit_train": limit_train, "limit_eval": limit_eval,
        "train_embeddings": train_embeddings, "epochs": epochs, "learning_rate": learning_rate, "seed": seed,
        "seeds": seeds, "precision": precision, "keep": keep,
    }  # fmt: skip
    study = read_study(given, config)
    if table not in (None, INPUT) and (study.similarity or study.task):
        raise UsageError(f"`table` {table} is for perplexity: nothing else runs a head that predicts tokens")
    wanted = fits(study)
    place = None if out is None else Path(out)
    trust = {"revision": revision, "allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    setup = setup_for(model, device, place, progress or Progress(), **trust)
    return run_study(wanted, measures(study, setup), setup, place, table or INPUT, study.languages)


def setup_for(
    model: str | Path | ModelSource, device: str | None, out: Path | None, progress: Progress, **trust: Any
) -> Setup:
    """A model to make artifacts of and to evaluate; `trust` are options of `ModelSource.resolve`.

    Raises `ModelError` or `DeviceError` where one of both is not to be had.
    """
    source = model if isinstance(model, ModelSource) else ModelSource.resolve(str(model), **trust)
    return Setup(source, runs.model_folder(source.id, out), pick_device(device), progress=progress)


def run_study(
    wanted: Sequence[Fit],
    taken: Sequence[Measure],
    setup: Setup,
    out: Path | None,
    table: str = INPUT,
    languages: str | None = None,
) -> Sweep:
    """Make artifacts, and measure the uncompressed model and each of them, cell by cell.

    Args:
        wanted: The artifacts.
        taken: What is measured.
        setup: The model, and how it is evaluated.
        out: Runs folder.
        table: The table that is compressed, or "all".
        languages: Of the pairs that an encoder-decoder is calibrated on.

    Raises:
        ModelError: The model's table can't be read, or it has none of that name. Whatever goes wrong later fails its
            cell alone.
    """
    chosen(setup.source.skeleton, table, setup.source.id)
    subject: ModelSource | Table = setup.source if table == ALL else read_table(setup.source, table=table)
    calibrated = any(fit.calibration == AUTO for fit in wanted)
    cells = Cells(setup.progress, calibrated + len(wanted) + len(taken) * (1 + len(wanted)))
    common: dict[str, Any] = {"device": str(setup.device), "out": out, "progress": setup.progress}
    measured: list[Path] = []

    def calibration() -> tuple[list[Path], bool]:
        made = calibrate(setup.source, languages=languages, **common)
        measured.append(made.path)
        return [], made.fresh

    def fit_of(fit: Fit) -> tuple[list[Path], bool]:
        given: str | Path | None = fit.calibration if fit.calibrated else None
        if given == AUTO:
            if not measured:
                raise SweepError("there is no calibration to make it with")
            given = measured[0]
        made = fit_and_store(subject, fit.config, table=table, calibration=given, **common)
        return [*made.paths], any(each.fresh for each in made.all)

    if calibrated:
        cells.do("calibration", calibration)
    subjects = [("original", Subject(setup.source))]
    for fit in wanted:
        if there := cells.do(fit.name, partial(fit_of, fit)).paths:
            read = [(path, artifacts.load(path)) for path in there]
            name = " + ".join(path.name for path in there)
            subjects.append((name, Subject(setup.source, *read[0], tuple(read[1:]))))
    cells.total = len(cells.done) + len(taken) * len(subjects)
    for measure in taken:
        for name, each in subjects:
            cells.do(f"{measure.name} of {name}", partial(measure.of, each))
    paths = [path for cell in cells.done for path in cell.paths]
    return Sweep(compare(paths) if paths else None, tuple(cells.done))
