from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
import torch
from support.architectures import OTHERS, VOCAB, build
from support.untied import several
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical
from torch.distributions import kl_divergence as kl
from transformers import BertForSequenceClassification, MarianConfig, MarianMTModel, PreTrainedModel

from orientc.calibration.fisher import (
    ImportanceMatrices,
    input_positions,
    of_classifier,
    of_language_model,
    of_sentences,
)
from orientc.evaluation.scoring import PADDING, Example, collate, decoder_inputs, inputs_of, logits_only_at
from orientc.evaluation.sentences import pool
from orientc.modeling.modules import embedding_scale
from orientc.modeling.swap import users_of

PAD, CLS, MASK = SPECIAL = [0, 1, 2]
COMMON: dict[str, Any] = {"special_ids": SPECIAL, "pad_id": PAD, "seed": 0, "batch_size": 32}
CAUSAL = ("gpt2", "llama", "gemma2", "gemma3", "opt", "cohere", "granite")
MASKED = ("bert", "albert", "electra", "roberta")


def example(draw: random.Random, *, masked: bool) -> Example:
    """Different ids drawn evenly behind a special one; the next ones are predicted, or two that are masked."""
    ids = [CLS, *draw.sample(range(len(SPECIAL), VOCAB), draw.randint(6, 12))]
    if not masked:
        return Example(ids[:-1], list(range(len(ids) - 1)), ids[1:])
    positions = sorted(draw.sample(range(1, len(ids)), 2))
    shown = [MASK if position in positions else token_id for position, token_id in enumerate(ids)]
    return Example(shown, positions, [ids[position] for position in positions])


def examples(number: int, *, masked: bool, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)
    return [example(draw, masked=masked) for _ in range(number)]


def model_of(name: str) -> PreTrainedModel:
    """A tiny model with weights large enough for predictions that are not all even."""
    model = build(name)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model


def measured(model: PreTrainedModel, number: int = 600, *, masked: bool, **changes: Any) -> ImportanceMatrices:
    options = {"head": True} | COMMON | changes
    return of_language_model(model, examples(number, masked=masked), **options)


def changed(model: PreTrainedModel, *, lookup: bool, head: bool) -> tuple[Tensor, list[nn.Module]]:
    """A small random change of the rows that are no special token's, and the modules it has to go into."""
    table = model.get_input_embeddings().weight
    change = 0.02 * table.std() * torch.randn(table.shape, generator=torch.Generator().manual_seed(1))
    change[SPECIAL] = 0
    modules = [model.get_input_embeddings()] * lookup + [model.get_output_embeddings()] * head
    return change.detach(), modules


@torch.inference_mode()
def predictions(model: PreTrainedModel, given: list[Example]) -> Tensor:
    batch = collate(given, PAD)
    with logits_only_at(model, batch["positions"]):
        logits = model(**inputs_of(model, batch)).logits
    found: Tensor = logits.double().log_softmax(-1)
    return found


def divergence(model: PreTrainedModel, change: Tensor, modules: list[nn.Module], given: list[Example]) -> float:
    """Nats per input position that the change costs on some examples."""
    before = predictions(model, given)
    held = {module: module.weight for module in modules}
    for module, weight in held.items():
        module.weight = nn.Parameter(weight.detach() + change)
    after = predictions(model, given)
    for module, weight in held.items():
        module.weight = weight
    batch = collate(given, PAD)
    positions = int(input_positions(batch["input_ids"], batch["attention_mask"], SPECIAL).sum())
    if "labels" in batch:
        written = decoder_inputs(model, batch["labels"])
        positions += int(input_positions(written, batch["labels"] != PADDING, SPECIAL).sum())
    return float((before.exp() * (before - after)).sum()) / positions


def predicted(change: Tensor, importance: Tensor) -> float:
    """½ of the mean of δe_iᵀ A δe_i over tokens that all stand in the examples equally often."""
    rows = change[len(SPECIAL) :]
    return float(((rows @ importance) * rows).sum(1).mean()) / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MASKED, *CAUSAL])
