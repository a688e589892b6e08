"""`reproduce`: the study of arXiv 2106.08181 as one sweep that can be started again, with a verdict on each claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from orientc._version import __version__
from orientc.errors import OrientcError
from orientc.evaluation.setup import Setup
from orientc.evaluation.texts import Text
from orientc.models.argument import DEMO
from orientc.models.source import ModelSource
from orientc.storage import records
from orientc.storage.records import ORIGINAL, Record
from orientc.storage.runs import fit_seconds
from orientc.storage.table_info import TableInfo
from orientc.utils import distributed
from orientc.utils.documents import document
from orientc.utils.files import short_hash, write_atomically
from orientc.utils.messages import first_line
from orientc.utils.progress import Progress
from orientc.workflows import paper, report
from orientc.workflows.claims import Claim, claims
from orientc.workflows.fits import Fit, fits
from orientc.workflows.report import Report
from orientc.workflows.results import Result, result
from orientc.workflows.study import Study, read_study
from orientc.workflows.sweep import Sweep, run_study, setup_for
from orientc.workflows.sweep_evaluations import Measure, measures


@dataclass(frozen=True)
class Reproduction:
    """What `reproduce` found.

    Attributes:
        sweep: The artifacts and records, and the cells that made them.
        results: The figures, a table each: the uncompressed one first, then by ratio.
        claims: Verdicts.
        missing: What there are no figures of, by name, and why.
        report: All of it in words and tables; `markdown` and `latex` give its text.
        files: Where the report was written.
    """

    sweep: Sweep
    results: tuple[Result, ...]
    claims: tuple[Claim, ...]
    missing: dict[str, str]
    report: Report
    files: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        found = {
            "title": self.report.title,
            "facts": list(self.report.facts),
            "claims": [claim.as_dict() for claim in self.claims],
            "results": [
                {
                    "method": each.method,
                    "preset": each.preset,
                    "ratio": each.ratio,
                    "rank": each.rank,
                    "table_mb": each.table_mb,
                    "cosine": each.cosine,
                    "fit_seconds": each.seconds,
                    "figures": {
                        name: {"value": own.value, "standard_error": own.error, "runs": own.runs}
                        for name, own in each.figures.items()
                    },
                    "averages": each.averages,
                }
                for each in self.results
            ],
            "missing": self.missing,
            "otherwise": [{"published": theirs, "here": ours} for theirs, ours in self.report.otherwise],
            "files": [str(path) for path in self.files],
            "cells": [cell.as_dict() for cell in self.sweep.cells],
        }
        return document("reproduce", found)


def reproduce(
    *,
    model: str | Path | ModelSource | None = None,
    quick: bool = False,
    config: str | Path | None = None,
    ratios: str | Sequence[float] | None = None,
    fit_seeds: str | Sequence[int] | None = None,
    task: str | Sequence[str] | None = None,
    text: str | Path | Text | None = None,
    limit: int | None = None,
    data: str | Path | None = None,
    squad_data: str | Path | None = None,
    limit_train: int | None = None,
    limit_eval: int | None = None,
    train_embeddings: str | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    seeds: str | Sequence[int] | None = None,
    precision: str | None = None,
    published: str | Path | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Reproduction:
    """Repeat the study of arXiv 2106.08181 on a model, and say of each of its claims whether it holds there.

    Exact SVD, the paper's recipe to the letter and the default one at each ratio; initial perplexity, input-only as in
    the paper and tied; fine-tuning on GLUE and SQuAD with the paper's settings. What is there is not made again.
    None leaves a setting to `config`, or to the paper's.

    Args:
        model: Hub id, local folder, .gguf file, or "demo"; bert-base-uncased unless given, with `quick` "demo".
        quick: A look at the whole in minutes: few lines and examples, one epoch, and no task whose data is not given.
        config: TOML or JSON file of these settings, as for `sweep`; a table for a task's own.
        ratios: Parameter ratios; 2.5, 5 and 10 unless given.
        fit_seeds: Seeds of the autoencoder; 0 unless given.
        task: GLUE tasks, "all" nine of them, "squad", or "none"; all ten unless given.
        text: UTF-8 text file for perplexity; WikiText-103's raw test set unless given, for "demo" its own.
        limit: Perplexity on so many lines.
        data: Folder with GLUE's data; from the hub unless given.
        squad_data: Folder with SQuAD's data; from the hub unless given.
        limit_train: Train on so many examples, the first after a seeded shuffle.
        limit_eval: Score so many examples, the first.
        train_embeddings: What of a compressed table trains: "decoder", "all" or "none"; "decoder" unless given.
        epochs: Passes over the training set; 3 unless given.
        learning_rate: AdamW's; 2e-5 for GLUE and 3e-5 for SQuAD unless given.
        seeds: Seeds of fine-tuning; 22 unless given, as in the authors' configuration files.
        precision: Type the model computes in while it is fine-tuned; "float32" unless given.
        published: TOML file with figures of the paper, to be shown beside ours; see the README of the workflows.
        device: "cpu", "cuda", "cuda:1" …; accelerate's choice unless given.
        out: Runs folder; `$ORIENTC_RUNS` or "runs" unless given.
        revision: Hub branch, tag or commit of the model.
        allow_pickle: Read .bin weights (tensors only, no code).
        trust_remote_code: Run Python code from the model's repository.
        progress: Told of each fit and evaluation, and with a line of each cell that is done.

    Returns:
        Figures, verdicts and the report, which is also written into the model's folder.

    Raises:
        UsageError: The request is wrong by itself.
        ModelError: The model's table can't be read. Whatever goes wrong later fails its cell alone, and a text or task
            that is not to be had is named as missing.
        OutputError: The report can't be written.
    """
    distributed.check_alone("reproduce")
    given: dict[str, Any] = {
        "ratios": ratios, "fit_seeds": fit_seeds, "task": task, "text": text, "limit": limit, "data": data,
        "squad_data": squad_data, "limit_train": limit_train, "limit_eval": limit_eval,
        "train_embeddings": train_embeddings, "epochs": epochs, "learning_rate": learning_rate, "seeds": seeds,
        "precision": precision,
    }  # fmt: skip
    study = read_study(given, config, paper.QUICK if quick else paper.STUDY)
    wanted = fits(study)
    figures = paper.read_published(published) if published is not None else {}
    place = None if out is None else Path(out)
    trust = {"revision": revision, "allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    model = model or (DEMO if quick else paper.MODEL)
    setup = setup_for(model, device, place, progress or Progress(), **trust)
    taken, missing = _at_hand(study, setup, quick=quick)
    done = run_study(wanted, taken, setup, place)
    read = [records.read(path) for path in done.paths if path.suffix == ".json"]
    results = _results(wanted, done, read, setup.table)
    verdicts = claims(results, missing)
    said = Report(
        f"{paper.SOURCE} on {setup.source.id}",
        tuple(_facts(study, setup, done, read, quick=quick, published=bool(figures))),
        verdicts,
        report.tables(results, figures),
        tuple(f"{name}: {why}" for name, why in missing.items()),
    )
    return Reproduction(done, results, verdicts, missing, said, _written(said, study, setup))


def _at_hand(study: Study, setup: Setup, *, quick: bool) -> tuple[list[Measure], dict[str, str]]:
    """What can be measured, and for what can't be, why."""
    taken, missing = [], {}
    for measure in measures(study, setup):
        if quick and measure.name in study.task and study.data_of(measure.name) is None:
            missing[measure.name] = "no data is given, and a quick run asks no hub"
            continue
        try:
            measure.fetch()
        except OrientcError as error:
            missing[measure.name] = first_line(error).replace("`", "")
        else:
            taken.append(measure)
    for name, why in missing.items():
        setup.progress.warn(f"missing: {name}: {why}")
    return taken, missing


