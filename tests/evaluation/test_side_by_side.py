"""Original and compressed predictions of one model, from the same passes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.architectures import build
from support.language_models import EXAMPLES, LANGUAGE_MODELS
from torch import Tensor

from orientc.errors import EvaluationError
from orientc.evaluation import side_by_side
from orientc.evaluation.scoring import Example
from orientc.evaluation.side_by_side import Compressed, Score, SideBySide
from orientc.modeling.factors import Factors
from orientc.models.substitute import head_policies, substituted

ORIGINAL = "original"


def table_of(model: Any) -> Factors:
    """Another table of the model's size."""
    rows, dim = model.get_input_embeddings().weight.shape
    torch.manual_seed(1)
    return Factors.plain(torch.randn(rows, 5), torch.randn(dim, 5), torch.randn(dim))


@torch.no_grad()
def direct(model: Any, examples: list[Example]) -> Tensor:
    """Log-probabilities at the scored positions, float64: each example alone, all logits made, no padding."""
    found = [
        model(input_ids=torch.tensor([example.input_ids])).logits[0, example.positions].double().log_softmax(-1)
        for example in examples
    ]
    return torch.cat(found)


def directly(model: Any, table: Factors, examples: list[Example]) -> dict[str, dict[str, float]]:
    """All figures, with nothing shared: the whole model run for each."""
    targets = torch.tensor([target for example in examples for target in example.targets])
    own = direct(model, examples)
    found = {ORIGINAL: {"loss": -own.gather(1, targets[:, None]).mean().item()}}
    for policy in head_policies(model):
        with substituted(model, table, policy):
            theirs = direct(model, examples)
        divergences = (own.exp() * (own - theirs)).sum(-1)
        found[policy] = {
            "loss": -theirs.gather(1, targets[:, None]).mean().item(),
            "kl": divergences.mean().item(),
            "kl_p99": divergences.quantile(0.99).item(),
            "kl_max": divergences.max().item(),
            "same_top": (own.argmax(-1) == theirs.argmax(-1)).double().mean().item(),
        }
    return found


def figures(scores: dict[str, Score]) -> dict[str, Any]:
    return {
        name: pytest.approx({"loss": score.loss} | score.divergence, rel=1e-5, abs=1e-6)
        for name, score in scores.items()
    }


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_figures_are_those_of_whole_models_whatever_the_batches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name)
    expected = directly(model, table_of(model), EXAMPLES)
    pad_id = model.config.pad_token_id or 0
    compressed = Compressed.of(model, table_of(model), head_policies(model))
    for tokens, batch_size, logits in ((1, None, 1), (14, None, 200), (99, 2, 400), (99, None, 9999)):
        monkeypatch.setattr(side_by_side, "CPU_LOGITS", logits)
        made = SideBySide(model, EXAMPLES, tokens=tokens, batch_size=batch_size, pad_id=pad_id)
        found = made.score(compressed)
        assert expected == figures(found)
        assert all(score.tokens == 6 for score in found.values())
        assert [*made.score()] == [ORIGINAL]


def test_what_a_model_does_with_its_logits_is_done_to_those_of_every_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "CPU_LOGITS", 200)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    config = transformers.Gemma2Config(
        vocab_size=97, num_key_value_heads=2, head_dim=8, final_logit_softcapping=0.5, **sizes
    )
    model = transformers.Gemma2ForCausalLM(config).eval()
    assert direct(model, EXAMPLES).abs().max() < math.log(97) + 2 * 0.5
    compressed = Compressed.of(model, table_of(model), head_policies(model))
    found = SideBySide(model, EXAMPLES, tokens=99, pad_id=0).score(compressed)
    assert directly(model, table_of(model), EXAMPLES) == figures(found)


def test_a_model_that_uses_its_heads_weight_without_calling_it_has_a_loss() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    config = transformers.MobileBertConfig(vocab_size=97, embedding_size=16, intra_bottleneck_size=32, **sizes)
    model = transformers.MobileBertForMaskedLM(config).eval()
    targets = torch.tensor([target for example in EXAMPLES for target in example.targets])
    expected = -direct(model, EXAMPLES).gather(1, targets[:, None]).mean().item()
    found = SideBySide(model, EXAMPLES, tokens=99, pad_id=0).score()
    assert found[ORIGINAL].loss == pytest.approx(expected, rel=1e-5)


def bodies_run(model: Any) -> list[int]:
    """Counts each pass through the body from now on."""
    passes: list[int] = []
    model.base_model.register_forward_hook(lambda *_: passes.append(1))
    return passes


