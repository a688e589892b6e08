"""sentence-transformers: an encoder whose table is in codes loads, encodes, trains, is saved and loaded again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.data import SENTENCES

import orientc

sentence_transformers = pytest.importorskip("sentence_transformers")
datasets = pytest.importorskip("datasets")


def load(folder: Path) -> sentence_transformers.SentenceTransformer:
    return sentence_transformers.SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")


def test_vectors_are_those_of_the_same_table_written_out(coded_encoder: Path, tmp_path: Path) -> None:
    orientc.export(coded_encoder.parent / "table.safetensors", tmp_path / "dense", form="dense")
    ours, dense = load(coded_encoder), load(tmp_path / "dense")
    np.testing.assert_allclose(ours.encode(SENTENCES), dense.encode(SENTENCES), atol=1e-5)


def test_what_is_saved_loads_with_the_same_vectors(coded_encoder: Path, tmp_path: Path) -> None:
    model = load(coded_encoder)
    model.save(str(tmp_path / "again"))
    np.testing.assert_array_equal(load(tmp_path / "again").encode(SENTENCES), model.encode(SENTENCES))


@pytest.mark.parametrize("change", ["half", "bfloat16", "requires_grad_"])
def test_dtypes_move_and_everything_may_be_asked_to_train(coded_encoder: Path, change: str) -> None:
    model = load(coded_encoder)
    before = model.encode(SENTENCES)
    changed = getattr(model, change)(*([True] if change == "requires_grad_" else []))
    after = changed.encode(SENTENCES, convert_to_tensor=True).float().numpy()
    np.testing.assert_allclose(after, before, atol=0.05)


def test_it_trains(coded_encoder: Path, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = load(coded_encoder)
    before = model.encode(SENTENCES)
    data = datasets.Dataset.from_dict({"anchor": SENTENCES, "positive": SENTENCES[::-1]})
    arguments = sentence_transformers.SentenceTransformerTrainingArguments(
        str(tmp_path), max_steps=4, per_device_train_batch_size=4, learning_rate=1e-2, report_to=[], use_cpu=True
    )
    loss = MultipleNegativesRankingLoss(model)
    sentence_transformers.SentenceTransformerTrainer(model, arguments, train_dataset=data, loss=loss).train()
    after = model.encode(SENTENCES)
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 1e-3
    model.save(str(tmp_path / "trained"))
    np.testing.assert_allclose(load(tmp_path / "trained").encode(SENTENCES), after, atol=1e-6)


def test_a_cross_encoder_scores_pairs(coded_encoder: Path) -> None:
    model = sentence_transformers.CrossEncoder(str(coded_encoder), num_labels=1, trust_remote_code=True, device="cpu")
    scores = model.predict([*zip(SENTENCES, SENTENCES[::-1], strict=True)])
    assert scores.shape == (len(SENTENCES),)
    assert np.isfinite(scores).all()
