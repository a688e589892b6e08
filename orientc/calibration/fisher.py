"""How much a model feels a change of its table, direction by direction: two matrices, `dim × dim`.

Let the row of token i change by δe_i. What the model says at the predicted positions of an input changes, and to
second order the Kullback–Leibler divergence of the changed predictions from the original ones is ½ δᵀ F δ with F the
Fisher information, E[∇ℓ ∇ℓᵀ] of the loss ℓ on labels *sampled from the model's own prediction* (Amari 1998, "Natural
gradient works efficiently in learning"; Martens 2020, "New insights and perspectives on the natural gradient method";
sampled labels, not the text's: Kunstner, Balles, Hennig 2019, "Limitations of the empirical Fisher").

*Input.* g is the gradient of ℓ, summed over an input's predicted positions, with respect to the row looked up at one
position. Changes of different tokens' rows are taken as independent, and a position's sensitivity as independent of
the token that stands there. Then the divergence per input position is `½ Σ_i F_i/ΣF · δe_iᵀ M δe_i` with M = E[g gᵀ]
over input positions and F_i the count of token i.

*Head.* A tied head computes logit z_v = h·e_v + b_v; the same expansion in its rows, those of different tokens again
independent, is `½ Σ_v δe_vᵀ E[p_v (1 − p_v) h hᵀ] δe_v`. Taking the share of row v in Σ_v p_v (1 − p_v) = 1 − Σ_v p_v²
to be F_v/ΣF gives `½ Σ_i F_i/ΣF · δe_iᵀ H δe_i` with H the sum of (1 − Σ_v p_v²) h hᵀ over predicted positions, per
input position. So M + H, with no constant to tune, is the importance of a table that serves both, in nats.

*No head.* An encoder's sentence vector is what is used of it: v, the pooled states at unit length. Its change counts as
that of the mean of a Gaussian of unit variance, whose divergence is ½ ‖δv‖² (= 1 − cosine, to second order) and whose
Fisher information is JᵀJ. With u drawn from N(0, 1), g = ∇(u·v) has E[g gᵀ] = JᵀJ: M is per input position again.

Special tokens' positions are left out of the input's mean: few, and unlike all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.errors import CalibrationError
from orientc.evaluation.scoring import Example, collate, logits_only_at
from orientc.evaluation.similarity import pool
from orientc.modeling.modules import embedding_scale

Batch = dict[str, Tensor]
# gradients with respect to the looked-up rows, `[batch, length, dim]`, and the weighted moment of the head's states
Backward = Callable[[PreTrainedModel, "_Seen", Batch, torch.Generator], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Sensitivity:
    """M and H as this module's docstring has them, float32 `[dim, dim]` on the CPU; H is None without a tied head.

    `positions` is the number of input positions they are the mean over.
    """

    input_importance: Tensor
    head_importance: Tensor | None
    positions: int


def of_language_model(
    model: PreTrainedModel,
    examples: Sequence[Example],
    *,
    tied: bool,
    special_ids: Sequence[int],
    pad_id: int,
    seed: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> Sensitivity:
    """M, and H where the head is `tied`, of a masked or causal language model, on the device it is on.

    Labels are drawn for the examples' `positions`; their `targets` play no part. `on_batch` is called with the number
    of examples just done. Raises `CalibrationError` for predictions that are not finite.
    """

    def backward(
        model: PreTrainedModel, seen: _Seen, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        with logits_only_at(model, batch["positions"]), seen.head(model):
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        residual = logits.detach().float().softmax(-1)
        if not residual.isfinite().all():
            raise CalibrationError("the model's predictions are not finite numbers: its sensitivity can't be measured")
        moment = _head_moment(seen, logits, residual) if tied else None
        labels = torch.multinomial(residual, 1, generator=generator)
        residual.scatter_add_(1, labels, residual.new_full(labels.shape, -1.0))  # the loss's gradient in the logits
        return torch.autograd.grad(logits, seen.rows, residual.to(logits.dtype))[0], moment

    return _measured(model, examples, backward, special_ids, pad_id, seed, batch_size, on_batch)


def of_sentences(
    model: PreTrainedModel,
    sentences: Sequence[Example],
    *,
    pooling: str,
    special_ids: Sequence[int],
    pad_id: int,
    seed: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> Sensitivity:
    """M of an encoder without a head, by its sentence vectors; `pooling` as `evaluate.similarity.pool` has it."""

    def backward(
        model: PreTrainedModel, seen: _Seen, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        mask = batch["attention_mask"]
        states = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        vectors = nn.functional.normalize(pool(states.float(), mask, pooling), dim=-1)
        drawn = torch.randn(vectors.shape, generator=generator, device=vectors.device)
        return torch.autograd.grad(vectors, seen.rows, drawn)[0], None

    return _measured(model, sentences, backward, special_ids, pad_id, seed, batch_size, on_batch)


def input_positions(input_ids: Tensor, attention_mask: Tensor, special_ids: Sequence[int]) -> Tensor:
    """Where the tokens of an input are that count for M: boolean, of the shape of both."""
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
) -> Sensitivity:
    """Batches of examples of like length, and the mean of what `backward` gives for them."""
    model.eval()
    embedding = model.get_input_embeddings()
    scale = embedding_scale(embedding)  # the rows reach the hook multiplied by it
    generator = torch.Generator(model.device).manual_seed(seed)
    inputs: Tensor | None = None
    heads: Tensor | None = None
    positions = 0
    by_length = sorted(examples, key=lambda example: len(example.input_ids), reverse=True)
    with _frozen(model), _Seen().lookup(embedding) as seen:
        for start in range(0, len(by_length), batch_size):
            chosen = by_length[start : start + batch_size]
            batch = {name: tensor.to(model.device) for name, tensor in collate(chosen, pad_id).items()}
            gradients, states = backward(model, seen, batch, generator)
            counted = gradients[input_positions(batch["input_ids"], batch["attention_mask"], special_ids)].float()
            inputs = _added(inputs, scale**2 * (counted.T @ counted))
            heads = heads if states is None else _added(heads, states)
            positions += len(counted)
            if on_batch:
                on_batch(len(chosen))
    assert inputs is not None
    return Sensitivity(_mean(inputs, positions), None if heads is None else _mean(heads, positions), positions)


def _head_moment(seen: _Seen, logits: Tensor, p: Tensor) -> Tensor:
    """Sum over positions of w · h hᵀ, `[dim, dim]`; w is Σ_v p_v (1 − p_v) times the squared slope of the logits."""
    if logits is seen.projected:
        weights = 1 - p.square().sum(-1)
    else:  # what comes behind the projection (a factor, a soft cap) acts on each number by itself
        slopes = torch.autograd.grad(logits.sum(), seen.projected, retain_graph=True)[0].float()
        weights = (slopes.square() * p * (1 - p)).sum(-1)
    states = seen.states.detach().float()
    return (states * weights.clamp(min=0).unsqueeze(-1)).T @ states


@dataclass
class _Seen:
    """What goes through a model's table: the looked-up rows, for gradients, and what enters and leaves the head."""

    rows: Tensor = field(init=False)
    states: Tensor = field(init=False)
    projected: Tensor = field(init=False)

    @contextmanager
    def lookup(self, embedding: nn.Module) -> Iterator[_Seen]:
        """Within it `rows` are what the last forward pass looked up."""

        def looked_up(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            self.rows = output.detach().requires_grad_()
            return self.rows

        handle = embedding.register_forward_hook(looked_up)
        try:
            yield self
        finally:
            handle.remove()

    @contextmanager
    def head(self, model: PreTrainedModel) -> Iterator[None]:
        """Within it `states` and `projected` are what last went into and came out of the output projection."""

        def passed(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.states, self.projected = inputs[0], output

        handle = model.get_output_embeddings().register_forward_hook(passed)
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Within it no parameter asks for a gradient: that saves most of the memory."""
    with ExitStack() as stack:
        for parameter in model.parameters():
            if parameter.requires_grad:
                stack.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        yield


def _added(total: Tensor | None, part: Tensor) -> Tensor:
    """A sum in float64, on the CPU: not every device has float64."""
    return part.cpu().double() if total is None else total + part.cpu().double()


def _mean(total: Tensor, positions: int) -> Tensor:
    """The sum per position, exactly symmetric."""
    return ((total + total.T) / (2 * positions)).float()
