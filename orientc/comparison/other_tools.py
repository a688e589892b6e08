"""Result files of lm-evaluation-harness and mteb, as figures of a row. Imports neither, nor torch.

lm-evaluation-harness writes one file for all tasks, `results_<date>.json`: `results` by task, with `<metric>,<filter>`
and `<metric>_stderr,<filter>`; `higher_is_better` by task and metric; `model_name`. mteb (from 1.11 on) writes one file
for each task, `<model>/<revision>/<task>.json`: `task_name` and `scores` by split, a list with a `main_score` for each
subset; the model's name is in the `model_meta.json` beside it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orientc.errors import RecordError
from orientc.utils.files import read_bytes

_LARGEST = 100_000_000  # bytes of a file that may hold results
_MODEL = "model_meta.json"  # mteb's, in the folder of a model
_UNFILTERED = "none"


@dataclass(frozen=True)
class Outcome:
    """A figure that another tool measured.

    Attributes:
        name: Task and metric: "arc_easy.acc_norm", "STSBenchmark.main_score".
        value: The figure.
        error: Its standard error, where the tool tells one.
        lower_is_better: Whether the tool says so.
        measured: How, in names and values: `on`, and what the tool says of its settings.
        chosen: What of that goes into its name: examples in the prompt, and on how many of all it was measured.
    """

    name: str
    value: float
    error: float | None
    lower_is_better: bool
    measured: dict[str, Any]
    chosen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """What is in one file: the name of the model it is about, as the tool was told it, and its figures."""

    path: Path
    model: str
    outcomes: tuple[Outcome, ...] = field(default=())


def read_results(path: Path) -> tuple[Results, ...]:
    """The results in a file, or in all files below a folder.

    Raises:
        RecordError: There is nothing there, or a file is neither tool's.
    """
    files = sorted(file for file in path.rglob("*.json") if file.name != _MODEL) if path.is_dir() else [path]
    if not files:
        raise RecordError(f"there are no results in {path}")
    return tuple(_read(file) for file in files)


def _read(path: Path) -> Results:
    try:
        values = json.loads(read_bytes(path, _LARGEST))
    except OSError as error:
        raise RecordError(f"can't read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not sound JSON: {error!s:.200}") from None
    if isinstance(values, dict) and isinstance(values.get("results"), dict):
        return Results(path, _harness_model(values), tuple(_of_harness(path, values)))
    if isinstance(values, dict) and isinstance(values.get("scores"), dict) and "task_name" in values:
        return Results(path, _mteb_model(path), tuple(_of_mteb(path, values)))
    raise RecordError(f"{path} holds no results of lm-evaluation-harness, nor of mteb")


def _of_harness(path: Path, values: Mapping[str, Any]) -> Iterator[Outcome]:
    for task, entries in values["results"].items():
        for key, value in entries.items() if isinstance(entries, dict) else ():
            metric, _, filtered = key.partition(",")
            if not filtered or metric.endswith("_stderr") or not _is_number(value):
                continue  # alias, sample_len; a group of tasks may have no figure: " "
            error = entries.get(f"{metric}_stderr,{filtered}")
            higher = _within(values, "higher_is_better", task, metric)
            measured = {
                "on": task,
                "shots": _within(values, "n-shot", task),
                "samples": _within(values, "n-samples", task, "effective"),
                "version": _within(values, "versions", task),
                "filter": None if filtered == _UNFILTERED else filtered,
            }
            name = f"{task}.{metric}" + ("" if filtered == _UNFILTERED else f" {filtered}")
            whole = _within(values, "n-samples", task, "original")
            chosen = {"shots": measured["shots"]} if measured["shots"] else {}
            chosen |= {"samples": measured["samples"]} if measured["samples"] not in (None, whole) else {}
            found = float(error) if _is_number(error) else None
            yield Outcome(name, _finite(path, name, value), found, higher is False, measured, chosen)


def _of_mteb(path: Path, values: Mapping[str, Any]) -> Iterator[Outcome]:
    task = str(values["task_name"])
    for split, entries in values["scores"].items():
        found = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        if not found or not all(_is_number(entry.get("main_score")) for entry in found):
            raise RecordError(f"{path} is damaged: {task} has no main score in {split}")
        errors = [_of_experiments(entry) for entry in found]
        own = [error for error in errors if error is not None]
        error = math.sqrt(sum(error**2 for error in own)) / len(own) if len(own) == len(found) else None
        measured = {"on": task, "split": split, "revision": values.get("dataset_revision")}
        measured["subsets"] = len(found) if len(found) > 1 else None
        value = statistics.fmean(float(entry["main_score"]) for entry in found)
        name = f"{task}.main_score" + ("" if len(values["scores"]) == 1 else f" {split}")
        yield Outcome(name, _finite(path, name, value), error, lower_is_better=False, measured=measured)


def _of_experiments(entry: Mapping[str, Any]) -> float | None:
    """The standard error of a subset's main score by the experiments it is the mean of, where they are there."""
    experiments = entry.get("scores_per_experiment")
    if not isinstance(experiments, list) or len(experiments) < 2:
        return None
    for metric, value in entry.items():
        if metric != "main_score" and value == entry["main_score"]:
            each = [own.get(metric) if isinstance(own, dict) else None for own in experiments]
            if all(map(_is_number, each)):
                return statistics.stdev(map(float, each)) / math.sqrt(len(each))  # type: ignore[arg-type]
    return None


def _harness_model(values: Mapping[str, Any]) -> str:
    arguments = _within(values, "config", "model_args")
    told = dict(entry.split("=", 1) for entry in str(arguments).split(",") if "=" in entry)
    if isinstance(arguments, dict):
        told = {name: str(value) for name, value in arguments.items()}
    return told.get("pretrained") or str(values.get("model_name") or "")


def _mteb_model(path: Path) -> str:
    """The model's name, by the file beside it; else by its folder, where "__" stands for "/"."""
    try:
        named = json.loads(read_bytes(path.with_name(_MODEL), _LARGEST))["name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        named = path.resolve().parent.parent.name.replace("__", "/")
    return str(named)


def _within(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(path: Path, name: str, value: float) -> float:
    if not math.isfinite(value):
        raise RecordError(f"{path}: {name} is {value}, which is no figure")
    return float(value)
