from __future__ import annotations

import pytest
import torch
from support.architectures import build
from support.language_models import EXAMPLES, LANGUAGE_MODELS

from orientc.evaluation.scoring import batches, collate, logits_only_at


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


def test_batches_keep_within_tokens_padding_counted_and_within_a_number_of_sequences() -> None:
    several = [3, 9, 4, 3, 7, 4, 25, 3]
    assert batches(several, 20) == [[6], [1, 4], [2, 5, 0, 3, 7]]
    assert batches(several, 12) == [[6], [1], [4], [2, 5, 0], [3, 7]]
    assert batches(several, 100, 3) == [[6, 1, 4], [2, 5, 0], [3, 7]]
    assert batches(several, 1) == [[6], [1], [4], [2], [5], [0], [3], [7]]
    assert batches([], 20) == []
