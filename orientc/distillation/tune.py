"""`tune`: distil the original model into an artifact, and keep the tuned artifact as a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from orientc._version import __version__
from orientc.calibration.mixture import Mixture
from orientc.calibration.tokenized_text import objective_of
from orientc.distillation import data
from orientc.distillation.config import TuningConfig
from orientc.distillation.plan import Plan, plan
from orientc.distillation.resume import ResumeFile, ResumeState
from orientc.distillation.training import Evaluation, Training
from orientc.errors import EvaluationError, OutputError
from orientc.evaluation.setup import check_base, say_dequantized
from orientc.evaluation.texts import Text
from orientc.methods import losses
from orientc.models import resolve
from orientc.models.device_map import DeviceMap
from orientc.models.table import Table, read_table, table_info
from orientc.storage import artifact as artifacts
from orientc.storage import runs
from orientc.storage.artifact import Artifact
from orientc.storage.description import Description
from orientc.utils import distributed
from orientc.utils.devices import pick_device
from orientc.utils.documents import document
from orientc.utils.progress import Progress
from orientc.utils.versions import versions

_HISTORY = "evaluations"  # what an artifact's history calls them


@dataclass(frozen=True)
class Tuned:
    """A tuned artifact in its file.

    Attributes:
        path: the file.
        description: what it says of itself.
        fresh: whether it was made just now; False where the same one was there already.
        seconds: how long tuning took, resumed parts included; None where that is not known any more.
        evaluations: those on the held-out text, the untuned artifact's first; none where its history is gone.
    """

    path: Path
    description: Description
    fresh: bool
    seconds: float | None
    evaluations: tuple[Evaluation, ...]

    @cached_property
    def artifact(self) -> Artifact:
        """The artifact, read from the file when first asked for."""
        return artifacts.load(self.path)

    @property
    def tuning(self) -> dict[str, Any] | None:
        """Steps taken, the best of them, and the held-out loss before and after; None without evaluations."""
        if not self.evaluations:
            return None
        best = min(self.evaluations, key=lambda entry: entry.loss)
        first, last = self.evaluations[0], self.evaluations[-1]
        return {"steps": last.step, "best_step": best.step, "before": first.loss, "after": best.loss}

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of the command."""
        about = {"artifact": str(self.path), "fresh": self.fresh, "seconds": self.seconds, "tuning": self.tuning}
        return document("artifact", about | self.description.as_dict())


