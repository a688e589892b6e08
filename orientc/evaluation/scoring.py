"""What a protocol scores, in batches, and the loss of a batch.

The protocols (`masked_lm`, `causal_lm`) turn a text into `Example`s, `side_by_side` runs a model over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

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


def batches(lengths: Sequence[int], tokens: int, batch_size: int | None = None) -> list[list[int]]:
    """Batches of sequences of like length, the longest first.

    Args:
        lengths: How many tokens each sequence has.
        tokens: The most tokens in a batch, padding counted; a longer sequence is a batch of its own.
        batch_size: The most sequences in a batch, where that is limited too.

    Returns:
        The numbers of the sequences in each batch.
    """
    found: list[list[int]] = []
    room = 0
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number], reverse=True):
        if not room:
            found.append([])
            room = max(1, tokens // max(1, lengths[number]))
            room = min(room, batch_size or room)
        found[-1].append(number)
        room -= 1
    return found
