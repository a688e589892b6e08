"""The loss of distillation: how far a student model's predictions and hidden states are from its teacher's.

*Language models*, masked, causal or of pairs. The Kullback–Leibler divergence of the student's predictions from the
teacher's (Hinton, Vinyals, Dean 2015, arXiv 1503.02531), in nats per predicted position, and `1 − cosine` of the hidden
states that enter the head, per position that has one: a masked model predicts few of its positions, and all of them
carry signal.

*Encoders without a head.* `1 − cosine` of the sentence vectors, per sentence, in the place of the divergence, and of
the last layer's hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from orientc.evaluation.scoring import PADDING, inputs_of, logits_only_at

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Gap:
    """Sums of both parts of the loss over a batch.

    Attributes:
        prediction: divergence, or cosine distance of sentence vectors; a scalar.
        hidden: cosine distance of hidden states; a scalar.
        predictions: how many predictions or sentences the first is over.
        states: how many positions the second is over.
    """

    prediction: Tensor
    hidden: Tensor
    predictions: int
    states: int

    def loss(self, hidden_weight: float) -> Tensor:
        """Mean per prediction plus `hidden_weight` times the mean per position; a differentiable scalar."""
        return self.prediction / self.predictions + hidden_weight * self.hidden / self.states


def of_language_model(teacher: PreTrainedModel, student: PreTrainedModel, batch: Batch) -> Gap:
    """The gap of a language model on a collated batch, differentiable in the student."""
    with torch.no_grad():
        wanted, wanted_states = _predicted(teacher, batch)
    found, found_states = _predicted(student, batch)
    divergence = functional.kl_div(found, wanted, reduction="sum", log_target=True)
    return _gap(divergence, len(wanted), found_states, wanted_states, batch)


def of_sentences(
    teacher: PreTrainedModel, student: PreTrainedModel, batch: Batch, *, pool: Callable[[Tensor, Tensor], Tensor]
) -> Gap:
    """The gap of an encoder without a head; `pool` makes vectors of token states and a mask, as `sentences.Vectors`."""
    mask = batch["attention_mask"]

    def states_of(model: PreTrainedModel) -> Tensor:
        states: Tensor = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        return states

    with torch.no_grad():
        wanted = states_of(teacher)
    found = states_of(student)
    vectors = _cosine_distance(pool(found, mask), pool(wanted, mask))
    return _gap(vectors, len(wanted), found, wanted, batch)


def _gap(prediction: Tensor, predictions: int, found: Tensor, wanted: Tensor, batch: Batch) -> Gap:
    there = batch["labels"] != PADDING if "labels" in batch else batch["attention_mask"].bool()
    return Gap(prediction, _cosine_distance(found[there], wanted[there]), predictions, int(there.sum()))


def _cosine_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Sum over rows of `1 − cosine`, a scalar."""
    return (1 - functional.cosine_similarity(found.float(), wanted.float(), dim=-1)).sum()


def _predicted(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probabilities `[positions, vocab]` at a batch's positions, and hidden states `[batch, length, dim]`."""
    with _head_inputs(model) as seen, logits_only_at(model, batch["positions"]):
        logits = model(**inputs_of(model, batch)).logits
    return logits.float().log_softmax(-1), seen[0]


@contextmanager
def _head_inputs(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Within it the list gets the head's input, before positions are picked."""
    seen: list[Tensor] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