def test_the_metrics_predict_what_a_change_of_the_table_costs(name: str) -> None:
    """Of the lookup alone M, of the head alone H, of both their sum; scales, soft caps and narrow tables included."""
    masked = name in MASKED
    model = model_of(name)
    found = measured(model, masked=masked)
    assert found.head_importance is not None
    metrics = {
        (True, False): found.input_importance,
        (False, True): found.head_importance,
        (True, True): found.input_importance + found.head_importance,
    }
    for (lookup, head), importance in metrics.items():
        change, modules = changed(model, lookup=lookup, head=head)
        cost = divergence(model, change, modules, examples(400, masked=masked, seed=1))
        assert cost > 0
        assert predicted(change, importance) == pytest.approx(cost, rel=0.2), (lookup, head)


def encoder_decoder(name: str) -> PreTrainedModel:
    """One that shares one table, or has two of a size, or three."""
    if name == "marian-two-tables":
        config = MarianConfig(**OTHERS["marian"][2], share_encoder_decoder_embeddings=False)
        torch.manual_seed(0)
        model: PreTrainedModel = MarianMTModel(config).eval()
    else:
        model = several(name)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and name != "t5":  # whose predictions are not even as they are
                parameter.mul_(6)
    model.config.decoder_start_token_id = CLS
    return model


@pytest.mark.parametrize("name", ["t5", "bart-scaled", "m2m-100", "bart-untied", "marian-two-tables"])
def test_an_encoder_decoders_metrics_predict_what_a_change_costs(name: str) -> None:
    """M of all lookups in the input's table, H of the head, for targets that have their sources' tokens backwards.

    Of a head's own table H is of all that use it, a decoder's lookup with them.
    """
    model = encoder_decoder(name)
    drawn, given = (
        [
            Example(found.input_ids, [*range(len(found.targets))], found.targets[::-1], decoded=True)
            for found in examples(number, masked=False, seed=seed)
        ]
        for number, seed in ((600, 0), (400, 1))
    )
    found = of_language_model(model, drawn, head=True, **COMMON)
    assert found.head_importance is not None
    assert (found.head_share < 1) == (name == "marian-two-tables")
    lookups = [module for module in users_of(model).values() if isinstance(module, nn.Embedding)]
    change, (head,) = changed(model, lookup=False, head=True)
    projecting = [head] if head in users_of(model).values() else [*users_of(model, "head").values()]
    assert len(projecting) == (2 if name == "marian-two-tables" else 1)
    for modules, importance in ((lookups, found.input_importance), (projecting, found.head_importance)):
        cost = divergence(model, change, modules, given)
        assert cost > 0
        assert predicted(change, importance) == pytest.approx(cost, rel=0.25)


@pytest.mark.parametrize("name", ["bert", "gpt2", "gemma2"])
def test_the_head_expects_tokens_as_often_as_its_predictions_vary(name: str) -> None:
    """The sum of p (1 − p), each with the slope of what comes behind the projection: by a change of one row alone."""
    masked = name in MASKED
    model = model_of(name)
    found = measured(model, 200, masked=masked)
    assert found.head_counts is not None
    if name == "gemma2":  # a soft cap c · tanh(x / c): its slope is 1 − (logit / c)²
        cap = model.config.final_logit_softcapping
    given = examples(200, masked=masked)
    batch = collate(given, PAD)
    with torch.inference_mode(), logits_only_at(model, batch["positions"]):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
    p = logits.softmax(-1)
    slopes = 1 - (logits / cap).square() if name == "gemma2" else torch.ones_like(logits)
    torch.testing.assert_close(found.head_counts, (slopes.square() * p * (1 - p)).sum(0), rtol=1e-4, atol=1e-6)