def _results(wanted: Sequence[Fit], done: Sweep, read: Sequence[Record], base: TableInfo) -> tuple[Result, ...]:
    """The uncompressed table, then artifacts by ratio and method; those that differ in their seed alone together."""
    together: dict[tuple[float, str, str], list[Path]] = {}
    for fit, cell in zip(wanted, done.cells, strict=False):
        ratio = getattr(fit.config, "ratio", None)
        together.setdefault((float(ratio or 0), "ae" if fit.preset else "svd", fit.preset), []).extend(cell.paths)
    made = [
        result(method, preset, ratio, base, paths, read) for (ratio, method, preset), paths in together.items() if paths
    ]
    return (result(ORIGINAL, "", None, base, (), read), *made)


def _facts(
    study: Study, setup: Setup, done: Sweep, read: Sequence[Record], *, quick: bool, published: bool
) -> list[str]:
    table = setup.table
    found = ["A quick run: few lines and examples, so that nothing here is a reproduction."] if quick else []
    found.append(
        f"Table {table.vocab} × {table.dim} {table.dtype}, {'tied' if table.tied else 'untied'}; "
        f"orientc {__version__}, {setup.device.type}."
    )
    for record in read:
        if record.kind == "perplexity" and record.artifact is None and record.text:
            lines = "all lines" if record.settings["limit"] is None else f"limit {record.settings['limit']}"
            found.append(
                f"Perplexity ({record.settings['protocol']}) on {record.text['name']}, {lines}, "
                f"{record.metrics['tokens']} tokens scored."
            )
    alike: dict[str, list[str]] = {}
    for task in study.task:
        if any(record.kind == task or (record.data or {}).get("task") == task for record in read):
            alike.setdefault(_how(study, task), []).append(task)
    found += [f"{', '.join(tasks)}: {how}." for how, tasks in alike.items()]
    if not published:
        found.append("The paper's own figures are not shown: none could be checked against its tables.")
    found.append("Intervals are of 95 %, each by itself: they are not corrected for how many there are.")
    found.append(f"Fits and evaluations took {_hours(done, read)}.")
    return found


