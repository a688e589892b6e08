"""Tune an artifact: its floats are trained until the model with it says again what the original model says.

The original model is the teacher, a copy that shares all its numbers but the table is the student, and of that only the
artifact's floats train: latents, or scales, offsets and codebooks, the decoder, rows kept. Codes stay as they are. The
text's last part is held out: by the loss on it, of the numbers as they would be stored, the best state is kept, the
untuned one among the candidates, and training ends where nothing is gained any more.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from orientc import agreement, calibrating, demo, processes, runs
from orientc._version import __version__
from orientc.agreement import Gap
from orientc.arguments import Subject, subject
from orientc.artifact import Artifact
from orientc.devices import pick_device
from orientc.errors import EvaluationError, FitError, OutputError, UsageError
from orientc.evaluate import perplexity, texts
from orientc.evaluate.progress import Progress
from orientc.evaluate.scoring import Example, collate
from orientc.evaluate.subjects import check_base
from orientc.evaluate.texts import Text
from orientc.files import file_sha256
from orientc.methods import losses
from orientc.models import DEMO, ModelSource
from orientc.modules import CompressedTable
from orientc.passages import CAUSAL, MASKED, SENTENCE, Passages
from orientc.resumption import SUFFIX, State, Unfinished
from orientc.runs import Stored
from orientc.sizes import INPUT_ONLY, TIED, UNTIED
from orientc.substitution import head_policies, substitute
from orientc.tables import Table, read_table
from orientc.versions import versions

HEADS = (TIED, INPUT_ONLY, UNTIED)
REPORTS = "evaluations"  # what a history calls them
HELD_OUT = 0.05  # of a text's characters
FEWEST = 256  # tokens held out; by fewer nothing can be told
MOST = 8192  # tokens held out: more would take long, and tell little more
_BATCH = {MASKED: 32, CAUSAL: 4, SENTENCE: 32}
_POOL = 16  # batches put together at a time, of examples of like length
_SMALLEST = 1e-4  # root mean square that a tensor's steps are taken relative to, at least


@dataclass(frozen=True)
class Settings:
    """What may be asked for.

    Training ends after `steps`, or after `minutes` if these are over first, and where the loss on the held-out text has
    not been lower for `patience` evaluations, one every `eval_steps`. `learning_rate` is relative: how far a step
    moves a tensor's numbers, in units of their root mean square; it falls linearly to 0. `hidden_weight` is that of
    the states' agreement in the loss. `batch_size` is in lines or windows, None for the objective's default. `seed`
    draws the order of the text and masks.
    """

    steps: int = 300
    minutes: float | None = None
    batch_size: int | None = None
    learning_rate: float = 1e-2
    hidden_weight: float = 1.0
    eval_steps: int = 25
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value nothing can be tuned by."""
        for name in ("steps", "batch_size", "eval_steps", "patience"):
            if (value := getattr(self, name)) is not None and not 1 <= value < 2**31:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1 (and below 2³¹), not {value}")
        for name in ("minutes", "learning_rate"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UsageError(f"--{name.replace('_', '-')} must be above 0, not {value:g}")
        if not 0 <= self.hidden_weight < math.inf:
            raise UsageError(f"--hidden-weight must be 0 or more, not {self.hidden_weight:g}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed must be from 0 to 2³² − 1, not {self.seed}")


@dataclass(frozen=True)
class Evaluation:
    """Where tuning stands after `step` steps and `seconds`.

    `loss` is that on the held-out text, `prediction` and `hidden` its two parts, unweighted (see `agreement`);
    `train_loss` the mean over the steps since the evaluation before, None for the first.
    """

    step: int
    seconds: float
    train_loss: float | None
    loss: float
    prediction: float
    hidden: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def place(device: str | None = None) -> torch.device:
    """Where tuning goes on: `device`, or accelerate's choice. Raises `UsageError` under a launcher, and as it does."""
    processes.check_alone("tuning")
    return pick_device(device)


def text_for(
    source: ModelSource, *, path: Path | None = None, dataset: str | None = None, column: str = "text"
) -> Text:
    """What an artifact is tuned on: what a model is calibrated on, and by the same arguments.

    Raises `EvaluationError` where the model can't be tuned, or for the text that its perplexity is measured on.
    """
    _check(source)
    found = calibrating.text_for(source, path=path, dataset=dataset, column=column)
    assert found
    scored = {texts.WIKITEXT_TEST_SHA256} | ({demo.evaluation_text().sha256} if source.id == DEMO else set())
    if found.sha256 in scored or found.name == texts.WIKITEXT_TEST:
        raise EvaluationError(f"{found.name} is what perplexity is measured on: tune on another text")
    return found


class Plan:
    """Tuning that is settled but not done: its full `settings` are those of the artifact it leads to.

    `head` is a head policy; None for tied where the head shares the table. Raises `UsageError` or `EvaluationError`
    where the artifact can't be tuned so.
    """

    def __init__(self, found: Subject, text: Text, settings: Settings, head: str | None = None) -> None:
        if found.artifact is None or found.path is None:
            raise UsageError("what is tuned is an artifact, which ends in .safetensors")
        _check(found.source)
        allowed = head_policies(found.source.skeleton)
        self.head = head or (TIED if TIED in allowed else UNTIED)
        if self.head not in allowed:
            raise EvaluationError(f"the head of {found.source.id} can be {' or '.join(allowed)}, not {self.head}")
        self.source, self.artifact, self.text = found.source, found.artifact, text
        parts = _parted(text.content)
        self.passages, self.held_out = (Passages(found.source, part) for part in parts)
        batch_size = settings.batch_size or _BATCH[self.passages.objective]
        self.asked = replace(settings, batch_size=batch_size)
        own = {name: value for name, value in asdict(self.asked).items() if value is not None}
        own |= {"from_sha256": file_sha256(found.path), "head": self.head}
        own |= {"text": text.name, "text_sha256": text.sha256, **self.passages.settings}
        untuned = {
            name: value for name, value in self.artifact.description.settings.items() if not name.startswith("tuned_")
        }
        self.settings: dict[str, Any] = untuned | {f"tuned_{name}": value for name, value in own.items()}

    def run(
        self,
        table: Table,
        *,
        device: torch.device,
        state: State | None = None,
        keep: Callable[[State], None] | None = None,
        progress: Progress | None = None,
        on_evaluation: Callable[[Evaluation], None] | None = None,
    ) -> Artifact:
        """Tune. `table` is the model's; `state` is what an interrupted run has left, `keep` is handed such.

        `on_evaluation` is told of each evaluation, of those up to `state` too. Raises `EvaluationError` for a text with
        too little in it, `FitError` where numbers that are not finite come out, `OutputError` for a state that does
        not fit.
        """
        progress = progress or Progress()
        examples, positions = self.held_out.examples(MOST, self.asked.seed)
        if positions < FEWEST:
            raise EvaluationError(
                f"{self.text.name} has too little text: its last {HELD_OUT:.0%}, held out, gives {positions} tokens, "
                f"at least {FEWEST} are needed"
            )
        if next(self.passages.stream(self.asked.seed), None) is None:
            raise EvaluationError(f"{self.text.name} has nothing to train on before its last {HELD_OUT:.0%}")
        tuning = _Tuning(self, examples, device)
        if state:
            try:
                tuning.restore(state)
            except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
                raise OutputError("what an interrupted run left does not fit: start over with --overwrite") from error
        tell = on_evaluation or (lambda _: None)
        for report in tuning.reports:
            tell(report)
        progress.stage("tuning", self.asked.steps)
        progress.advance(tuning.step)
        for report in tuning.go_on(progress):
            tell(report)
            if keep:
                keep(tuning.state())
        factors = self.artifact.factors.with_tensors({**self.artifact.factors.tensors, **tuning.best})
        description = replace(
            self.artifact.description,
            settings=self.settings,
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
    unless `force`, and as `Plan.run`, `runs.produce` and `Unfinished.last` do.
    """
    progress = progress or Progress()
    table = read_table(plan.source)
    check_base(plan.artifact, table.info, force=force, progress=progress)
    unfinished = Unfinished(path.with_name(path.name + SUFFIX), {"settings": plan.settings, "versions": versions()})
    before: list[State] = []

    def tuned(report: Callable[[Evaluation], None]) -> Artifact:
        state = unfinished.last(resume=resume, overwrite=overwrite)
        before.extend([state] if state else [])
        return plan.run(
            table, device=device, state=state, keep=unfinished.save, progress=progress, on_evaluation=report
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
        text = text_for(found.source, path=Path(text) if text is not None else None)
    plan = Plan(found, text, settings or Settings(), head)
    table = read_table(plan.source)
    plan.artifact.check_base(table.info.sha256)
    return plan.run(table, device=chosen, progress=progress, on_evaluation=on_evaluation)


class _Tuning:
    """Teacher, student, and how far the student has come."""

    def __init__(self, plan: Plan, held_out: Sequence[Example], device: torch.device) -> None:
        self.asked, self.passages = plan.asked, plan.passages
        self.pad_id = plan.source.tokenizer.pad_token_id or 0
        self.held_out = _by_length(held_out, plan.asked.batch_size or 1)
        self.teacher = _load(plan.source, plan.passages.objective, device).requires_grad_(False)
        self.student = substitute(_sharing_copy(self.teacher), plan.artifact, plan.head)
        self.gap: Callable[..., Gap] = agreement.of_language_model
        if plan.passages.objective == SENTENCE:
            self.gap = partial(agreement.of_sentences, pooling=plan.passages.settings["pooling"])
        stand_in = self.student.get_input_embeddings()
        assert isinstance(stand_in, CompressedTable)
        stored = plan.artifact.factors.tensors
        self.dtypes = {name: tensor.dtype for name, tensor in stored.items() if tensor.is_floating_point()}
        self.numbers = {name: stand_in.factors.tensors[name] for name in self.dtypes}
        self.scales = {
            name: max(float(tensor.detach().square().mean().sqrt()) if tensor.numel() else 0.0, _SMALLEST)
            for name, tensor in self.numbers.items()
        }
        groups = [{"params": [tensor], "name": name} for name, tensor in self.numbers.items()]
        self.optimizer = torch.optim.Adam(groups)
        self.step, self.seconds = 0, 0.0
        self.best: dict[str, Tensor] = {}
        self.reports: list[Evaluation] = []

    def go_on(self, progress: Progress) -> Iterator[Evaluation]:
        """Train to the end, and report each evaluation once the state it belongs to is whole."""
        batches = itertools.islice(
            _batches(self.passages, self.asked.seed, self.asked.batch_size or 1), self.step, None
        )
        since, losses_since = time.perf_counter() - self.seconds, []
        if not self.reports:
            yield self._evaluated(None)
        while not self._ended():
            losses_since.append(self._trained(next(batches)))
            self.step += 1
            self.seconds = time.perf_counter() - since
            progress.advance(1)
            if self.step % self.asked.eval_steps == 0 or self._over() >= 1:
                mean = math.fsum(losses_since) / len(losses_since)
                losses_since.clear()
                yield self._evaluated(mean)
                self.seconds = time.perf_counter() - since

    def state(self) -> State:
        """All that `restore` needs."""
        tensors = {f"best.{name}": tensor for name, tensor in self.best.items()}
        for name, tensor in self.numbers.items():
            tensors[f"now.{name}"] = tensor.detach().cpu()
            moments = self.optimizer.state.get(tensor, {})
            tensors |= {f"{key}.{name}": moments[key].cpu() for key in ("exp_avg", "exp_avg_sq") if key in moments}
        return State(self.step, tensors, [report.as_dict() for report in self.reports])

    def restore(self, state: State) -> None:
        """Go back to where a run was."""
        self.step = state.step
        self.reports = [Evaluation(**entry) for entry in state.reports]
        self.seconds = self.reports[-1].seconds
        self.best = {name: state.tensors[f"best.{name}"] for name in self.numbers}
        with torch.no_grad():
            for name, tensor in self.numbers.items():
                tensor.copy_(state.tensors[f"now.{name}"])
                if f"exp_avg.{name}" in state.tensors:
                    moments = {key: state.tensors[f"{key}.{name}"].to(tensor) for key in ("exp_avg", "exp_avg_sq")}
                    self.optimizer.state[tensor] = {"step": torch.tensor(float(self.step)), **moments}

    def _over(self) -> float:
        """The share of what was asked for that is over; 1 at the end."""
        minutes = self.seconds / 60 / self.asked.minutes if self.asked.minutes else 0.0
        return min(1.0, max(self.step / self.asked.steps, minutes))

    def _ended(self) -> bool:
        least = min(range(len(self.reports)), key=lambda number: self.reports[number].loss)
        return self._over() >= 1 or len(self.reports) - 1 - least >= self.asked.patience

    def _trained(self, examples: Sequence[Example]) -> float:
        """One step; the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.asked.learning_rate * self.scales[group["name"]] * (1 - self._over())
        self.optimizer.zero_grad()
        loss = self._gap(examples).loss(self.asked.hidden_weight)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FitError("tuning went astray, the loss is not finite: try a smaller --learning-rate")
        loss.backward()
        self.optimizer.step()
        return value

    @torch.no_grad()
    def _evaluated(self, train_loss: float | None) -> Evaluation:
        """Score the numbers as they would be stored; keep them where they are the best so far."""
        with self._as_stored():
            gaps = [self._gap(examples) for examples in self.held_out]
            prediction = math.fsum(float(gap.prediction) for gap in gaps) / sum(gap.predictions for gap in gaps)
            hidden = math.fsum(float(gap.hidden) for gap in gaps) / sum(gap.states for gap in gaps)
            loss = prediction + self.asked.hidden_weight * hidden
            finite = all(bool(tensor.isfinite().all()) for tensor in self.numbers.values())
            if not (math.isfinite(loss) and finite):
                raise FitError("numbers come out that are not finite: try a smaller --learning-rate")
            if not self.reports or loss < min(report.loss for report in self.reports):
                self.best = {name: tensor.to("cpu", self.dtypes[name]) for name, tensor in self.numbers.items()}
        report = Evaluation(self.step, round(self.seconds, 3), train_loss, loss, prediction, hidden)
        self.reports.append(report)
        return report

    @contextmanager
    def _as_stored(self) -> Iterator[None]:
        """Within it the student computes with the numbers that an artifact would have."""
        exact = {name: tensor.clone() for name, tensor in self.numbers.items()}
        for name, tensor in self.numbers.items():
            tensor.copy_(tensor.to(self.dtypes[name]))
        try:
            yield
        finally:
            for name, tensor in self.numbers.items():
                tensor.copy_(exact[name])

    def _gap(self, examples: Sequence[Example]) -> Gap:
        batch = collate(examples, self.pad_id)
        return self.gap(
            self.teacher, self.student, {name: tensor.to(self.teacher.device) for name, tensor in batch.items()}
        )


def _check(source: ModelSource) -> None:
    if source.config.is_encoder_decoder:
        raise EvaluationError(f"{source.id} is an encoder-decoder, whose artifacts can't be tuned")


def _parted(text: str) -> tuple[str, str]:
    """A text cut in two, the held-out part last: at a line's end, or between words where there is one line."""
    at = int(len(text) * (1 - HELD_OUT))
    for sign in ("\n", " "):
        if (found := text.rfind(sign, 0, at)) > at / 2:
            return text[:found], text[found + 1 :]
    return text[:at], text[at:]


def _load(source: ModelSource, objective: str, device: torch.device) -> PreTrainedModel:
    if objective == SENTENCE:
        return source.load(transformers.AutoModel, dtype=torch.float32, new_head=True).to(device)
    return perplexity.load(source, "float32", device)


def _sharing_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A model of modules of its own and the very numbers of another."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def _by_length(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Batches of examples of like length."""
    ordered = sorted(examples, key=lambda example: len(example.input_ids), reverse=True)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _batches(passages: Passages, seed: int, size: int) -> Iterator[list[Example]]:
    """Batches without end; each pass over the text has its own order and masks. None where there are no examples."""
    for number in itertools.count():
        examples, rng, some = passages.stream(seed + number), random.Random(f"{seed}:{number}"), False
        while pool := list(itertools.islice(examples, size * _POOL)):
            some = True
            batches = _by_length(pool, size)
            rng.shuffle(batches)
            yield from batches
        if not some:
            return
