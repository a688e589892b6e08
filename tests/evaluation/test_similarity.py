"""Sentence vectors: pooling, cosines and correlations against plain computations, and the records they leave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from scipy import stats
from support.commands import Ended
from support.data import SENTENCES

from orientc.compression.svd import svd
from orientc.errors import ArtifactMismatchError, EvaluationError, UsageError
from orientc.evaluation import similarity
from orientc.evaluation.configs import SimilarityConfig
from orientc.evaluation.sentences import pool
from orientc.evaluation.setup import Setup
from orientc.evaluation.similarity import Pairs, SimilarityMeasurement
from orientc.evaluation.texts import Text
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.storage import artifact as artifacts
from orientc.storage import records

CPU = torch.device("cpu")
TEXT = Text("sentences.txt", "\n".join(SENTENCES[:20]) + "\n\n")
PAIRS = Pairs("pairs", "0" * 64, SENTENCES[:9], SENTENCES[9:18], [number % 5 for number in range(9)])


@pytest.fixture(scope="module")
def artifact(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifacts") / "svd.safetensors"
    svd(bert_folder, rank=8, device="cpu", out=path)
    return path


def measurement(folder: Path, out: Path, sentences: Text | Pairs = TEXT, **settings: object) -> SimilarityMeasurement:
    setup = Setup(ModelSource.resolve(str(folder)), out, CPU)
    return SimilarityMeasurement(setup, SimilarityConfig(**settings), sentences)  # type: ignore[arg-type]


def subject(folder: Path, artifact: Path) -> Subject:
    return Subject(ModelSource.resolve(str(folder)), artifact, artifacts.load(artifact))


def plainly(folder: Path, texts: list[str], dense: torch.Tensor | None = None) -> np.ndarray:
    """Mean-pooled vectors, one sentence at a time, with another table if one is given."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if dense is not None:
        model.get_input_embeddings().weight.data.copy_(dense)
    with torch.no_grad():
        found = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
    return torch.stack(found).double().numpy()


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def test_every_pooling_looks_at_the_tokens_of_the_mask_alone() -> None:
    states = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]])
    expected = {
        "mean": [states[0, :2].mean(0), states[1, 1:].mean(0)],
        "max": [states[0, 1], states[1, 3]],
        "cls": [states[0, 0], states[1, 1]],
        "last": [states[0, 1], states[1, 3]],
    }
    for how, rows in expected.items():
        assert torch.equal(pool(states, mask, how), torch.stack(rows)), how


def test_cosines_are_those_of_a_plain_computation(bert_folder: Path, artifact: Path, tmp_path: Path) -> None:
    loaded = artifacts.load(artifact)
    measured = measurement(bert_folder, tmp_path, batch_size=3)
    (record,) = measured.compressed(subject(bert_folder, artifact))
    texts = SENTENCES[:20]
    expected = cosines(plainly(bert_folder, texts), plainly(bert_folder, texts, loaded.factors.dense()))
    assert record.metrics["cosine"] == pytest.approx(expected.mean(), abs=1e-5)
    assert record.metrics["cosine_p5"] == pytest.approx(np.percentile(expected, 5), abs=1e-5)
    assert record.metrics["sentences"] == 20
    assert record.metrics["cosine"] < 0.999
    assert measured.original().metrics["cosine"] == pytest.approx(1)


def test_pairs_are_ranked_as_scipy_ranks_them(bert_folder: Path, artifact: Path, tmp_path: Path) -> None:
    record = measurement(bert_folder, tmp_path, PAIRS).original()
    vectors = plainly(bert_folder, [*PAIRS.first, *PAIRS.second])
    expected = stats.spearmanr(cosines(vectors[:9], vectors[9:]), PAIRS.scores).statistic
    assert record.metrics["spearman"] == pytest.approx(expected, abs=1e-6)


