"""Train an artifact's floats: the original model is the teacher, the model with the artifact the student.

The student shares all modules' numbers with the teacher but the table's. Of the artifact only floats train: latents, or
scales and offsets, the decoder, rows kept; codes stay. By the loss on the held-out text, of the numbers rounded to the
type they are stored in, the best state is kept, the untuned one among the candidates.
"""

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
from torch import Tensor
from transformers import PreTrainedModel

from orientc.calibration.tokenized_text import SENTENCE
from orientc.distillation import data, divergence
from orientc.distillation.divergence import Gap
from orientc.distillation.plan import Plan
from orientc.distillation.resume import ResumeState
from orientc.errors import FitError
from orientc.evaluation import perplexity
from orientc.evaluation.scoring import Example, collate
from orientc.evaluation.sentences import Sentences
from orientc.modeling.modules import CompressedTable
from orientc.modeling.swap import module_of
from orientc.models.device_map import DeviceMap, check_gradients, inputs_device
from orientc.models.fingerprint import check_unchanged
from orientc.models.source import ModelSource
from orientc.models.substitute import substitute
from orientc.models.tokens import padding_id
from orientc.utils.progress import Progress

_SMALLEST = 1e-4  # root mean square that a tensor's steps are taken relative to, at least


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on the held-out text.

    Attributes:
        step: steps trained before it.
        seconds: seconds trained before it.
        train_loss: mean loss of the steps since the last evaluation; None for the first.
        loss: loss on the held-out text, in nats where `hidden_weight` is 0.
        prediction: its divergence of predictions (see `divergence`).
        hidden: its cosine distance of hidden states, unweighted.
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
    """One run: teacher, student, optimizer, the best numbers so far and all evaluations."""

    def __init__(self, plan: Plan, held_out: Sequence[Example], place: torch.device | DeviceMap) -> None:
        self.config = plan.config
        batch_size = plan.config.batch_size
        assert batch_size
        self.batches = data.batches(plan.train, plan.config.seed, batch_size)
        self.pad_id = padding_id(plan.source)
        self.held_out = data.by_length(held_out, batch_size)
        self.teacher = _load(plan.source, plan.train.objective, place).requires_grad_(False)
        check_gradients(self.teacher)
        check_unchanged(plan.source, plan.fingerprint)
        self.student = substitute(_sharing_copy(self.teacher), plan.artifact, plan.head)
        self.gap: Callable[..., Gap] = divergence.of_language_model
        if plan.train.objective == SENTENCE:
            vectors = Sentences(plan.source).vectors(plan.source.tokenizer, inputs_device(self.teacher))
            self.gap = partial(divergence.of_sentences, pool=vectors.requires_grad_(False))
        module = module_of(self.student, plan.artifact.description.base.table)
        assert isinstance(module, CompressedTable)
        stored = plan.artifact.factors.tensors
        self.dtypes = {name: tensor.dtype for name, tensor in stored.items() if tensor.is_floating_point()}
        self.numbers = {name: module.factors.tensors[name] for name in self.dtypes}
        self.scales = {
            name: max(float(tensor.detach().square().mean().sqrt()) if tensor.numel() else 0.0, _SMALLEST)
            for name, tensor in self.numbers.items()
        }
        groups = [{"params": [tensor], "name": name} for name, tensor in self.numbers.items()]
        self.optimizer = torch.optim.Adam(groups)
        self.step, self.seconds = 0, 0.0
        self.best: dict[str, Tensor] = {}
        self.evaluations: list[Evaluation] = []

    def run(self, progress: Progress) -> Iterator[Evaluation]:
        """Train to the end; yield each evaluation when `state` has all that belongs to it."""
        batches = itertools.islice(self.batches, self.step, None)
        since, losses_since = time.perf_counter() - self.seconds, []
        if not self.evaluations:
            yield self._evaluated(None)
        while not self._ended():
            losses_since.append(self._trained(next(batches)))
            self.step += 1
            self.seconds = time.perf_counter() - since
            progress.advance(1)
            if self.step % self.config.eval_steps == 0 or self._over() >= 1:
                mean = math.fsum(losses_since) / len(losses_since)
                losses_since.clear()
                yield self._evaluated(mean)
                self.seconds = time.perf_counter() - since

    def state(self) -> ResumeState:
        """Everything that `restore` needs."""
        tensors = {f"best.{name}": tensor for name, tensor in self.best.items()}
        for name, tensor in self.numbers.items():
            tensors[f"now.{name}"] = tensor.detach().cpu()
            moments = self.optimizer.state.get(tensor, {})
            tensors |= {f"{key}.{name}": moments[key].cpu() for key in ("exp_avg", "exp_avg_sq") if key in moments}
        return ResumeState(self.step, tensors, [entry.as_dict() for entry in self.evaluations])

    def restore(self, state: ResumeState) -> None:
        """Continue from the state of an interrupted run."""
        self.step = state.step
        self.evaluations = [Evaluation(**entry) for entry in state.evaluations]
        self.seconds = self.evaluations[-1].seconds
        self.best = {name: state.tensors[f"best.{name}"] for name in self.numbers}
        with torch.no_grad():
            for name, tensor in self.numbers.items():
                tensor.copy_(state.tensors[f"now.{name}"])
                if f"exp_avg.{name}" in state.tensors:
                    moments = {key: state.tensors[f"{key}.{name}"].to(tensor) for key in ("exp_avg", "exp_avg_sq")}
                    self.optimizer.state[tensor] = {"step": torch.tensor(float(self.step)), **moments}

    def _over(self) -> float:
        """Share of the steps or minutes that is over, whichever is larger; 1 at the end."""
        minutes = self.seconds / 60 / self.config.minutes if self.config.minutes else 0.0
        return min(1.0, max(self.step / self.config.steps, minutes))

    def _ended(self) -> bool:
        least = min(range(len(self.evaluations)), key=lambda number: self.evaluations[number].loss)
        return self._over() >= 1 or len(self.evaluations) - 1 - least >= self.config.patience

    def _trained(self, examples: Sequence[Example]) -> float:
        """Take one step; return the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self.scales[group["name"]] * (1 - self._over())
        self.optimizer.zero_grad()
        loss = self._gap(examples).loss(self.config.hidden_weight)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FitError("tuning diverged, its loss is not finite: try a smaller `learning_rate`")
        loss.backward()
        self.optimizer.step()
        return value

    @torch.no_grad()
    def _evaluated(self, train_loss: float | None) -> Evaluation:
        """Evaluate the numbers as they would be stored; keep them if they are the best so far."""
        with self._as_stored():
            gaps = [self._gap(examples) for examples in self.held_out]
            prediction = math.fsum(float(gap.prediction) for gap in gaps) / sum(gap.predictions for gap in gaps)
            hidden = math.fsum(float(gap.hidden) for gap in gaps) / sum(gap.states for gap in gaps)
            loss = prediction + self.config.hidden_weight * hidden
            finite = all(bool(tensor.isfinite().all()) for tensor in self.numbers.values())
            if not (math.isfinite(loss) and finite) and not self.step:
                raise FitError("the predictions of the model or the artifact are not finite numbers: nothing to tune")
            if not (math.isfinite(loss) and finite):
                raise FitError("tuning diverged, its numbers are not finite: try a smaller `learning_rate`")
            if not self.evaluations or loss < min(entry.loss for entry in self.evaluations):
                self.best = {name: tensor.to("cpu", self.dtypes[name]) for name, tensor in self.numbers.items()}
        evaluation = Evaluation(self.step, round(self.seconds, 3), train_loss, loss, prediction, hidden)
        self.evaluations.append(evaluation)
        return evaluation

    @contextmanager
    def _as_stored(self) -> Iterator[None]:
        """Within it the student's numbers are rounded to the types they are stored in."""
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
            self.teacher, self.student, {name: tensor.to(inputs_device(self.teacher)) for name, tensor in batch.items()}
        )


def _load(source: ModelSource, objective: str, place: torch.device | DeviceMap) -> PreTrainedModel:
    if objective == SENTENCE:
        return Sentences(source).load(torch.float32, place)
    return perplexity.load(source, "float32", place)


def _sharing_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model's modules that shares all parameters and buffers with it."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
