"""Teacher and student: the steps that bring them together, and how far they have come."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from orientc.calibration.tokenized_text import SENTENCE
from orientc.distillation import data, divergence
from orientc.distillation.divergence import Gap
from orientc.distillation.plan import Plan
from orientc.distillation.resume import State
from orientc.errors import FitError
from orientc.evaluation import perplexity
from orientc.evaluation.scoring import Example, collate
from orientc.modeling.modules import CompressedTable
from orientc.models.source import ModelSource
from orientc.models.substitute import substitute
from orientc.utils.progress import Progress

_SMALLEST = 1e-4  # root mean square that a tensor's steps are taken relative to, at least


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


class Training:
    """Teacher, student, and how far the student has come."""

    def __init__(self, plan: Plan, held_out: Sequence[Example], device: torch.device) -> None:
        self.asked = plan.asked
        self.batches = data.batches(plan.passages, plan.asked.seed, plan.batch_size)
        self.pad_id = plan.source.tokenizer.pad_token_id or 0
        self.held_out = data.by_length(held_out, plan.batch_size)
        self.teacher = _load(plan.source, plan.passages.objective, device).requires_grad_(False)
        self.student = substitute(_sharing_copy(self.teacher), plan.artifact, plan.head)
        self.gap: Callable[..., Gap] = divergence.of_language_model
        if plan.passages.objective == SENTENCE:
            self.gap = partial(divergence.of_sentences, pooling=plan.passages.settings["pooling"])
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
        batches = itertools.islice(self.batches, self.step, None)
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


def _load(source: ModelSource, objective: str, device: torch.device) -> PreTrainedModel:
    if objective == SENTENCE:
        return source.load(transformers.AutoModel, dtype=torch.float32, new_head=True).to(device)
    return perplexity.load(source, "float32", device)


def _sharing_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A model of modules of its own and the very numbers of another."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
