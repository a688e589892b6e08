"""mteb: one small task of our own, on a coded encoder and on the same table written out."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.data import SENTENCES

import orientc

mteb = pytest.importorskip("mteb")
datasets = pytest.importorskip("datasets")


def task() -> object:
    """Pairs of sentences with a score."""
    from mteb.abstasks.sts import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    class Village(AbsTaskSTS):
        metadata = TaskMetadata(
            name="Village", description="Pairs of sentences.", reference=None, type="STS", category="t2t",
            modalities=["text"], dataset={"path": "none", "revision": "1"}, eval_splits=["test"],
            eval_langs=["eng-Latn"], main_score="cosine_spearman", date=("2026-01-01", "2026-01-02"),
            domains=["Written"], task_subtypes=[], license="mit", annotations_creators="derived", dialect=[],
            sample_creation="created", bibtex_citation="",
        )  # fmt: skip
        min_score, max_score = 0, 5

        def load_data(self, *_: object, **__: object) -> None:
            scores = [float(number % 6) for number in range(len(SENTENCES))]
            rows = {"sentence1": SENTENCES, "sentence2": SENTENCES[3:] + SENTENCES[:3], "score": scores}
            self.dataset = datasets.DatasetDict({"test": datasets.Dataset.from_dict(rows)})
            self.data_loaded = True

    return Village()


def score(folder: Path, cache: Path) -> float:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")
    found = mteb.evaluate(model, [task()], cache=mteb.ResultCache(cache), overwrite_strategy="always")
    return float(found.task_results[0].scores["test"][0]["main_score"])


def test_the_figure_is_that_of_the_same_table_written_out(coded_encoder: Path, tmp_path: Path) -> None:
    orientc.export(coded_encoder.parent / "table.safetensors", tmp_path / "dense", form="dense")
    ours, dense = (score(folder, tmp_path / folder.name) for folder in (coded_encoder, tmp_path / "dense"))
    assert ours == pytest.approx(dense, abs=1e-3)
