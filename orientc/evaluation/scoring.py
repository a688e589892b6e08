"""Mean loss of a language model over the tokens that a protocol scores; the one place where logits are made.

The protocols (`masked_lm`, `causal_lm`) turn a text into `Example`s, `score` runs a model over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.errors import EvaluationError
from orientc.evaluation.blocks import block_sums, piece_sums
from orientc.utils import distributed

NOT_NUMBERS = "{} are not numbers (NaN): weights are damaged, or too large for `dtype`"


@dataclass(frozen=True)
class Example:
    """One input sequence and the tokens to be predicted.

    Args:
        input_ids: Token ids, special tokens and masks in place.
        positions: Where in the sequence the model's output is scored.
        targets: The token to be predicted at each of the positions.
    """

    input_ids: list[int]
    positions: list[int]
    targets: list[int]


@dataclass(frozen=True)
class Selection:
    """What of a text is scored; `left_out` counts what is not, under the names that a record's metrics have."""

    examples: list[Example]
    left_out: dict[str, int]


@dataclass(frozen=True)
class Score:
    """Mean loss in nats per scored token, and the number of tokens scored.

    `blocks` has `tokens` and `loss`, summed over blocks of neighbours as a record has them; None where a loss is
    infinite.
    """

    loss: float
    tokens: int
    blocks: dict[str, list[float]] | None = None

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that leaves the range of a float, NaN of NaN."""
        return math.inf if self.loss > 709 else math.exp(self.loss)


@contextmanager
def logits_only_at(model: PreTrainedModel, positions: Tensor) -> Iterator[None]:
    """Within the context `model` returns logits `[positions.sum(), vocab]`, for these positions alone, row by row.

    Only the states that enter the output projection are picked; the rest of the model runs unchanged.

    Args:
        model: A model with a language-model head.
        positions: Boolean `[batch, length]`.
    """
    head: nn.Module = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][positions], *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """Right-padded `input_ids` and `attention_mask`, boolean `positions` (all `[batch, length]`), and `targets`."""
    length = max(len(example.input_ids) for example in examples)
    input_ids = torch.full((len(examples), length), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    positions = torch.zeros_like(input_ids, dtype=torch.bool)
    for row, example in enumerate(examples):
        input_ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
        attention_mask[row, : len(example.input_ids)] = 1
        positions[row, example.positions] = True
    targets = torch.tensor([target for example in examples for target in example.targets])
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "positions": positions,
        "targets": targets,
    }


def losses_of(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy in nats of each target of a collated batch, float32 `[targets]`; differentiable."""
    with logits_only_at(model, batch["positions"]):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return nn.functional.cross_entropy(logits.float(), batch["targets"], reduction="none")


def batches(examples: Sequence[Example], tokens: int, batch_size: int | None = None) -> list[list[Example]]:
    """Batches of examples of like length, the longest first.

    Args:
        examples: The examples.
        tokens: The most tokens in a batch, padding counted; a longer example is a batch of its own.
        batch_size: The most examples in a batch, where that is limited too.
    """
    return [[examples[place] for place in places] for places in _batched_places(examples, tokens, batch_size)]


def _batched_places(examples: Sequence[Example], tokens: int, batch_size: int | None) -> list[list[int]]:
    """`batches`, as the places that examples have in the order given."""
    lengths = [len(example.input_ids) for example in examples]
    found: list[list[int]] = []
    room = 0
    for place in sorted(range(len(examples)), key=lengths.__getitem__, reverse=True):
        if not room:
            found.append([])
            room = max(1, tokens // max(1, lengths[place]))
            room = min(room, batch_size or room)
        found[-1].append(place)
        room -= 1
    return found


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    tokens: int,
    batch_size: int | None = None,
    pad_id: int,
    on_batch: Callable[[int], None] | None = None,
) -> Score:
    """Mean loss over all targets of `examples`, on the device the model is on.

    The figure does not depend on the batches beyond float32 rounding. Several processes share the batches, and all
    return the figure of the whole.

    Args:
        model: A model with a language-model head.
        examples: What is scored.
        tokens, batch_size: The most of a batch, as in `batches`.
        pad_id: Token id that shorter sequences are padded with.
        on_batch: Called with the number of examples just scored.

    Raises:
        EvaluationError: There is nothing to score, or a loss is NaN: it may be infinite, but must be a number.
    """
    if not (targets := sum(len(example.targets) for example in examples)):
        raise EvaluationError("there is no token to score")
    model.eval()
    own: list[tuple[int, list[float]]] = []
    for number, places in enumerate(_batched_places(examples, tokens, batch_size)):
        if number % distributed.count() == distributed.index():
            batch = [examples[place] for place in places]
            tensors = {name: tensor.to(model.device) for name, tensor in collate(batch, pad_id).items()}
            losses = losses_of(model, tensors).double().cpu().numpy()
            ends = np.cumsum([len(example.targets) for example in batch])[:-1]
            own += zip(places, map(piece_sums, np.split(losses, ends)), strict=True)
        if on_batch:
            on_batch(len(places))
    everyones = sorted(distributed.gather(own))  # in the order of the text, whoever had which batch
    sums = [piece for _, pieces in everyones for piece in pieces]
    loss = math.fsum(sums) / targets
    if math.isnan(loss):  # in all processes alike: one that stopped alone would leave the others waiting
        raise EvaluationError(NOT_NUMBERS.format("the model's predictions"))
    counts = [piece for example in examples for piece in piece_sums(np.ones(len(example.targets)))]
    return Score(loss, targets, block_sums({"tokens": counts, "loss": sums}))
