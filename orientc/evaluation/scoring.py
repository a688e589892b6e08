"""What a protocol scores, in batches, and the loss of a batch.

The protocols (`masked_lm`, `causal_lm`, `seq2seq`) turn a text into `Example`s, `side_by_side` runs a model over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from orientc.errors import EvaluationError
from orientc.utils.messages import first_line

NOT_NUMBERS = "{} are not numbers (NaN): weights are damaged, or too large for `dtype`"
PADDING = -100  # of labels, as transformers has it


@dataclass(frozen=True)
class Example:
    """One input sequence and the tokens to be predicted.

    Args:
        input_ids: Token ids, special tokens and masks in place.
        positions: Where in the sequence the model's output is scored.
        targets: The token to be predicted at each of the positions.
        decoded: Whether a decoder writes the targets, all of them a text, and the positions are that text's.
    """

    input_ids: list[int]
    positions: list[int]
    targets: list[int]
    decoded: bool = False

    @property
    def length(self) -> int:
        """How many tokens go through the model."""
        return len(self.input_ids) + (len(self.targets) if self.decoded else 0)


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
    handle = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][positions.to(inputs[0].device)], *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """Right-padded `input_ids` and `attention_mask`, boolean `positions` (all `[batch, length]`), and `targets`.

    Where a decoder writes the targets there are `labels` `[batch, target length]` too, padded with -100, and
    `positions` are theirs.
    """
    length = max(len(example.input_ids) for example in examples)
    input_ids = torch.full((len(examples), length), pad_id)
    attention_mask = torch.zeros_like(input_ids)
    decoded = examples[0].decoded
    labels = torch.full((len(examples), max(len(example.targets) for example in examples)), PADDING)
    positions = torch.zeros_like(labels if decoded else input_ids, dtype=torch.bool)
    for row, example in enumerate(examples):
        input_ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
        attention_mask[row, : len(example.input_ids)] = 1
        positions[row, example.positions] = True
        labels[row, : len(example.targets)] = torch.tensor(example.targets)
    targets = torch.tensor([target for example in examples for target in example.targets])
    batch = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "positions": positions,
        "targets": targets,
    }
    return batch | ({"labels": labels} if decoded else {})


def inputs_of(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What of a collated batch goes into a model: ids and mask, and a decoder's ids, as the model makes them."""
    found = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return found | ({"decoder_input_ids": decoder_inputs(model, batch["labels"])} if "labels" in batch else {})


def decoder_inputs(model: PreTrainedModel, labels: Tensor) -> Tensor:
    """The ids that a model's decoder reads where it is to write `labels`, as the model makes them of those.

    That is another function in each architecture, and some have no name for it. So the model is run on the labels until
    they reach its decoder, behind an encoder that is not run.

    Args:
        model: An encoder-decoder; it may be on the meta device.
        labels: `[batch, length]`, padded with -100.
    """

    class Reached(Exception):
        """Ends the forward pass."""

    seen: list[Tensor] = []

    def stop(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append(named["input_ids"] if "input_ids" in named else arguments[0])
        raise Reached

    handle = model.get_decoder().register_forward_pre_hook(stop, with_kwargs=True)
    nothing = BaseModelOutput(last_hidden_state=torch.zeros(len(labels), 1, 1, device=labels.device))
    try:
        model(encoder_outputs=nothing, attention_mask=torch.ones_like(labels[:, :1]), labels=labels)
    except Reached:
        return seen[0]
    except (AttributeError, ValueError) as error:
        reason = first_line(error)
        raise EvaluationError(f"{type(model).__name__} makes no input for its decoder of labels: {reason}") from error
    finally:
        handle.remove()
    raise EvaluationError(f"{type(model).__name__} makes no input for its decoder of labels")


def losses_of(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy in nats of each target of a collated batch, float32 `[targets]`; differentiable."""
    with logits_only_at(model, batch["positions"]):
        logits = model(**inputs_of(model, batch)).logits
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
