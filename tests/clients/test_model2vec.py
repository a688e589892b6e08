"""model2vec: a static model made of an artifact's table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.data import SENTENCES
from transformers import AutoTokenizer

import orientc

model2vec = pytest.importorskip("model2vec")


def test_vectors_are_mean_rows_of_the_decoded_table(coded_encoder: Path) -> None:
    table = orientc.load(coded_encoder.parent / "table.safetensors").dense().numpy()
    tokenizer = AutoTokenizer.from_pretrained(coded_encoder, trust_remote_code=False)
    model = model2vec.StaticModel(table, tokenizer.backend_tokenizer, normalize=False)
    ids = [tokenizer(sentence, add_special_tokens=False)["input_ids"] for sentence in SENTENCES]
    known = [[token for token in row if token != tokenizer.unk_token_id] for row in ids]
    expected = np.stack([table[row].mean(0) for row in known])
    np.testing.assert_allclose(model.encode(SENTENCES), expected, atol=1e-5)
