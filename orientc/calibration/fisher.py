"""Importance matrices: the Fisher information of a model's predictions with respect to its table's rows.

Let the row of token i change by δe_i. The model's predictions on an input change with it, and to second order their
Kullback–Leibler divergence from the original ones is ½ δᵀ F δ. F is the Fisher information E[∇ℓ ∇ℓᵀ] of the loss ℓ on
labels *sampled from the model's own prediction* (Amari 1998, "Natural gradient works efficiently in learning"; Martens
2020, "New insights and perspectives on the natural gradient method"; sampled labels and not the text's: Kunstner,
Balles, Hennig 2019, "Limitations of the empirical Fisher").

*M, of the lookup.* g is the gradient of ℓ, summed over an input's predicted positions, with respect to the row looked
up at one position. Assuming that changes of different tokens' rows are independent, and that a position's gradient is
independent of the token at it, the divergence per input position is `½ Σ_i F_i/ΣF · δe_iᵀ M δe_i`: M = E[g gᵀ] over
input positions, F_i the count of token i.

*H, of a tied head.* The head computes the logit z_v = h·e_v + b_v. The same expansion, rows of different tokens again
independent, is `½ Σ_v δe_vᵀ E[p_v (1 − p_v) h hᵀ] δe_v`. Assuming that which token is expected is independent of h
otherwise, with G_v for row v's sum of p_v (1 − p_v) over all positions that is `½ Σ_i G_i/ΣG · δe_iᵀ H δe_i`: H is the
sum of (1 − Σ_v p_v²) h hᵀ over predicted positions, per input position. G is F as the model expects it: tokens that a
text happens to lack are in it. M and H are in nats, and add up for a table that serves both.

*H, of a head with a table of its own.* Matrix and G are the same. Its loss adds up with the lookup's, which is in nats
per input position, too. Where a decoder looks tokens up in the head's table, H has the M of these lookups in it, as it
would be for a table that serves both.

*M, of an encoder without a head.* What is used of it is the sentence vector v, its pooled states at unit length. A
change of v counts as that of the mean of a Gaussian of unit variance: its divergence is ½ ‖δv‖² (1 − cosine, to second
order), its Fisher information JᵀJ. With u drawn from N(0, 1), g = ∇(u·v) has E[g gᵀ] = JᵀJ; M is again the mean of
g gᵀ over input positions.

*Of an encoder-decoder* M is the mean over the positions that its encoder and its decoder look up together, in the one
table that they share; H is per such position too. Where they share none, nothing of M comes from a decoder's positions.

Positions of special tokens are left out of M's mean: they are few, and unlike all others.

Inputs are dealt out to a few parts, by which `shrinkage` tells how much of a matrix to believe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.calibration import shrinkage
from orientc.calibration.forward_pass import Seen
from orientc.errors import CalibrationError
from orientc.evaluation.scoring import PADDING, Example, collate, decoder_inputs, inputs_of, logits_only_at
from orientc.methods.importance import share_of_head
from orientc.modeling.table_names import HEAD, INPUT
from orientc.models.device_map import inputs_device

Batch = dict[str, Tensor]
# gradients with respect to the looked-up rows, `[batch, length, dim]` of each lookup, and what predictions show of a
# head
Backward = Callable[[PreTrainedModel, Seen, Batch, torch.Generator], tuple[Sequence[Tensor], "_HeadSeen | None"]]


@dataclass(frozen=True)
class ImportanceMatrices:
    """M and H of this module's docstring.

    Attributes:
        input_importance: M, float32 `[dim, dim]`, symmetric, on the CPU, in nats per squared unit of the table.
        head_importance: H, the same; None where no head is compressed.
        positions: how many input positions they are the mean over.
        input_shrinkage: the share of M's diagonal in what to use of it, float32 `[]`, from 0 to 1.
        head_shrinkage: the same of H; None without one.
        head_counts: G of this module's docstring, float64 `[vocab]`, on the CPU; None where no head is compressed,
            or each of its predictions is certain.
        head_share: how much of what errors of the head's own table cost is the projection's, from 0 to 1; the rest is a
            decoder's that looks tokens up in it.
    """

    input_importance: Tensor
    head_importance: Tensor | None
    positions: int
    input_shrinkage: Tensor
    head_shrinkage: Tensor | None
    head_counts: Tensor | None
    head_share: float = 1.0

    @property
    def present(self) -> dict[str, Tensor]:
        """The matrices and their shrinkage as far as there are any, by name."""
        both = {
            "input_importance": self.input_importance,
            "head_importance": self.head_importance,
            "input_shrinkage": self.input_shrinkage,
            "head_shrinkage": self.head_shrinkage,
            "head_counts": self.head_counts,
        }
        return {name: tensor for name, tensor in both.items() if tensor is not None}


def of_language_model(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    head: bool,
    special_ids: Sequence[int],
    pad_id: int,
    seed: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> ImportanceMatrices:
    """Measure M, and H of a head that is compressed, of a language model, on the device it is on.

    Args:
        model: the model; its parameters are not changed.
        examples: inputs; labels are drawn for their `positions`, their `targets` are not used.
        head: whether the head is measured: it shares the table, or has one of its own.
        special_ids: token ids left out of M's mean.
        pad_id: token id that fills up a batch.
        seed: draws the labels.
        batch_size: examples at a time.
        on_batch: called with the number of examples just done.

    Raises:
        CalibrationError: for predictions or gradients that are not finite.
    """

    def backward(
        model: PreTrainedModel, seen: Seen, batch: Batch, generator: torch.Generator
    ) -> tuple[Sequence[Tensor], _HeadSeen | None]:
        with logits_only_at(model, batch["positions"]), seen.head(model):
            logits = model(**inputs_of(model, batch)).logits
        residual = logits.detach().float().softmax(-1)
        if not residual.isfinite().all():
            raise CalibrationError("the model's predictions are not finite numbers: their importance can't be measured")
        seen_of_head = _head_seen(seen, logits, residual) if head else None
        labels = torch.multinomial(residual, 1, generator=generator)
        residual.scatter_add_(1, labels, residual.new_full(labels.shape, -1.0))  # the loss's gradient in the logits
        return torch.autograd.grad(logits, seen.rows, residual.to(logits.dtype)), seen_of_head

    return _measured(model, examples, backward, special_ids, pad_id, seed, batch_size, on_batch)


def of_sentences(
    model: PreTrainedModel,
    sentences: Sequence[Example],
    *,
    pool: Callable[[Tensor, Tensor], Tensor],
    special_ids: Sequence[int],
    pad_id: int,
    seed: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> ImportanceMatrices:
    """Measure M of an encoder without a head by its sentence vectors.

    `pool` makes vectors `[batch, dim]` of token states `[batch, length, dim]` and a mask of them, as
    `sentences.Vectors` does; the other arguments are those of `of_language_model`.
    """

    def backward(
        model: PreTrainedModel, seen: Seen, batch: Batch, generator: torch.Generator
    ) -> tuple[Sequence[Tensor], _HeadSeen | None]:
        mask = batch["attention_mask"]
        states = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        vectors = nn.functional.normalize(pool(states.float(), mask), dim=-1)
        drawn = torch.randn(vectors.shape, generator=generator, device=vectors.device)
        return torch.autograd.grad(vectors, seen.rows, drawn), None

    return _measured(model, sentences, backward, special_ids, pad_id, seed, batch_size, on_batch)


def of_classifier(
    model: PreTrainedModel,
    texts: Sequence[Example],
    *,
    special_ids: Sequence[int],
    pad_id: int,
    seed: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> ImportanceMatrices:
    """Measure M of a classifier of whole texts by its predictions, or of a model with one output by that number.

    The arguments are those of `of_language_model`.
    """
    problem = "regression" if model.config.num_labels == 1 else model.config.problem_type

    def backward(
        model: PreTrainedModel, seen: Seen, batch: Batch, generator: torch.Generator
    ) -> tuple[Sequence[Tensor], _HeadSeen | None]:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        if not logits.isfinite().all():
            raise CalibrationError("the model's predictions are not finite numbers: their importance can't be measured")
        drawn = torch.randn(logits.shape, generator=generator, device=logits.device)
        return torch.autograd.grad(logits, seen.rows, _label_gradients(logits.detach(), drawn, problem)), None

    return _measured(model, texts, backward, special_ids, pad_id, seed, batch_size, on_batch)


def _label_gradients(logits: Tensor, drawn: Tensor, problem: str | None) -> Tensor:
    """Normal numbers with the covariance that the loss's gradients in the logits have over sampled labels."""
    if problem == "regression":
        return drawn
    if problem == "multi_label_classification":
        p = logits.sigmoid()
        return (p * (1 - p)).sqrt() * drawn
    p = logits.softmax(-1)
    return p.sqrt() * drawn - p * (p.sqrt() * drawn).sum(-1, keepdim=True)


