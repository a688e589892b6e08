"""A language model in two steps: the states that enter its head, and the logits made of them.

So that several heads can be applied to the same states, and logits of no more positions at once than memory should
hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.evaluation.scoring import inputs_of
from orientc.models.device_map import inputs_device
from orientc.models.substitute import swapped


class _HeadReached(Exception):
    """Ends a forward pass where its head begins; it carries the states that enter there."""

    def __init__(self, states: Tensor) -> None:
        self.states = states


class Predictions:
    """States and logits of one model.

    Args:
        model: A model with a language-model head, in evaluation mode.
        ids: Token ids that make a valid input, a few: the model is run on them to see what it does with logits.
    """

    def __init__(self, model: PreTrainedModel, ids: Sequence[int]) -> None:
        self.model = model
        asked = torch.tensor([[*ids]], device=inputs_device(model))
        self._asked = {"input_ids": asked, "attention_mask": torch.ones_like(asked)}
        if model.config.is_encoder_decoder:
            self._asked["decoder_input_ids"] = asked
        self._head: nn.Module = model.get_output_embeddings()

    def states(self, batch: Mapping[str, Tensor], modules: Mapping[str, nn.Module]) -> Tensor:
        """The states that enter the head at a batch's positions, `[positions.sum(), dim]`, row by row.

        Where the model uses its head's weight without calling it, these are its logits `[positions.sum(), vocab]`.

        Args:
            batch: As `collate` makes it.
            modules: Modules to be in the place of the model's, by name.
        """

        def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            raise _HeadReached(inputs[0][batch["positions"].to(inputs[0].device)])

        inputs = inputs_of(self.model, batch)
        with swapped(self.model, modules):
            handle = self._head.register_forward_pre_hook(stop)
            try:
                logits: Tensor = self.model(**inputs).logits
            except _HeadReached as reached:
                return reached.states
            finally:
                handle.remove()
        return logits[batch["positions"]]

    def logits(self, states: Tensor, head: nn.Module | None = None) -> Tensor:
        """The model's logits at some positions, float32 `[positions, vocab]`; nothing else refers to them.

        Args:
            states: What `states` gave, or some rows of it.
            head: A module to be in the place of the model's head; that one itself unless given.
        """
        if self._after_head is None:
            return states.to(torch.float32, copy=True)
        if not self._after_head:
            made: Tensor = (head or self._head)(states)
            return made.float()
        # what follows the head is the model's own affair: it runs on a few tokens, whose states give way to these
        with swapped(self.model, {self._head_name: head} if head else {}):
            used = head or self._head
            handle = used.register_forward_pre_hook(lambda _, inputs: (states, *inputs[1:]))
            try:
                found: Tensor = self.model(**self._asked).logits
            finally:
                handle.remove()
        return found.float()

    @cached_property
    def _after_head(self) -> bool | None:
        """Whether the model changes what its head gives, as by a soft cap; None where it does not call its head."""
        made: list[Tensor] = []
        handle = self._head.register_forward_hook(lambda _module, _inputs, output: made.append(output))
        try:
            logits = self.model(**self._asked).logits
        finally:
            handle.remove()
        return not torch.equal(made[0].float(), logits.float()) if made else None

    @property
    def _head_name(self) -> str:
        names: dict[nn.Module, str] = {module: name for name, module in self.model.named_modules()}
        return names[self._head]
