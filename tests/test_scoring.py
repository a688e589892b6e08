from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import transformers
from architectures import build
from torch import Tensor

from orientc.evaluate.scoring import Example, Score, collate, logits_only_at, score

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
def test_the_loss_is_that_of_a_direct_computation_whatever_the_batch_size(name: str) -> None:
    model = build(name)
    expected = direct_losses(name).mean().item()
    pad_id = model.config.pad_token_id or 0
    for batch_size in (1, 2, 3):
        result = score(model, EXAMPLES, batch_size=batch_size, pad_id=pad_id)
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


def test_perplexity_is_the_exponential_of_the_loss_and_may_be_infinite() -> None:
    assert Score(2.0, 1).perplexity == pytest.approx(math.e**2)
    assert Score(1e5, 1).perplexity == math.inf


@pytest.mark.assets
def test_minilm_masked_loss_equals_transformers_own(assets: Path) -> None:
    """By labels and `loss` of transformers itself, on the very same masks."""
    from orientc.evaluate.masked import examples

    folder = assets / "minilm-l6-mlm"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    text = (assets / "wikitext" / "wiki.test.raw").read_text()
    lines = examples(text, tokenizer, max_ids=512, seed=0, limit=24)
    total = 0.0
    with torch.no_grad():
        for example in lines:
            labels = torch.full((1, len(example.input_ids)), -100)
            labels[0, example.positions] = torch.tensor(example.targets)
            total += model(input_ids=torch.tensor([example.input_ids]), labels=labels).loss.item() * len(
                example.targets
            )
    tokens = sum(len(example.targets) for example in lines)
    for batch_size in (1, 7, 24):
        result = score(model, lines, batch_size=batch_size, pad_id=0)
        assert result.tokens == tokens
        assert result.loss == pytest.approx(total / tokens, rel=1e-5)