def test_without_a_head_the_metric_predicts_how_far_sentence_vectors_turn() -> None:
    """½ ‖δv‖², which is 1 − cosine to second order."""
    model = model_of("bert-encoder")
    given = [Example(found.input_ids, [], []) for found in examples(400, masked=False, seed=1)]
    drawn = [Example(found.input_ids, [], []) for found in examples(600, masked=False)]
    found = of_sentences(model, drawn, pool=partial(pool, how="mean"), **COMMON)
    assert found.head_importance is None
    batch = collate(given, PAD)

    @torch.inference_mode()
    def vectors() -> Tensor:
        states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        return nn.functional.normalize(pool(states.double(), batch["attention_mask"], "mean"), dim=-1)

    before = vectors()
    change, _ = changed(model, lookup=True, head=False)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(change)
    positions = int(input_positions(batch["input_ids"], batch["attention_mask"], SPECIAL).sum())
    cost = float((vectors() - before).square().sum()) / 2 / positions
    assert predicted(change, found.input_importance) == pytest.approx(cost, rel=0.2)


@pytest.mark.parametrize(("labels", "problem"), [(2, None), (3, None), (1, None), (3, "multi_label_classification")])
def test_a_classifiers_metric_predicts_how_far_its_predictions_move(labels: int, problem: str | None) -> None:
    """Their divergence; of one output half its squared change."""
    torch.manual_seed(0)
    encoder = model_of("bert-encoder")
    encoder.config.update({"num_labels": labels, "problem_type": problem})
    model = BertForSequenceClassification(encoder.config).eval()
    model.bert.load_state_dict(encoder.state_dict(), strict=False)
    with torch.no_grad():
        model.classifier.weight.mul_(20)
    given, drawn = (
        [Example(found.input_ids, [], []) for found in examples(400, masked=False, seed=seed)] for seed in (1, 0)
    )
    found = of_classifier(model, drawn, **COMMON)
    assert found.head_importance is None
    batch = collate(given, PAD)

    @torch.inference_mode()
    def predictions() -> Tensor:
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()

    before = predictions()
    change, _ = changed(model, lookup=True, head=False)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(change)
    after = predictions()
    if labels == 1:
        moved = (after - before).square().sum() / 2
    elif problem:
        moved = kl(Bernoulli(logits=before), Bernoulli(logits=after)).sum()
    else:
        moved = kl(Categorical(logits=before), Categorical(logits=after)).sum()
    positions = int(input_positions(batch["input_ids"], batch["attention_mask"], SPECIAL).sum())
    assert predicted(change, found.input_importance) == pytest.approx(float(moved) / positions, rel=0.25)


@pytest.mark.parametrize("name", ["gemma3", "gpt2"])
def test_the_input_metric_is_about_the_rows_before_they_are_scaled(name: str) -> None:
    """A model whose embedding multiplies its rows feels a table that is smaller by as much, as much more."""
    model = model_of(name)
    embedding = model.get_input_embeddings()
    scale = embedding_scale(embedding)
    assert (scale != 1) == (name == "gemma3")
    scaled = measured(model, 40, masked=False)
    plain = nn.Embedding.from_pretrained(embedding.weight.detach() * scale)
    model.set_input_embeddings(plain)
    torch.testing.assert_close(scaled.input_importance, scale**2 * measured(model, 40, masked=False).input_importance)


def test_metrics_are_symmetric_and_positive_and_the_same_for_the_same_seed() -> None:
    model = model_of("bert")
    first, again = (measured(model, 60, masked=True) for _ in range(2))
    other = measured(model, 60, masked=True, seed=1)
    for name in ("input_importance", "head_importance"):
        importance: Tensor = getattr(first, name)
        assert importance.dtype == torch.float32
        assert torch.equal(importance, importance.T)
        assert torch.linalg.eigvalsh(importance.double()).min() > -1e-6 * importance.trace()
        assert torch.equal(importance, getattr(again, name))
    assert not torch.equal(first.input_importance, other.input_importance)  # other labels
    assert torch.equal(first.head_importance, other.head_importance)  # type: ignore[arg-type]  # all labels count, none is drawn


