"""Train an artifact: the original model is the teacher, the model with the artifact the student.

By the loss on the held-out text, of the numbers as they would be stored, the best state is kept, the untuned one among
the candidates.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from orientc.distillation import data
from orientc.distillation.pair import Pair
from orientc.distillation.plan import Plan
from orientc.distillation.resume import ResumeState
from orientc.errors import FitError
from orientc.evaluation.scoring import Example
from orientc.methods.table_rows import TableRows
from orientc.models.device_map import DeviceMap
from orientc.utils.progress import Progress


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
    """One run: teacher and student, optimizer, the best state so far and all evaluations."""

    def __init__(
        self, plan: Plan, held_out: Sequence[Example], table: TableRows, place: torch.device | DeviceMap
    ) -> None:
        self.config = plan.config
        batch_size = plan.config.batch_size
        assert batch_size
        self.batches = data.batches(plan.train, plan.config.seed, batch_size)
        self.held_out = data.by_length(held_out, batch_size)
        self.pair = Pair(plan, table, place)
        self.trainable = self.pair.trainable
        self.optimizer = torch.optim.Adam(self.trainable.shadows.values())
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
                if self.trainable.move_codes():
                    self.pair.update()
                yield self._evaluated(mean)
                self.seconds = time.perf_counter() - since

    def state(self) -> ResumeState:
        """Everything that `restore` needs."""
        tensors = {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"own.{name}": tensor for name, tensor in self.trainable.state().items()}
        for name, shadow in self.trainable.shadows.items():
            tensors[f"now.{name}"] = shadow.detach().cpu()
            moments = self.optimizer.state.get(shadow, {})
            tensors |= {f"{key}.{name}": moments[key].cpu() for key in ("exp_avg", "exp_avg_sq") if key in moments}
        return ResumeState(self.step, tensors, [entry.as_dict() for entry in self.evaluations])

    def restore(self, state: ResumeState) -> None:
        """Continue from the state of an interrupted run."""
        self.step = state.step
        self.evaluations = [Evaluation(**entry) for entry in state.evaluations]
        self.seconds = self.evaluations[-1].seconds
        self.best = {name: state.tensors[f"best.{name}"] for name in self.trainable.stored()}
        own = {name.removeprefix("own."): tensor for name, tensor in state.tensors.items() if name.startswith("own.")}
        self.trainable.restore(own)
        with torch.no_grad():
            for name, shadow in self.trainable.shadows.items():
                shadow.copy_(state.tensors[f"now.{name}"])
                if f"exp_avg.{name}" in state.tensors:
                    moments = {key: state.tensors[f"{key}.{name}"].to(shadow) for key in ("exp_avg", "exp_avg_sq")}
                    self.optimizer.state[shadow] = {"step": torch.tensor(float(self.step)), **moments}
        self.pair.update()

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
            group["lr"] = self.config.learning_rate * (1 - self._over())
        self.optimizer.zero_grad()
        loss = self.pair.gap(examples).loss(self.config.hidden_weight)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FitError("tuning diverged, its loss is not finite: try a smaller `learning_rate`")
        self.pair.backward(loss)
        self.optimizer.step()
        self.pair.update()
        return value

    @torch.no_grad()
    def _evaluated(self, train_loss: float | None) -> Evaluation:
        """Evaluate what would be stored; keep it if it is the best so far."""
        gaps = [self.pair.gap(examples) for examples in self.held_out]
        prediction = math.fsum(float(gap.prediction) for gap in gaps) / sum(gap.predictions for gap in gaps)
        hidden = math.fsum(float(gap.hidden) for gap in gaps) / sum(gap.states for gap in gaps)
        loss = prediction + self.config.hidden_weight * hidden
        finite = math.isfinite(loss) and self.trainable.finite
        if not finite and not self.step:
            raise FitError("the predictions of the model or the artifact are not finite numbers: nothing to tune")
        if not finite:
            raise FitError("tuning diverged, its numbers are not finite: try a smaller `learning_rate`")
        if not self.evaluations or loss < min(entry.loss for entry in self.evaluations):
            self.best = self.trainable.stored()
        evaluation = Evaluation(self.step, round(self.seconds, 3), train_loss, loss, prediction, hidden)
        self.evaluations.append(evaluation)
        return evaluation
