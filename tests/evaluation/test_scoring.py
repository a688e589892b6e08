from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import transformers
from support.architectures import build
from torch import Tensor

from orientc.evaluation.scoring import Example, Score, batches, collate, logits_only_at, score

EXAMPLES = [
    Example([5, 6, 7, 8, 9, 10, 11], [1, 4], [60, 61]),
    Example([12, 13, 14], [0], [62]),
    Example([15, 16, 17, 18, 19], [2, 3, 4], [63, 64, 65]),
]
LANGUAGE_MODELS = [
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "albert",
    "deberta-v2",
    "mpnet",
    "gpt2",
    "llama",
    "qwen3",
    "gemma3",
    "bert-untied",
    "llama-untied",
]


def direct_losses(name: str) -> Tensor:
    """Each example alone, all logits made, no padding: what transformers computes by itself."""
    model = build(name)
    found = []
    with torch.no_grad():
        for example in EXAMPLES:
            logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, example.positions]
            found.append(torch.nn.functional.cross_entropy(logits, torch.tensor(example.targets), reduction="none"))
    return torch.cat(found)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_the_loss_is_that_of_a_direct_computation_whatever_the_batches(name: str) -> None:
    model = build(name)
    expected = direct_losses(name).mean().item()
    pad_id = model.config.pad_token_id or 0
    for tokens, batch_size in ((1, None), (14, None), (99, 2), (99, None)):
        result = score(model, EXAMPLES, tokens=tokens, batch_size=batch_size, pad_id=pad_id)
        assert result.loss == pytest.approx(expected, rel=1e-5)
        assert result.tokens == 6


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_logits_are_made_only_where_they_are_scored(name: str) -> None:
    model = build(name)
    batch = collate(EXAMPLES, model.config.pad_token_id or 0)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    whole = model(**inputs).logits
    with logits_only_at(model, batch["positions"]):
        picked = model(**inputs).logits
    assert picked.shape == (6, 97)
    torch.testing.assert_close(picked, whole[batch["positions"]], atol=1e-5, rtol=1e-5)
    assert model(**inputs).logits.shape == whole.shape  # nothing is left behind


def lengths(found: list[list[Example]]) -> list[list[int]]:
    return [[len(example.input_ids) for example in batch] for batch in found]


def test_batches_keep_within_tokens_padding_counted_and_within_a_number_of_examples() -> None:
    several = [Example([1] * length, [0], [1]) for length in (3, 9, 4, 3, 7, 4, 25, 3)]
    assert lengths(batches(several, 20)) == [[25], [9, 7], [4, 4, 3, 3, 3]]
    assert lengths(batches(several, 12)) == [[25], [9], [7], [4, 4, 3], [3, 3]]
    assert lengths(batches(several, 100, 3)) == [[25, 9, 7], [4, 4, 3], [3, 3]]
    assert lengths(batches(several, 1)) == [[25], [9], [7], [4], [4], [3], [3], [3]]
    assert batches([], 20) == []


def test_every_example_is_in_one_batch_and_progress_counts_them() -> None:
    advanced: list[int] = []
    score(build("bert"), EXAMPLES, tokens=10, pad_id=0, on_batch=advanced.append)
    assert advanced == [1, 2]
    found = batches(EXAMPLES, 10)
    assert sorted(map(id, EXAMPLES)) == sorted(id(example) for batch in found for example in batch)


def test_perplexity_is_the_exponential_of_the_loss_and_may_be_infinite() -> None:
    assert Score(2.0, 1).perplexity == pytest.approx(math.e**2)
    assert Score(1e5, 1).perplexity == math.inf


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
        result = score(model, lines, tokens=budget, pad_id=0)
        assert result.tokens == tokens
        assert result.loss == pytest.approx(total / tokens, rel=1e-5)
