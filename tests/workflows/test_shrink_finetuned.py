"""`shrink` by a GLUE task: on a tiny model that was fine-tuned for it here."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from support.commands import Ended, one_line, run_here
from support.data import SENTENCES

import orientc as library
from orientc.comparison.compare import compare
from orientc.errors import EvaluationError, UsageError
from orientc.evaluation.glue.glue import glue
from orientc.evaluation.glue.tasks import TASKS
from orientc.storage import calibration as calibrations
from orientc.workflows.three_texts import three_sets

WORDS = sorted({word for sentence in SENTENCES for word in sentence.split() if word.isalpha()})
GOOD, BAD = ("fox", "quick"), ("locomotive", "slow")


def rows(count: int, seed: int) -> list[tuple[str, int]]:
    """Sentences with two words among others that tell their label."""
    draw = random.Random(seed)
    plain = [word for word in WORDS if word not in (*GOOD, *BAD)]
    found = []
    for _ in range(count):
        label = draw.randrange(2)
        words = [*draw.choices(plain, k=6), draw.choice((BAD, GOOD)[label])]
        found.append((" ".join(draw.sample(words, len(words))), label))
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "glue"
    (folder / "SST-2").mkdir(parents=True)
    for split, count in (("train", 600), ("dev", 200)):
        lines = [f"{text}\t{label}" for text, label in rows(count, len(split))]
        (folder / "SST-2" / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *lines, ""]))
    return folder


@pytest.fixture(scope="module")
def classifier(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that tells the labels apart, in the form that such checkpoints have on the hub."""
    folder = tmp_path_factory.mktemp("models") / "tiny-sst2"
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        bert_folder, id2label={0: "NEGATIVE", 1: "POSITIVE"}, label2id={"NEGATIVE": 0, "POSITIVE": 1}
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_folder)
    texts, labels = zip(*rows(600, len("train")), strict=True)
    batch = tokenizer(list(texts), return_tensors="pt", padding=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        model(**batch, labels=torch.tensor(labels)).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Made:
    """A shrunk model: how the command ended, its folder, and its runs folder."""

    ended: Ended
    folder: Path
    runs: Path


@pytest.fixture(scope="module")
def made(classifier: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("shrunk")
    ended = run_here(
        "shrink", classifier, "--to", place / "small", "--measure", "sst2", "--data", data, "--within", "2pt",
        "--out", place / "runs",
    )  # fmt: skip
    return Made(ended, place / "small", place / "runs")


@pytest.mark.slow
def test_the_verdict_is_the_dev_sets_accuracy_of_a_folder_that_loads(
    made: Made, classifier: Path, data: Path, tmp_path: Path
) -> None:
    assert made.ended.code == 0, made.ended
    lines = dict(line.split("  ", 1) for line in made.ended.out.splitlines())
    assert "glue/sst2/dev" in lines["measured on"]
    assert "64 sentences agree" in lines["loads without"]
    before, here = (float(figure) for figure in lines["SST-2 accuracy"].partition(" (")[0].split("→"))
    known = glue("sst2", model=classifier, data=data, epochs=0, device="cpu", out=tmp_path)
    assert before == pytest.approx(known.summary["sst2"]["accuracy"].mean, abs=6e-4)
    assert before > 0.9  # else nothing could be lost
    model = transformers.AutoModelForSequenceClassification.from_pretrained(made.folder, trust_remote_code=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.folder)
    texts, labels = zip(*rows(200, len("dev")), strict=True)
    with torch.inference_mode():
        answers = model(**tokenizer(list(texts), return_tensors="pt", padding=True)).logits.argmax(-1)
    assert here == pytest.approx(float((answers == torch.tensor(labels)).float().mean()), abs=6e-4)
    assert "SST-2 accuracy on glue/sst2/dev" in ModelCard.load(made.folder / "README.md").content


@pytest.mark.slow
def test_what_the_model_predicts_is_what_it_is_calibrated_by(made: Made) -> None:
    [path] = made.runs.rglob("calibration-*.safetensors")
    about = calibrations.load(path).description
    assert (about.objective, about.text) == ("classes", "glue/sst2/calibration")


@pytest.mark.slow
def test_its_records_are_no_problem_to_compare(made: Made) -> None:
    assert compare(made.runs).problems == ()


def test_no_text_that_is_measured_on_is_calibrated_on(data: Path, glue_folder: Path) -> None:
    text, search, verdict = three_sets(TASKS["sst2"], data, 0)
    own = set(text.content.split("\n"))
    assert len(own) > 100
    assert not own & {*search.sentences, *verdict.sentences}
    assert three_sets(TASKS["sst2"], data, 1)[1].sha256 != search.sha256
    _, search, verdict = three_sets(TASKS["mnli"], glue_folder, 0)
    assert (search.figure, verdict.figure) == ("accuracy", "accuracy_matched")
    assert verdict.data.evaluation.keys() == {"matched", "mismatched"}


def test_where_no_answer_changes_an_error_is_left(classifier: Path, data: Path, tmp_path: Path) -> None:
    """A few rows that are answered alike don't say that all others would be."""
    found = library.shrink(
        classifier, tmp_path / "small", measure="sst2", data=data, target_bits=8, limit=20, out=tmp_path / "runs"
    )
    assert found.verdict
    assert found.verdict.outcome.difference == 0
    assert found.verdict.outcome.error == 1 / 20


def test_a_model_of_another_kind_or_task_is_refused(
    bert_folder: Path, classifier: Path, data: Path, glue_folder: Path, tmp_path: Path
) -> None:
    to, out = tmp_path / "small", tmp_path / "runs"
    with pytest.raises(EvaluationError, match=r"BertForMaskedLM.* was not fine-tuned for sst2"):
        library.shrink(bert_folder, to, measure="sst2", data=data, out=out)
    with pytest.raises(EvaluationError, match="not a model for this task"):
        library.shrink(classifier, to, measure="stsb", data=glue_folder, text=data / "SST-2" / "train.tsv", out=out)
    with pytest.raises(UsageError, match="`data`"):
        library.shrink(classifier, to, data=data, out=out)
    assert "sst2, mrpc" in one_line(run_here("shrink", classifier, "--to", to, "--measure", "sst-2"), 2)
    assert not to.exists()
