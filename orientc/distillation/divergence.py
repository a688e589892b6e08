"""How far a model is from the one it was made from, on the same input: what distillation makes smaller.

*Language models.* The Kullback–Leibler divergence of the student's predictions from the teacher's (Hinton, Vinyals,
Dean 2015, arXiv 1503.02531), in nats per predicted position, and `1 − cosine` of the states that meet the head, per
input position: of a masked model's positions few are predicted, and all of them say something.

*Encoders without a head.* `1 − cosine` of the sentence vectors, per sentence, in the place of the divergence; the
states are those of the last layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from orientc.evaluation.scoring import logits_only_at
from orientc.evaluation.similarity import pool

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Gap:
    """How far a student is from its teacher: sums, scalars, over `predictions` predictions and `states` positions."""

    prediction: Tensor
    hidden: Tensor
    predictions: int
    states: int

    def loss(self, hidden_weight: float) -> Tensor:
        """The mean per prediction, and `hidden_weight` times that per position; a scalar, differentiable."""
        return self.prediction / self.predictions + hidden_weight * self.hidden / self.states


def of_language_model(teacher: PreTrainedModel, student: PreTrainedModel, batch: Batch) -> Gap:
    """The gap of a masked or causal language model on a collated batch, differentiable in the student."""
    with torch.no_grad():
        wanted, wanted_states = _predicted(teacher, batch)
    found, found_states = _predicted(student, batch)
    divergence = functional.kl_div(found, wanted, reduction="sum", log_target=True)
    return _gap(divergence, len(wanted), found_states, wanted_states, batch)


def of_sentences(teacher: PreTrainedModel, student: PreTrainedModel, batch: Batch, *, pooling: str) -> Gap:
    """The gap of an encoder without a head; `pooling` as `evaluate.similarity.pool` has it."""
    mask = batch["attention_mask"]

    def states_of(model: PreTrainedModel) -> Tensor:
        states: Tensor = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        return states

    with torch.no_grad():
        wanted = states_of(teacher)
    found = states_of(student)
    vectors = _turn(pool(found, mask, pooling), pool(wanted, mask, pooling))
    return _gap(vectors, len(wanted), found, wanted, batch)


def _gap(prediction: Tensor, predictions: int, found: Tensor, wanted: Tensor, batch: Batch) -> Gap:
    there = batch["attention_mask"].bool()
    return Gap(prediction, _turn(found[there], wanted[there]), predictions, int(there.sum()))


def _turn(found: Tensor, wanted: Tensor) -> Tensor:
    """Sum over rows of `1 − cosine`."""
    return (1 - functional.cosine_similarity(found.float(), wanted.float(), dim=-1)).sum()


def _predicted(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[positions, vocab]` at a batch's positions; the head's states `[batch, length, dim]`."""
    with _meeting_head(model) as seen, logits_only_at(model, batch["positions"]):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits.float().log_softmax(-1), seen[0]


@contextmanager
def _meeting_head(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Within it the list gets what goes into the output projection, before positions are picked."""
    seen: list[Tensor] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