def input_positions(input_ids: Tensor, attention_mask: Tensor, special_ids: Sequence[int]) -> Tensor:
    """Mask of the positions that M is the mean over, neither padding nor special: bool `[batch, length]`."""
    special = torch.tensor(sorted(special_ids), device=input_ids.device, dtype=input_ids.dtype)
    return attention_mask.bool() & ~torch.isin(input_ids, special)


def _measured(
    model: PreTrainedModel,
    examples: Sequence[Example],
    backward: Backward,
    special_ids: Sequence[int],
    pad_id: int,
    seed: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None,
) -> ImportanceMatrices:
    """Run `backward` on batches of examples of like length, and average what it gives over input positions."""
    model.eval()
    device = inputs_device(model)
    generator = torch.Generator(device).manual_seed(seed)
    inputs, heads, decoded, positions = _Parts(), _Parts(), _Parts(), [0] * shrinkage.PARTS
    counts: Tensor | None = None
    by_length = sorted(enumerate(examples), key=lambda entry: len(entry[1].input_ids), reverse=True)
    with _frozen(model), Seen().lookup(model) as seen:
        for start in range(0, len(by_length), batch_size):
            numbers, chosen = zip(*by_length[start : start + batch_size], strict=True)
            batch = {name: tensor.to(device) for name, tensor in collate(chosen, pad_id).items()}
            seen.clear()
            gradients, head = backward(model, seen, batch, generator)
            looked_up = _looked_up(model, batch)
            parts = torch.tensor(numbers, device=device) % shrinkage.PARTS
            for part in parts.unique().tolist():
                own = parts == part
                for (ids, mask), lookup, gradient in zip(looked_up, seen.lookups, gradients, strict=True):
                    counted = input_positions(ids, mask, special_ids) & own.unsqueeze(1)
                    positions[part] += int(counted.sum())
                    if lookup.table == INPUT:
                        inputs.add(part, lookup.scale * gradient[counted].float())
                    elif lookup.table == HEAD and head is not None:
                        decoded.add(part, lookup.scale * gradient[counted].float())
                if head is not None:
                    heads.add(part, head.states[own[batch["positions"].nonzero()[:, 0]]])
            if head is not None:
                counts = head.counts if counts is None else counts + head.counts
            if on_batch:
                on_batch(len(chosen))
    share = share_of_head(decoded.mean(positions), heads.mean(positions)) if decoded.sums else 1.0
    heads = heads.plus(decoded)
    return ImportanceMatrices(
        inputs.mean(positions),
        heads.mean(positions) if heads.sums else None,
        sum(positions),
        inputs.shrinkage(positions),
        heads.shrinkage(positions) if heads.sums else None,
        counts if counts is not None and counts.any() else None,  # none where every prediction is certain
        share,
    )