def test_a_record_is_reused_and_the_model_not_loaded_for_it(
    bert_folder: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measurement(bert_folder, tmp_path)
    made = first.all(subject(bert_folder, artifact))
    monkeypatch.setattr(ModelSource, "load", pytest.fail)
    again = measurement(bert_folder, tmp_path)
    assert again.all(subject(bert_folder, artifact)) == made
    assert tuple(records.read(tmp_path / record.file_name) for record in made) == made


def test_an_artifact_of_another_table_is_refused_at_once(bert_folder: Path, gpt2_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    svd(gpt2_folder, rank=4, device="cpu", out=path)
    with pytest.raises(ArtifactMismatchError):
        measurement(bert_folder, tmp_path).compressed(subject(bert_folder, path))


def test_a_sentence_encoders_folder_says_how_it_pools(bert_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "encoder")
    own = "sentence_transformers.models"
    listed = [{"type": f"{own}.Transformer", "path": ""}, {"type": f"{own}.Pooling", "path": "1_Pooling"}]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    full = measurement(folder, tmp_path).full_settings
    assert (full["pooling"], full["max_length"]) == ("cls", 12)
    assert measurement(folder, tmp_path, pooling="max").full_settings["pooling"] == "max"
    chosen = [measurement(folder, tmp_path, **own).original().chosen for own in ({}, {"pooling": "max"})]
    assert [{name: value for name, value in (own or {}).items() if name != "text"} for own in chosen] == [
        {}, {"pooling": "max"}
    ]  # fmt: skip
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "median"}))
    with pytest.raises(EvaluationError, match="`pooling`"):
        measurement(folder, tmp_path)


def test_a_model_without_its_table_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bert_folder, tmp_path / "headless")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "encoder.layer.0.output.dense" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EvaluationError, match="lacks weights"):
        measurement(folder, tmp_path).original()


@pytest.mark.parametrize("settings", [{"pooling": "sum"}, {"max_length": 0}, {"batch_size": 0}])
def test_a_setting_nothing_can_use_is_a_usage_error(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        SimilarityConfig(**settings)  # type: ignore[arg-type]


def test_the_command_shows_both_tables_and_compare_their_figures(
    orientc: Callable[..., Ended], bert_folder: Path, artifact: Path, tmp_path: Path
) -> None:
    text = tmp_path / "sentences.txt"
    text.write_text(TEXT.content)
    path = shutil.copy(artifact, tmp_path)
    shown = orientc("similarity", path, "--text", text)
    assert (shown.code, shown.err) == (0, "")
    assert [line.split()[0] for line in shown.out.splitlines()[3:]] == ["original", "svd"]
    (record,) = [entry for entry in orientc("similarity", path, "--text", text, "--json").document["records"][1:]]
    assert record["kind"] == similarity.KIND
    found = similarity.similarity(path, text=Text(text.name, TEXT.content))
    assert found.records[1].as_dict() == record
    assert "similarity cosine_p5" in orientc("compare", tmp_path).out


def test_sentences_and_scored_pairs_exclude_each_other(bert_folder: Path, glue_folder: Path) -> None:
    with pytest.raises(UsageError, match="`text` takes sentences, `data` STS-B"):
        similarity.similarity(bert_folder, text=TEXT, data=glue_folder)


def test_a_text_without_sentences_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no sentences"):
        similarity.similarity(bert_folder, text=Text("blank", " \n\n"), out=tmp_path, device="cpu")


@pytest.mark.assets
def test_sentence_vectors_of_stsb_are_read_whole(assets: Path) -> None:
    pairs = similarity.stsb(assets / "glue")
    assert len(pairs.first) == len(pairs.second) == len(pairs.scores) == 1500


def test_so_many_sentences_or_pairs_are_the_first(bert_folder: Path, artifact: Path, tmp_path: Path) -> None:
    [some] = measurement(bert_folder, tmp_path, limit=5).compressed(subject(bert_folder, artifact))
    first = Text("first.txt", "\n".join(SENTENCES[:5]))
    [alone] = measurement(bert_folder, tmp_path, first).compressed(subject(bert_folder, artifact))
    assert some.metrics == alone.metrics
    assert some.file_name != alone.file_name
    [pairs] = measurement(bert_folder, tmp_path, PAIRS, limit=4).compressed(subject(bert_folder, artifact))
    assert pairs.metrics["sentences"] == 8


def test_records_of_an_artifact_go_where_one_likes(bert_folder: Path, artifact: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(SENTENCES[:5]))
    before = sorted(artifact.parent.iterdir())
    similarity.similarity(artifact, text=text, device="cpu", out=tmp_path / "runs")
    assert sorted(artifact.parent.iterdir()) == before
    assert len([*(tmp_path / "runs").rglob("*.json")]) == 2
