"""`orientc squad` from the outside: what it shows and leaves behind, and how it refuses."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.commands import Ended, files_in, one_line, run_here
from support.data import squad_questions

pytestmark = pytest.mark.usefixtures("one_thread")

Orientc = Callable[..., Ended]

QUICK = ("--batch-size", "4", "--max-length", "64", "--window-step", "24", "--device", "cpu", "--save-steps", "100")
TRAINED = (*QUICK, "--epochs", "10", "--learning-rate", "0.003", "--seeds", "1,2", "--keep", "last")
MODEL_FILES = ["config.json", "model.safetensors", "modeling_orientc.py", "orientc_files.json", "tokenizer.json"]
MODEL_FILES += ["tokenizer_config.json"]
MODEL_FILES += ["training.json"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Trained:
    """An artifact put into the model and fine-tuned, with two seeds; for reading only."""

    artifact: Path
    arguments: list[object]
    document: dict[str, Any]

    @property
    def predictions(self) -> Path:
        return Path(self.document["predictions"][-1])

    @property
    def metrics(self) -> dict[str, float]:
        """Of the run with these predictions."""
        found: dict[str, float] = self.document["runs"][-1]["record"]["metrics"]
        return found


@pytest.fixture(scope="module")
def trained(
    one_thread: None, tmp_path_factory: pytest.TempPathFactory, bert_folder: Path, squad_folder: Path
) -> Trained:
    artifact = tmp_path_factory.mktemp("trained") / "runs" / "svd-r16.safetensors"
    assert run_here("svd", bert_folder, "--rank", 16, "--out", artifact).code == 0
    arguments = ["squad", "--embeddings", artifact, "--data", squad_folder, *TRAINED]
    ended = run_here(*arguments, "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    return Trained(artifact, arguments, ended.document)


def test_a_run_leaves_a_record_a_model_and_predictions(trained: Trained, orientc: Orientc) -> None:
    folder = trained.artifact.parent
    expected = ["svd-r16.safetensors", "svd-r16.history.json"]
    for run, predictions in zip(trained.document["runs"], trained.document["predictions"], strict=True):
        record, beside = Path(run["path"]), Path(run["path"]).with_suffix("")
        kept = run is trained.document["runs"][-1]
        assert run["model"] == (str(beside) if kept else None)
        assert record.name.startswith("svd-r16.squad-input-only-")
        assert json.loads(record.read_text()) == run["record"]
        assert predictions == str(beside / "predictions.json")
        left = MODEL_FILES if kept else ["orientc_files.json", "training.json"]
        expected += [record.name, *(f"{beside.name}/{name}" for name in [*left, "predictions.json"])]
    assert json.loads((trained.predictions.with_name("config.json")).read_text())["model_type"] == "orientc_bert"
    assert files_in(folder) == sorted(expected)

    for name, spread in trained.document["summary"].items():
        values = [run["record"]["metrics"][name] for run in trained.document["runs"]]
        assert spread == {
            "mean": pytest.approx(statistics.mean(values)), "std": pytest.approx(statistics.stdev(values)), "count": 2
        }  # fmt: skip
    again = orientc(*trained.arguments)
    assert again.code == 0
    assert again.err.count("done already: ") == again.err.count("predictions: ") == 2
    title, header, _, *rows = again.out.splitlines()
    assert title.endswith("(svd r16); SQuAD v1.1")
    assert header.split() == ["figure", "mean", "±", "seeds"]
    assert [row.split() for row in rows] == [
        [name, f"{spread['mean']:.4f}", f"{spread['std']:.4f}", "2"]
        for name, spread in trained.document["summary"].items()
    ]
    assert orientc(*trained.arguments, "--quiet").err == ""


def test_predictions_are_answers_from_the_contexts_and_score_as_the_record_says(
    trained: Trained, orientc: Orientc, squad_folder: Path
) -> None:
    questions = {entry["id"]: entry["context"] for entry in squad_questions("validation")}
    predictions = json.loads(trained.predictions.read_text())
    assert predictions.keys() == questions.keys()
    assert all(answer in questions[id] for id, answer in predictions.items())
    assert any(predictions.values())
    assert trained.metrics["f1"] > 0

    scored = orientc("squad", "--score", trained.predictions, "--data", squad_folder, "--json")
    assert (scored.code, scored.err) == (0, "")
    counts = {"questions": len(questions), "missing": 0, "extra": 0}
    kept = trained.document["runs"][-1]["record"]["errors"]
    assert scored.document.items() >= (trained.metrics | counts | {"errors": kept}).items()
    shown = orientc("squad", "--score", trained.predictions, "--data", squad_folder)
    assert [row.split()[:3] for row in shown.out.splitlines()[2:]] == [
        [name, f"{value:.4f}", "±"] for name, value in trained.metrics.items()
    ]


def test_the_gold_answers_score_100(orientc: Orientc, squad_folder: Path, tmp_path: Path) -> None:
    golds = {entry["id"]: entry["answers"]["text"][0] for entry in squad_questions("validation")}
    (tmp_path / "golds.json").write_text(json.dumps(golds))
    found = orientc("squad", "--score", "golds.json", "--data", squad_folder, "--json").document
    assert (found["exact_match"], found["f1"]) == (100, 100)


def test_missing_and_extra_predictions_are_told_of(orientc: Orientc, squad_folder: Path, tmp_path: Path) -> None:
    first, *_ = squad_questions("validation")
    given = {first["id"]: first["answers"]["text"][0], "elsewhere": "x", "nowhere": "y"}
    (tmp_path / "some.json").write_text(json.dumps(given))
    asked = ["squad", "--score", "some.json", "--data", squad_folder, "--json"]
    ended = orientc(*asked)
    found = ended.document
    assert found.pop("errors")["f1"]["low"] < 20 < found["f1"] + 1
    assert found.items() >= {"exact_match": 20, "f1": 20, "questions": 5, "missing": 4, "extra": 2}.items()
    missing, extra = ended.err.splitlines()
    assert missing == "orientc: 4 of 5 questions have no prediction and count as wrong"
    assert extra.startswith("orientc: 2 predictions")
    assert orientc(*asked, "--quiet").err == ""
    limited = orientc(*asked, "--limit-eval", "1").document
    assert (limited["exact_match"], limited["questions"], limited["missing"]) == (100, 1, 0)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "not sound JSON"),
        ("{", "not sound JSON"),
        ('{"a": "x", "a": "y"}', "twice"),
        ("[" * 100_000, "not sound JSON"),
        ('["validation-0"]', "not a predictions file"),
        ("3", "not a predictions file"),
        ('{"validation-0": 3}', "the answer to 'validation-0' is not a string"),
        ('{"validation-0": ["fox"]}', "not a string"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_predictions_is_refused(
    orientc: Orientc, squad_folder: Path, tmp_path: Path, content: str | None, named: str
) -> None:
    if content is not None:
        (tmp_path / "answers.json").write_text(content)
    said = one_line(orientc("squad", "--score", "answers.json", "--data", squad_folder), 1)
    assert "answers.json" in said
    assert named in said


def test_a_fine_tuned_folder_scores_as_it_did_after_training(
    trained: Trained, orientc: Orientc, squad_folder: Path
) -> None:
    model = trained.document["runs"][-1]["model"]
    ended = orientc("squad", "--model", model, "--data", squad_folder, *QUICK, "--epochs", "0", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = ended.document
    assert json.loads(Path(found["predictions"][0]).read_text()) == json.loads(trained.predictions.read_text())
    assert found["runs"][0]["record"]["metrics"] == trained.metrics
    assert found["runs"][0]["model"] is None


def test_lost_predictions_are_made_again_by_the_model_that_is_there(
    trained: Trained, orientc: Orientc, bert_folder: Path, squad_folder: Path
) -> None:
    folder = shutil.copytree(trained.artifact.parent, Path("copied"))
    arguments = [folder / trained.artifact.name if entry == trained.artifact else entry for entry in trained.arguments]
    (lost,) = folder.glob(f"{trained.predictions.parent.name}/predictions.json")
    lost.unlink()
    model = lost.with_name("model.safetensors")
    written = model.stat().st_mtime_ns
    ended = orientc(*arguments, "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert [run["fresh"] for run in ended.document["runs"]] == [False, True]
    assert json.loads(lost.read_text()) == json.loads(trained.predictions.read_text())
    assert model.stat().st_mtime_ns == written


def test_compare_shows_both_figures(trained: Trained, orientc: Orientc) -> None:
    ended = orientc("compare", trained.artifact.parent, "--json")
    assert (ended.code, ended.err) == (0, "")
    (comparison,) = ended.document["comparisons"]
    keys = {column["name"]: column["key"] for column in comparison["columns"]}
    assert [*keys] == ["squad.exact_match", "squad.f1"]
    assert comparison["columns"][0]["measured"]["on"] == "squad"
    original, row = comparison["rows"]
    assert original["figures"] == {}
    for name, spread in trained.document["summary"].items():
        found = row["figures"][keys[f"squad.{name}"]]
        assert (found["value"], found["std"], len(found["seeds"])) == (spread["mean"], spread["std"], 2)
    shown = orientc("compare", trained.artifact.parent)
    assert "squad exact_match" in shown.out
    assert "skipped" not in shown.err


def test_training_questions_that_cannot_be_used_are_counted(
    orientc: Orientc, bert_folder: Path, squad_folder: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(squad_folder, tmp_path / "data")
    document = json.loads((data / "train-v1.1.json").read_text())
    document["data"][0]["paragraphs"][2]["qas"][0]["answers"][0]["answer_start"] += 1
    (data / "train-v1.1.json").write_text(json.dumps(document))
    ended = orientc("squad", "--model", bert_folder, "--data", data, *QUICK, "--epochs", "1", "--json")
    assert ended.code == 0
    assert "not used: 1 training questions" in ended.err
    assert "train-2 the first" in ended.err


@pytest.fixture
def subjects(
    trained: Trained, bert_folder: Path, gpt2_folder: Path, squad_folder: Path, tmp_path: Path
) -> dict[str, Path]:
    """What a bad request may name."""
    given = tmp_path / "given"
    (given / "empty").mkdir(parents=True)
    (given / "words.txt").write_text("words")
    broken = shutil.copytree(squad_folder, given / "broken")
    (broken / "dev-v1.1.json").write_text((broken / "dev-v1.1.json").read_text()[:-20])
    newer = shutil.copytree(squad_folder, given / "newer")
    document = json.loads((newer / "dev-v1.1.json").read_text())
    document["data"][0]["paragraphs"][0]["qas"][0]["answers"] = []
    (newer / "dev-v1.1.json").write_text(json.dumps(document))
    mute = given / "mute"
    mute.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(bert_folder / name, mute)
    found = {path.name.removesuffix(".txt"): path for path in given.iterdir()}
    return found | {
        "bert": bert_folder, "gpt2": gpt2_folder, "data": squad_folder, "artifact": trained.artifact,
        "answers": trained.predictions,
    }  # fmt: skip


BERT = ["--model", "{bert}", "--data", "{data}"]


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--score", "{answers}", "--model", "{bert}", "--data", "{data}"], 2, "--score"),
        (["--score", "{answers}", "--embeddings", "{artifact}"], 2, "--score"),
        (["--score", "{answers}", "--data", "{data}", "--epochs", "2"], 2, "--score and --epochs exclude each other"),
        (["--score", "{answers}", "--data", "{data}", "--resume"], 2, "--score and --resume exclude each other"),
        (["--score", "{answers}", "--data", "nowhere"], 1, "no folder nowhere"),
        ([*BERT, "--task", "squad"], 2, "--task"),
        ([*BERT, "--seeds", "1;2"], 2, "--seeds"),
        ([*BERT, "--epochs", "-1"], 2, "--epochs"),
        ([*BERT, "--learning-rate", "0"], 2, "--learning-rate"),
        ([*BERT, "--batch-size", "0"], 2, "--batch-size"),
        ([*BERT, "--warmup", "1.5"], 2, "--warmup"),
        ([*BERT, "--window-step", "0"], 2, "--window-step"),
        ([*BERT, "--max-length", "14"], 1, "leaves no room for the context"),
        ([*BERT, "--device", "gpu9"], 2, "gpu9"),
        (["--embeddings", "{words}", "--data", "{data}"], 2, ".safetensors"),
        (["--embeddings", "none.safetensors", "--data", "{data}"], 1, "none.safetensors"),
        (["--embeddings", "{artifact}", "--model", "{gpt2}", "--data", "{data}", "--max-length", "64"], 1, "another"),
        (["--model", "{empty}", "--data", "{data}"], 1, "empty has no config.json"),
        (["--model", "{mute}", "--data", "{data}"], 1, "no tokenizer that can be used"),
        (["--model", "{bert}", "--data", "nowhere"], 1, "no folder nowhere"),
        (["--model", "{bert}", "--data", "{empty}"], 1, "no dev-v1.1.json"),
        (["--model", "{bert}", "--data", "{broken}"], 1, "not sound JSON"),
        (["--model", "{bert}", "--data", "{newer}"], 1, "SQuAD v1.1 is needed"),
        (["--model", "{bert}"], 1, "rajpurkar/squad through the hub"),
        ([*BERT, "--out", "given/words.txt"], 1, "can't write"),
    ],
)
def test_a_bad_request_is_one_line_and_leaves_nothing(
    orientc: Orientc, subjects: dict[str, Path], tmp_path: Path, arguments: list[str], code: int, named: str
) -> None:
    before = files_in(tmp_path)
    ended = orientc("squad", *(argument.format(**subjects) for argument in arguments))
    assert named in one_line(ended, code)
    assert files_in(tmp_path) == before
