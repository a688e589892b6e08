"""Score a model uncompressed and with a compressed table, batch by batch side by side, with one copy of its weights.

Lookups decide which states meet the head, so that under *input-only* and *tied* these are the same: one pass through
the model's body serves both. For each batch there is one pass for the uncompressed model and one for the compressed
lookup; heads are then applied to their states, so many positions at a time as memory should hold logits of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.errors import EvaluationError
from orientc.evaluation.blocks import block_sums, piece_sums
from orientc.evaluation.divergence import Reference, cross_entropies, percentile
from orientc.evaluation.predictions import Predictions
from orientc.evaluation.scoring import Example, batches, collate
from orientc.modeling.modules import CompressedHead
from orientc.models.device_map import inputs_device
from orientc.models.substitute import Compressions, compressed_modules
from orientc.storage.records import ORIGINAL
from orientc.storage.sizes import INPUT_ONLY, TIED
from orientc.utils import distributed

# Logits at once; as many log-probabilities and probabilities lie beside them. Fewer at once, and a head in codes is
# decoded more often.
CPU_LOGITS = 2**24
DEVICE_LOGITS = 2**27
_OWN, _COMPRESSED = "own", "compressed"  # whose lookup states were made with
KEPT_BYTES = 256_000_000  # of the uncompressed model's states, where they are wanted again


@dataclass(frozen=True)
class Score:
    """How well a model predicts the scored tokens; each tensor has a number for each of them, in the order of the text.

    Attributes:
        losses: Cross-entropy in nats.
        divergences: KL divergence from the uncompressed model's predictions in nats, where that was asked for.
        same_top: Whether the most likely token is the uncompressed model's, 1 or 0, where that was asked for.
        counts: How many scored tokens each example has.
    """

    losses: Tensor
    divergences: Tensor | None
    same_top: Tensor | None
    counts: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """The number of tokens scored."""
        return len(self.losses)

    @cached_property
    def loss(self) -> float:
        """Mean loss in nats per scored token."""
        return _mean(self.losses)

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that leaves the range of a float, NaN of NaN."""
        return math.inf if self.loss > 709 else math.exp(self.loss)

    @property
    def divergence(self) -> dict[str, float]:
        """`kl`, `kl_p99`, `kl_max`: mean, 99th percentile and maximum in nats per token; `same_top`, a share."""
        if self.divergences is None or self.same_top is None:
            return {}
        values = self.divergences.tolist()
        return {
            "kl": _mean(self.divergences),
            "kl_p99": percentile(values, 0.99),
            "kl_max": max(values),
            "same_top": _mean(self.same_top),
        }

    @property
    def blocks(self) -> dict[str, list[float]] | None:
        """Sums over blocks of neighbours as a record has them: `tokens`, `loss`, where asked for `kl` and `same_top`.

        None where a loss or a divergence is infinite.
        """
        ends = np.cumsum(self.counts)[:-1]
        ones = torch.ones(self.tokens)
        named = {"tokens": ones, "loss": self.losses, "kl": self.divergences, "same_top": self.same_top}
        pieces = {
            name: [piece for part in np.split(values.double().numpy(), ends) for piece in piece_sums(part)]
            for name, values in named.items()
            if values is not None
        }
        return block_sums(pieces)


@dataclass(frozen=True)
class Compressed:
    """The modules of compressed tables for a model: `lookups` by name, and a head for each head policy.

    A head that is None is the model's own.
    """

    lookups: Mapping[str, nn.Module]
    heads: Mapping[str, nn.Module | None]

    @classmethod
    def of(cls, model: PreTrainedModel, tables: Compressions, policies: Sequence[str]) -> Compressed:
        """Make them for some head policies. Raises `SubstitutionError` for a model or policy they don't fit."""
        modules = compressed_modules(model, tables, TIED if TIED in policies else policies[0])
        head = model.get_output_embeddings()
        made = next((module for name, module in modules.items() if model.get_submodule(name) is head), None)
        return cls(
            {name: module for name, module in modules.items() if not isinstance(module, CompressedHead)},
            {policy: None if policy == INPUT_ONLY else made for policy in policies},
        )


Rows = dict[str, Tensor]  # of scored positions: their `places`, `targets`, and states by whose they are