def test_the_metrics_are_means_over_positions_that_are_no_special_tokens() -> None:
    given = examples(60, masked=True)
    found = measured(model_of("bert"), 60, masked=True)
    assert found.positions == sum(token_id not in SPECIAL for one in given for token_id in one.input_ids)


def test_padding_and_batches_leave_the_heads_metric_as_it_is() -> None:
    model = model_of("bert")
    one, many = (measured(model, 60, masked=True, batch_size=size).head_importance for size in (1, 32))
    torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-5)


def test_a_head_that_is_certain_of_all_expects_no_token_in_particular() -> None:
    model = model_of("llama-untied")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1e6)
    found = measured(model, 20, masked=False, head=True)
    assert found.head_counts is None
    assert "head_counts" not in found.present


def test_an_untied_head_has_no_metric() -> None:
    found = measured(model_of("llama-untied"), 20, masked=False, head=False)
    assert (found.head_importance, found.head_shrinkage) == (None, None)
    assert found.present.keys() == {"input_importance", "input_shrinkage"}


@pytest.mark.parametrize("masked", [True, False])
def test_the_share_of_the_diagonal_is_by_inputs_not_by_batches(masked: bool) -> None:
    """And smaller with more of them; one input says nothing of another."""
    model = model_of("bert" if masked else "gpt2")
    few, again, many = (
        measured(model, number, masked=masked, batch_size=size) for number, size in ((12, 1), (12, 32), (400, 32))
    )
    for name in ("input_shrinkage", "head_shrinkage"):
        shares = [float(getattr(found, name)) for found in (many, few)]
        assert 0 <= shares[0] < shares[1] <= 1
        assert float(getattr(measured(model, 1, masked=masked), name)) == 1
    assert float(few.head_shrinkage) == pytest.approx(float(again.head_shrinkage), rel=0.15)  # type: ignore[arg-type]


def test_the_model_is_as_it_was_afterwards() -> None:
    model = model_of("gpt2")
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    before = {name: (tensor.clone(), tensor.requires_grad) for name, tensor in model.named_parameters()}
    measured(model, 20, masked=False)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert parameter.requires_grad == before[name][1]
        assert parameter.grad is None
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_progress_is_told_of_every_example() -> None:
    done: list[int] = []
    measured(model_of("bert"), 70, masked=True, on_batch=done.append)
    assert done == [32, 32, 6]


@pytest.mark.parametrize("name", ["bert-untied", "llama-untied"])
def test_a_head_of_its_own_has_rows_weighed_by_the_predictions(name: str) -> None:
    """½ Σ_v w_v/Σw · δe_vᵀ H δe_v is what a change of some of its rows costs, likely tokens and unlikely ones alike."""
    masked = name.startswith("bert")
    model = model_of(name)
    with torch.no_grad():  # predictions that are far from even
        model.get_output_embeddings().weight.mul_(torch.linspace(0.2, 3, VOCAB).unsqueeze(1))
    found = measured(model, masked=masked, head=True)
    assert found.head_importance is not None
    assert found.head_counts is not None
    assert found.present.keys() >= {"head_importance", "head_counts", "head_shrinkage"}
    shares = found.head_counts / found.head_counts.sum()
    assert float(shares.max() / shares.median()) > 3
    for rows in (slice(0, VOCAB), shares > shares.median()):
        change = torch.zeros(VOCAB, 32)
        change[rows] = 0.02 * torch.randn(change[rows].shape, generator=torch.Generator().manual_seed(1))
        cost = divergence(model, change, [model.get_output_embeddings()], examples(400, masked=masked, seed=1))
        expected = float((shares * ((change @ found.head_importance) * change).sum(1)).sum()) / 2
        assert expected == pytest.approx(cost, rel=0.2)