def tune(
    artifact: str | Path,
    *,
    beside: str | Path | Sequence[str | Path] | None = None,
    text: str | Path | Text | Mixture | Sequence[str | Path] | None = None,
    dataset: str | Sequence[str] | None = None,
    column: str = "text",
    languages: str | None = None,
    head: str | None = None,
    steps: int = 300,
    minutes: float | None = None,
    batch_size: int | None = None,
    learning_rate: float = 0.01,
    hidden_weight: float = 1.0,
    eval_steps: int = 25,
    patience: int = 5,
    seed: int = 0,
    resume: bool = False,
    device: str | None = None,
    device_map: str | Path | None = None,
    max_memory: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    model: str | Path | None = None,
    force: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Tuned:
    """Distil the original model into an artifact, and write the tuned artifact to a file.

    All floats train. Of what a target size made with a calibration, trellis codes move too, and the decoder's whole
    numbers; other codes stay.

    Args:
        artifact: the `.safetensors` file.
        beside: files of artifacts of the model's other tables, which it runs with meanwhile; they stay as they are.
        text: UTF-8 file or `Text` to tune on, or several, each FILE or FILE=WEIGHT, the last 5 % of each held out; not
            the one that is scored. By default WikiText-103's validation set, docstrings for "demo"; of an
            encoder-decoder pairs, as for `perplexity`.
        dataset: texts out of data sets, each NAME[:CONFIG][:SPLIT] or that and =WEIGHT, instead or beside.
        column: the data sets' column that holds the text.
        languages: of an encoder-decoder's pairs, what source and target are called in the data, and a multilingual
            tokenizer's languages, as "en,de".
        head: head policy to tune under, "tied" or "input-only" where the head shares the table; tied by default. An
            artifact of a head with a table of its own has but one, "head-only", and with that of the lookup "both".
        steps: steps at most.
        minutes: minutes at most.
        batch_size: lines, windows or pairs a step; 32 lines, 4 windows or 16 pairs by default.
        learning_rate: relative to the size of what is trained, or the errors of trellis codes; falls linearly to 0.
        hidden_weight: weight of the hidden states' cosine distance in the loss.
        eval_steps: move codes, and evaluate on the held-out text, every so many steps.
        patience: stop after so many evaluations without a gain.
        seed: draws the order of the text and masks.
        resume: go on where an interrupted run was.
        device: "cpu", "cuda", "cuda:1", "mps" …; accelerate's choice by default.
        device_map, max_memory: spread a model larger than one device over several, see `DeviceMap.read`; all of it has
            to have room there.
        out: runs folder, or the file itself where it ends in `.safetensors`; beside `artifact` by default.
        overwrite: tune again, and replace what is there.
        model: base model of the artifact; the one it names by default.
        force: go on, with a warning, where the artifact was made from another table.
        revision: hub branch, tag or commit of the model.
        allow_pickle: read `.bin` weights.
        trust_remote_code: run Python code from the model's repository.
        progress: told of stages, steps and warnings.

    Returns:
        Where the tuned artifact is, and what tuning did; the same settings again find the file that is there.

    Raises:
        UsageError: for an option or weight out of range, something that is no artifact, or several processes.
        ModelError: where the model can't be read.
        ArtifactError: where an artifact is damaged, made from another table, or beside another of the same one.
        EvaluationError: where the text can't be had or has too little, or the model can't be tuned so.
        CalibrationError: for an encoder-decoder that writes no text.
        FitError: where training diverges.
        OutputError: where something else is at the place, an interrupted run is, or it can't be written.
    """
    distributed.check_alone("tune")
    config = TuningConfig(steps, minutes, batch_size, learning_rate, hidden_weight, eval_steps, patience, seed)
    place = None if out is None else Path(out)
    runs.check_out(place)
    place_of_model = DeviceMap.read(device_map, max_memory, device) or pick_device(device)
    progress = progress or Progress()
    others = [beside] if isinstance(beside, str | Path) else beside or ()
    found = resolve.subject(
        [resolve.artifact(Path(each)) for each in (artifact, *others)],
        model=None if model is None else str(model),
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
    files = dict(zip(found.paths, found.artifacts, strict=True))
    start, source = Path(artifact), found.source
    own = files.pop(start)
    objective_of(source)  # before a text is fetched for nothing
    read = data.tuning_texts(source, text, dataset, column, languages)
    planned = plan(source, own, read, config, head, languages, [*files.values()])
    table = read_table(source, table=own.description.base.table)
    check_base(own, table.info, force=force, progress=progress)
    for other in planned.beside:
        check_base(other, table_info(source, other.description.base.table), force=force, progress=progress)
    say_dequantized(source, progress)
    path = runs.tuned_path(start, table.info, planned.settings, place)
    # where another teacher's run would look, too: it must not go on from this one, nor start over without a word
    begun = runs.unfinished_path(start, table.info, planned.settings_of_any_teacher, place)
    unfinished = ResumeFile(begun, {"settings": planned.settings, "versions": versions()})
    seconds_before = 0.0

    def fit(report: Callable[[Evaluation], None]) -> Artifact:
        nonlocal seconds_before
        state = unfinished.load(resume=resume, overwrite=overwrite)
        made = _tuned(planned, table, place_of_model, state, unfinished.save, report, progress)
        seconds_before = float(state.evaluations[-1]["seconds"]) if state else 0.0
        return made

    stored = runs.produce(
        planned,
        table.info,
        path,
        fit,
        overwrite=overwrite,
        reports=_HISTORY,
        spent=lambda: seconds_before,
    )
    unfinished.remove()
    return Tuned(path, stored.description, stored.fresh, stored.seconds, _evaluations(path))


def _tuned(
    plan: Plan,
    table: Table,
    place: torch.device | DeviceMap,
    state: ResumeState | None,
    keep: Callable[[ResumeState], None],
    report: Callable[[Evaluation], None],
    progress: Progress,
) -> Artifact:
    """Train to the end, from `state` if there is one; `keep` is handed the state after each evaluation."""
    examples = data.held_out_examples(plan.held_out, plan.config.seed, progress)
    if next(plan.train.stream(plan.config.seed), None) is None:
        raise EvaluationError(f"{plan.train.texts.name} has nothing to train on before its last {data.HELD_OUT:.0%}")
    plan.train.tell_left_out(progress)
    training = Training(plan, examples, table.weight, place)
    if state:
        try:
            training.restore(state)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise OutputError("what an interrupted run left does not fit: start over with `overwrite`") from error
    for evaluation in training.evaluations:
        report(evaluation)
    progress.stage("tuning", plan.config.steps)
    progress.advance(training.step)
    for evaluation in training.run(progress):
        report(evaluation)
        keep(training.state())
    factors = plan.artifact.factors.with_tensors({**plan.artifact.factors.tensors, **training.best})
    description = replace(
        plan.artifact.description,
        base=table.info,
        settings=plan.settings,
        distances=asdict(losses.distances(factors, table.weight)),
        written_by=__version__,
    )
    return Artifact(description, factors)


def _evaluations(path: Path) -> tuple[Evaluation, ...]:
    """Evaluations in the history of the artifact at `path`; none where they can't be read."""
    try:
        return tuple(Evaluation(**entry) for entry in runs.fit_reports(path, _HISTORY))
    except TypeError:
        return ()