def _looked_up(model: PreTrainedModel, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """The ids that a forward pass looks up and their masks, in the order of the lookups: an encoder's, a decoder's."""
    found = [(batch["input_ids"], batch["attention_mask"])]
    if "labels" in batch:
        labels = batch["labels"]
        found.append((decoder_inputs(model, labels), (labels != PADDING).long()))
    return found


@dataclass(frozen=True)
class _HeadSeen:
    """What predictions p show of a head.

    Of each predicted position and row v there is p_v (1 − p_v) · (slope of logit v)².

    Attributes:
        states: √w · h, w the sum over all rows, `[predicted, dim]`.
        counts: The sum over all positions, float64 `[vocab]`, on the CPU.
    """

    states: Tensor
    counts: Tensor


def _head_seen(seen: Seen, logits: Tensor, p: Tensor) -> _HeadSeen:
    variances = (p * (1 - p)).clamp_(min=0)
    if logits is not seen.projected:  # what comes behind the projection (a factor, a soft cap) acts on each by itself
        slopes = torch.autograd.grad(logits.sum(), seen.projected, retain_graph=True)[0].float()
        variances.mul_(slopes.square())
    states = seen.states.detach().float() * variances.sum(-1).sqrt().unsqueeze(-1)
    return _HeadSeen(states, variances.sum(0).cpu().double())


@dataclass
class _Parts:
    """Sums of outer products over the inputs of each part, in float64, on the CPU: not every device has float64."""

    sums: dict[int, Tensor] = field(default_factory=dict)

    def add(self, part: int, vectors: Tensor) -> None:
        """Add the outer products of some vectors `[n, dim]`."""
        own = (vectors.T @ vectors).cpu().double()
        self.sums[part] = self.sums[part] + own if part in self.sums else own

    def plus(self, other: _Parts) -> _Parts:
        """The sums of both."""
        both = {part: [own.sums[part] for own in (self, other) if part in own.sums] for part in self.sums | other.sums}
        return _Parts({part: torch.stack(sums).sum(0) for part, sums in both.items()})

    def mean(self, positions: Sequence[int]) -> Tensor:
        """The sum over all parts per position, exactly symmetric, float32.

        Raises `CalibrationError` where it is not finite.
        """
        total = torch.stack([*self.sums.values()]).sum(0)
        if not total.isfinite().all():
            raise CalibrationError("the model's gradients are not finite numbers: their importance can't be measured")
        return ((total + total.T) / (2 * sum(positions))).float()

    def shrinkage(self, positions: Sequence[int]) -> Tensor:
        """The share of the diagonal in what to use of the mean, float32 `[]`."""
        return torch.tensor(
            shrinkage.intensity([(own, positions[part]) for part, own in self.sums.items() if positions[part]])
        )


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Within it no parameter requires a gradient, which saves most of the memory."""
    with ExitStack() as stack:
        for parameter in model.parameters():
            if parameter.requires_grad:
                stack.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        yield