def _how(study: Study, task: str) -> str:
    """How a task is fine-tuned and scored."""
    settings, (train, evaluation) = study.config_of(task), study.limits_of(task)
    return (
        f"epochs {settings.epochs:g}, batch {settings.batch_size}, learning rate {settings.learning_rate:g}, length "
        f"{settings.max_length}, train embeddings {settings.train_embeddings}, {settings.precision}, seeds "
        f"{', '.join(map(str, study.seeds_of(task)))}; trained on {train or 'all'} examples, scored on "
        f"{evaluation or 'all'}"
    )


def _hours(done: Sweep, read: Sequence[Record]) -> str:
    """The time that all of it took when it was made; records of one pass over a text count once."""
    passes: dict[tuple[Any, ...], float] = {}
    for record in read:
        settings = short_hash(record.settings)
        of = (record.kind, record.artifact and record.artifact["sha256"], str(record.data), settings)
        passes[of] = max(passes.get(of, 0.0), record.seconds)
    fitted = [fit_seconds(path) or 0.0 for path in done.paths if path.suffix != ".json"]
    seconds = sum(passes.values()) + sum(fitted)
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _written(said: Report, study: Study, setup: Setup) -> tuple[Path, ...]:
    stem = f"reproduction-{short_hash({name: str(value) for name, value in asdict(study).items()})}"
    found = []
    for suffix, content in ((".md", said.markdown), (".tex", said.latex)):
        path = setup.folder / f"{stem}{suffix}"
        write_atomically(path, partial(_write, content))
        found.append(path)
    return tuple(found)


def _write(content: str, stream: BinaryIO) -> None:
    stream.write(content.encode())
