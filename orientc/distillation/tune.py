"""Carry out a plan: an artifact tuned, kept in its place, gone on with where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from orientc._version import __version__
from orientc.distillation import data
from orientc.distillation.config import Settings
from orientc.distillation.plan import Plan
from orientc.distillation.resume import SUFFIX, State, Unfinished
from orientc.distillation.training import Evaluation, Training
from orientc.errors import EvaluationError, OutputError
from orientc.evaluation.setup import check_base
from orientc.evaluation.texts import Text
from orientc.methods import losses
from orientc.models.resolve import subject
from orientc.models.table import Table, read_table
from orientc.storage import runs
from orientc.storage.artifact import Artifact
from orientc.storage.runs import Stored
from orientc.utils import distributed
from orientc.utils.devices import pick_device
from orientc.utils.progress import Progress
from orientc.utils.versions import versions

REPORTS = "evaluations"  # what a history calls them


def place(device: str | None = None) -> torch.device:
    """Where tuning goes on: `device`, or accelerate's choice. Raises `UsageError` under a launcher, and as it does."""
    distributed.check_alone("tuning")
    return pick_device(device)


def run(
    plan: Plan,
    table: Table,
    *,
    device: torch.device,
    state: State | None = None,
    keep: Callable[[State], None] | None = None,
    progress: Progress | None = None,
    on_evaluation: Callable[[Evaluation], None] | None = None,
) -> Artifact:
    """Carry out a plan. `table` is the model's; `state` is what an interrupted run has left, `keep` is handed such.

    `on_evaluation` is told of each evaluation, of those up to `state` too. Raises `EvaluationError` for a text with
    too little in it, `FitError` where numbers that are not finite come out, `OutputError` for a state that does
    not fit.
    """
    progress = progress or Progress()
    examples = data.held_out_examples(plan.held_out, plan.text.name, plan.asked.seed)
    if next(plan.passages.stream(plan.asked.seed), None) is None:
        raise EvaluationError(f"{plan.text.name} has nothing to train on before its last {data.HELD_OUT:.0%}")
    training = Training(plan, examples, device)
    if state:
        try:
            training.restore(state)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise OutputError("what an interrupted run left does not fit: start over with --overwrite") from error
    tell = on_evaluation or (lambda _: None)
    for report in training.reports:
        tell(report)
    progress.stage("tuning", plan.asked.steps)
    progress.advance(training.step)
    for report in training.go_on(progress):
        tell(report)
        if keep:
            keep(training.state())
    factors = plan.artifact.factors.with_tensors({**plan.artifact.factors.tensors, **training.best})
    description = replace(
        plan.artifact.description,
        settings=plan.settings,
        distances=asdict(losses.distances(factors, table.weight)),
        version=__version__,
    )
    return Artifact(description, factors)


def produce(
    plan: Plan,
    path: Path,
    *,
    device: torch.device,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Stored:
    """Tune an artifact into `path`, with a history beside it, unless that is done already.

    An interrupted run is gone on from with `resume`. Raises `ArtifactMismatchError` for an artifact of another table
    unless `force`, and as `run`, `runs.produce` and `Unfinished.last` do.
    """
    progress = progress or Progress()
    table = read_table(plan.source)
    check_base(plan.artifact, table.info, force=force, progress=progress)
    unfinished = Unfinished(path.with_name(path.name + SUFFIX), {"settings": plan.settings, "versions": versions()})
    before: list[State] = []

    def tuned(report: Callable[[Evaluation], None]) -> Artifact:
        state = unfinished.last(resume=resume, overwrite=overwrite)
        before.extend([state] if state else [])
        return run(
            plan, table, device=device, state=state, keep=unfinished.save, progress=progress, on_evaluation=report
        )

    stored = runs.produce(
        plan,
        plan.artifact.description.base,
        path,
        tuned,
        overwrite=overwrite,
        reports=REPORTS,
        spent=lambda: sum(float(state.reports[-1]["seconds"]) for state in before),
    )
    unfinished.clear()
    return stored


def outcome(path: Path) -> dict[str, Any] | None:
    """What tuning did for the artifact at `path`: steps taken, the best one, held-out loss `before` and `after`.

    None where its history does not say.
    """
    try:
        found = [Evaluation(**entry) for entry in runs.fit_reports(path, REPORTS)]
    except TypeError:
        return None
    if not found:
        return None
    best = min(found, key=lambda entry: entry.loss)
    return {"steps": found[-1].step, "best_step": best.step, "before": found[0].loss, "after": best.loss}


def tune(
    artifact: str | Path,
    *,
    text: str | Path | Text | None = None,
    model: str | None = None,
    head: str | None = None,
    settings: Settings | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    on_evaluation: Callable[[Evaluation], None] | None = None,
) -> Artifact:
    """Distil the original model into an artifact file's numbers and return the tuned artifact.

    `text` is a UTF-8 file or a `Text`, by default what `calibrate` takes; `model` is the base model where it is not the
    one that the artifact names. `head` is "tied", "input-only" or "untied", by default what makes a model small.
    Raises `UsageError`, `ModelError`, `ArtifactError`, `EvaluationError` or `FitError`.
    """
    chosen = place(device)
    found = subject(str(artifact), model=model)
    if not isinstance(text, Text):
        text = data.text_for(found.source, path=Path(text) if text is not None else None)
    plan = Plan(found, text, settings or Settings(), head)
    table = read_table(plan.source)
    plan.artifact.check_base(table.info.sha256)
    return run(plan, table, device=chosen, progress=progress, on_evaluation=on_evaluation)