class SideBySide:
    """One model and what it is scored on, for one compressed table after the other.

    The figures do not depend on batches beyond float32 rounding. Several processes share the batches, and all return
    the figures of the whole.

    Args:
        model: A model with a language-model head; it is put in evaluation mode.
        examples: What is scored, in the order of the text.
        tokens, batch_size: The most of a batch, as in `batches`.
        pad_id: Token id that shorter sequences are padded with.
        keep_states: Whether the uncompressed model's states are kept for tables to come, where memory allows.

    Raises:
        EvaluationError: There is nothing to score.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        examples: Sequence[Example],
        *,
        tokens: int,
        batch_size: int | None = None,
        pad_id: int,
        keep_states: bool = False,
    ) -> None:
        self.model = model.eval()
        self._examples, self._pad_id, self._keep = examples, pad_id, keep_states
        self._counts = tuple(len(example.targets) for example in examples)
        if not sum(self._counts):
            raise EvaluationError("there is no token to score")
        self._batches = batches([example.length for example in examples], tokens, batch_size)
        self._kept: dict[int, Tensor] = {}
        self._device = inputs_device(model)
        self._predictions = Predictions(self.model, examples[self._batches[-1][-1]].input_ids[:2])

    @torch.inference_mode()
    def score(
        self,
        compressed: Compressed | None = None,
        *,
        original: bool = True,
        kl: bool = True,
        on_batch: Callable[[int], None] | None = None,
    ) -> dict[str, Score]:
        """Score the model, and a compressed table in it.

        Args:
            compressed: The table's modules.
            original: Whether the uncompressed model is scored; its predictions are made for `kl` all the same.
            kl: Whether the table's predictions are held against the uncompressed model's.
            on_batch: Called with the number of examples that have just gone through.

        Returns:
            Scores by head policy; the uncompressed model's is "original", and the first. A loss or a divergence may be
            NaN.
        """
        heads = compressed.heads if compressed else {}
        held = kl and bool(heads)
        bodies: dict[str, Mapping[str, nn.Module]] = {_OWN: {}} if original or held else {}
        if compressed:
            bodies[_COMPRESSED] = compressed.lookups
        found: list[tuple[Tensor, dict[str, Tensor]]] = []
        for rows in self._chunks(bodies, on_batch):
            figures = self._figures(rows, heads, original=original, held=held)
            found.append((rows["places"].cpu(), {name: torch.stack(values).cpu() for name, values in figures.items()}))
        everyones = distributed.gather(found)
        return {
            name: self._score([(places, figures[name]) for places, figures in everyones])
            for name in [*([ORIGINAL] if original else []), *heads]
        }

    def _figures(
        self, rows: Rows, heads: Mapping[str, nn.Module | None], *, original: bool, held: bool
    ) -> dict[str, list[Tensor]]:
        """Losses at some positions by model, and where asked for divergences and top tokens, `[positions]` each."""
        targets, found = rows["targets"], {}
        own = self._predictions.logits(rows[_OWN]) if original or held else None
        reference = Reference(own) if held and own is not None else None
        if own is not None:
            targets = targets.to(own.device)
        if reference and original:
            found[ORIGINAL] = [reference.losses(targets)]
        elif original and own is not None:
            found[ORIGINAL] = [cross_entropies(own, targets)]
        for policy, head in heads.items():
            logits = self._predictions.logits(rows[_COMPRESSED], head)
            targets = targets.to(logits.device)
            if reference:
                losses, divergences, same_top = reference.against(logits, targets)
                found[policy] = [losses, divergences, same_top.float()]
            else:
                found[policy] = [cross_entropies(logits, targets)]
        return found

    def _score(self, parts: Sequence[tuple[Tensor, Tensor]]) -> Score:
        """Figures `[1 or 3, positions]` of parts of the scored tokens, each with their places, put in order."""
        whole = torch.empty(len(parts[0][1]), sum(self._counts))
        for places, values in parts:
            whole[:, places] = values
        losses, divergences, same_top = whole if len(whole) > 1 else (whole[0], None, None)
        return Score(losses, divergences, same_top, self._counts)

    def _chunks(
        self, bodies: Mapping[str, Mapping[str, nn.Module]], on_batch: Callable[[int], None] | None
    ) -> Iterator[Rows]:
        """States of this process's batches, so many positions at once as their logits may have.

        No chunk has positions of two batches: so they are the same whichever process has which batch.
        """
        most = CPU_LOGITS if self._device.type == "cpu" else DEVICE_LOGITS
        size = max(1, most // self.model.get_input_embeddings().num_embeddings)
        for number, batch in enumerate(self._batches):
            if number % distributed.count() == distributed.index():
                rows = self._passed(number, bodies)
                chunks = math.ceil(len(rows["places"]) / size)
                for parts in zip(*(values.chunk(max(1, chunks)) for values in rows.values()), strict=True):
                    yield dict(zip(rows, parts, strict=True))
            if on_batch:
                on_batch(len(batch))

    def _passed(self, number: int, bodies: Mapping[str, Mapping[str, nn.Module]]) -> Rows:
        """One batch through the model's body, once with each of several lookups."""
        batch = collate([self._examples[index] for index in self._batches[number]], self._pad_id)
        tensors = {name: tensor.to(self._device) for name, tensor in batch.items()}
        rows = {"places": self._places(number), "targets": tensors["targets"]}
        for name, lookups in bodies.items():
            kept = self._kept.get(number) if name == _OWN else None
            rows[name] = self._predictions.states(tensors, lookups) if kept is None else kept
            if name == _OWN and kept is None and self._keep:
                self._remember(number, rows[name])
        return rows

    def _remember(self, number: int, states: Tensor) -> None:
        """Keep the uncompressed model's states of a batch, if all of them have room."""
        if states[:1].nbytes * sum(self._counts) <= KEPT_BYTES * distributed.count():
            self._kept[number] = states

    def _places(self, number: int) -> Tensor:
        """Where the scored tokens of a batch stand among all of them, `[targets]`."""
        return torch.cat([torch.arange(*self._spans[index]) for index in self._batches[number]])

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        return [*pairwise([0, *accumulate(self._counts)])]


def _mean(values: Tensor) -> float:
    return math.fsum(values.tolist()) / len(values)