def test_one_pass_serves_both_head_policies_and_one_the_original() -> None:
    model = build("bert")
    both = Compressed.of(model, table_of(model), head_policies(model))
    made = SideBySide(model, EXAMPLES, tokens=99, pad_id=0)
    made.score()  # asks the model what it does with its logits
    passes = bodies_run(model)
    for options, expected in (
        ({}, 2),
        ({"original": False}, 2),
        ({"kl": False}, 2),
        ({"kl": False, "original": False}, 1),
    ):
        passes.clear()
        found = made.score(both, **options)
        assert len(passes) == expected
        assert (ORIGINAL in found) == options.get("original", True)
        assert bool(found["tied"].divergence) == options.get("kl", True)


def test_without_divergences_the_losses_are_the_same() -> None:
    model = build("gpt2")
    both = Compressed.of(model, table_of(model), head_policies(model))
    made = SideBySide(model, EXAMPLES, tokens=99, pad_id=0)
    found, without = made.score(both), made.score(both, kl=False)
    assert {name: score.loss for name, score in without.items()} == pytest.approx(
        {name: score.loss for name, score in found.items()}, rel=1e-6
    )


def test_for_several_tables_the_originals_states_are_kept_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("bert")
    both = Compressed.of(model, table_of(model), head_policies(model))
    expected = SideBySide(model, EXAMPLES, tokens=8, pad_id=0).score(both)
    for room, second in ((6 * 32 * 4, 3), (6 * 32 * 4 - 1, 6)):
        monkeypatch.setattr(side_by_side, "KEPT_BYTES", room)
        made = SideBySide(model, EXAMPLES, tokens=8, pad_id=0, keep_states=True)
        made.score()
        passes = bodies_run(model)
        again = made.score(both)
        assert len(passes) == second
        assert {name: score.divergence for name, score in again.items()} == {
            name: score.divergence for name, score in expected.items()
        }


def test_the_model_is_afterwards_what_it_was() -> None:
    model = build("bert")
    before = direct(model, EXAMPLES)
    SideBySide(model, EXAMPLES, tokens=99, pad_id=0).score(Compressed.of(model, table_of(model), ["tied"]))
    assert torch.equal(direct(model, EXAMPLES), before)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_blocks_are_in_the_order_of_the_text() -> None:
    model = build("bert")
    made = SideBySide(model, EXAMPLES, tokens=8, pad_id=0)
    found = made.score(Compressed.of(model, table_of(model), ["tied"]))
    for number, example in enumerate(EXAMPLES):
        alone = SideBySide(model, [example], tokens=8, pad_id=0)
        score = alone.score(Compressed.of(model, table_of(model), ["tied"]))["tied"]
        count = len(example.targets)
        expected = {"tokens": count, "loss": score.loss * count}
        expected |= {name: score.divergence[name] * count for name in ("kl", "same_top")}
        assert {name: sums[number] for name, sums in (found["tied"].blocks or {}).items()} == pytest.approx(
            expected, rel=1e-5
        )
    assert (found[ORIGINAL].blocks or {}).keys() == {"tokens", "loss"}


def test_progress_counts_examples_once() -> None:
    advanced: list[int] = []
    SideBySide(build("bert"), EXAMPLES, tokens=10, pad_id=0).score(on_batch=advanced.append)
    assert advanced == [1, 2]


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no token to score"):
        SideBySide(build("bert"), [Example([1, 2], [], [])], tokens=10, pad_id=0)


def test_perplexity_is_the_exponential_of_the_loss_and_may_be_infinite() -> None:
    assert Score(torch.tensor([1.0, 3.0]), None, None, (2,)).perplexity == pytest.approx(math.e**2)
    assert Score(torch.tensor([1e5]), None, None, (1,)).perplexity == math.inf


@pytest.mark.slow
@pytest.mark.assets
def test_minilm_masked_loss_equals_transformers_own(assets: Path) -> None:
    """By labels and `loss` of transformers itself, on the very same masks."""
    from orientc.evaluation.masked_lm import select

    folder = assets / "minilm-l6-mlm"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    text = (assets / "wikitext" / "wiki.test.raw").read_text()
    lines = select(text, tokenizer, max_ids=512, seed=0, limit=24).examples
    total = 0.0
    with torch.no_grad():
        for example in lines:
            labels = torch.full((1, len(example.input_ids)), -100)
            labels[0, example.positions] = torch.tensor(example.targets)
            total += model(input_ids=torch.tensor([example.input_ids]), labels=labels).loss.item() * len(
                example.targets
            )
    tokens = sum(len(example.targets) for example in lines)
    for budget in (1, 700, 10_000):
        result = SideBySide(model, lines, tokens=budget, pad_id=0).score()[ORIGINAL]
        assert result.tokens == tokens
        assert result.loss == pytest.approx(total / tokens, rel=1e-5)
