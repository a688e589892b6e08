"""Teacher and student: the original model, and a copy that shares all its numbers but the table's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from orientc.calibration.tokenized_text import SENTENCE
from orientc.distillation import divergence
from orientc.distillation.divergence import Gap
from orientc.distillation.moving_codes import TrellisTrainable
from orientc.distillation.plan import Plan
from orientc.distillation.trainable import Trainable
from orientc.evaluation import perplexity
from orientc.evaluation.scoring import Example, collate
from orientc.evaluation.sentences import Sentences
from orientc.methods.table_rows import TableRows
from orientc.modeling.layout import TRELLIS
from orientc.modeling.modules import CompressedTable, table_of
from orientc.modeling.swap import module_of
from orientc.models.device_map import DeviceMap, check_gradients, inputs_device
from orientc.models.fingerprint import check_unchanged
from orientc.models.source import ModelSource
from orientc.models.substitute import substitute
from orientc.models.tokens import padding_id


class Pair:
    """The original model, and the same with the artifact in training.

    Args:
        plan: What is tuned.
        table: The original table `[vocab, dim]`.
        place: Where the models run.

    Attributes:
        trainable: What trains.
    """

    def __init__(self, plan: Plan, table: TableRows, place: torch.device | DeviceMap) -> None:
        self._pad_id = padding_id(plan.source)
        self._teacher = _load(plan.source, plan.train.objective, place).requires_grad_(False)
        check_gradients(self._teacher)
        check_unchanged(plan.source, plan.fingerprint)
        self._gap: Callable[..., Gap] = divergence.of_language_model
        if plan.train.objective == SENTENCE:
            vectors = Sentences(plan.source).vectors(plan.source.tokenizer, inputs_device(self._teacher))
            self._gap = partial(divergence.of_sentences, pool=vectors.requires_grad_(False))
        factors, name = plan.artifact.factors, plan.artifact.description.base.table
        original = module_of(self._teacher, name)
        assert original is not None
        device = table_of(original).device
        coded = factors.layout.codec == TRELLIS
        self.trainable = TrellisTrainable(factors, device, table) if coded else Trainable(factors, device)
        beside = {each.description.base.table: each.factors for each in plan.beside}
        tables = {name: self.trainable.student} | beside
        self._student = substitute(_sharing_copy(self._teacher), tables, plan.head)
        for other in beside:
            fixed = module_of(self._student, other)
            assert fixed is not None
            fixed.requires_grad_(False)
        module = module_of(self._student, name)
        assert isinstance(module, CompressedTable)
        tensors = module.factors.tensors
        self._parameters = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}

    def gap(self, examples: Sequence[Example]) -> Gap:
        """The gap between both on some examples, differentiable in what the student holds."""
        batch = collate(examples, self._pad_id)
        device = inputs_device(self._teacher)
        return self._gap(self._teacher, self._student, {name: tensor.to(device) for name, tensor in batch.items()})

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients to those of what trains."""
        loss.backward()
        self.trainable.pass_on(self._parameters)

    def update(self) -> None:
        """Give the student what would be stored of what trains now."""
        self.trainable.write(self._parameters)


def _load(source: ModelSource, objective: str, place: torch.device | DeviceMap) -> PreTrainedModel:
    if objective == SENTENCE:
        return Sentences(source).load(torch.float32, place)
    return perplexity.load(source, "float32", place)


def _sharing_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model's modules that shares all parameters and buffers with it."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})
