"""`orientc glue` from the outside: what it shows and leaves behind, and how it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.commands import Ended, files_in, one_line, run_here
from support.data import GLUE, GLUE_ROWS

from orientc.evaluation.glue.averages import averages

pytestmark = pytest.mark.usefixtures("one_thread")

Orientc = Callable[..., Ended]

QUICK = ("--batch-size", "8", "--max-length", "64", "--device", "cpu", "--save-steps", "100")  # none is reached
TRAINED = (*QUICK, "--epochs", "3", "--learning-rate", "0.003", "--seeds", "1,2,3", "--keep", "last")
MODEL_FILES = ["config.json", "model.safetensors", "orientc_files.json", "tokenizer.json", "tokenizer_config.json"]
MODEL_FILES += ["training.json"]
COMPACT_FILES = sorted([*MODEL_FILES, "modeling_orientc.py"])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Trained:
    """STS-B on the uncompressed model and with an artifact, three seeds each; `runs` is for reading only."""

    runs: Path
    artifact: Path
    original: dict[str, Any]
    compressed: dict[str, Any]

    def model(self, of: str) -> tuple[Path, dict[str, float]]:
        """The fine-tuned model that was kept, the last seed's, and its figures."""
        found = getattr(self, of)["runs"][-1]
        return Path(found["model"]), found["record"]["metrics"]


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    """The small model with larger weights: its scores differ by more than their rounding."""
    folder = shutil.copytree(bert_folder, tmp_path_factory.mktemp("models") / "lively-bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"initializer_range": 0.2}))
    tensors = load_file(folder / "model.safetensors")
    larger = {name: tensor * 10 if tensor.dim() == 2 else tensor for name, tensor in tensors.items()}
    save_file(larger, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def trained(one_thread: None, tmp_path_factory: pytest.TempPathFactory, lively: Path, glue_folder: Path) -> Trained:
    runs = tmp_path_factory.mktemp("trained") / "runs"
    artifact = runs / lively.name / "svd-r4.safetensors"
    assert run_here("svd", lively, "--rank", 4, "--out", artifact).code == 0
    asked = ["glue", "--task", "stsb", "--data", glue_folder, *TRAINED, "--json", "--quiet"]
    ended = [run_here(*asked, "--model", lively, "--out", runs), run_here(*asked, "--embeddings", artifact)]
    assert [(one.code, one.err) for one in ended] == [(0, ""), (0, "")]
    return Trained(runs, artifact, *(one.document for one in ended))


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    """The runs folder of `trained`, to write in."""
    return shutil.copytree(trained.runs, tmp_path / "copied")


# -- what a run shows and leaves


def test_a_run_leaves_a_table_a_record_and_a_model(
    orientc: Orientc, bert_folder: Path, glue_folder: Path, tmp_path: Path
) -> None:
    arguments = ["glue", "--task", "mrpc", "--model", bert_folder, "--data", glue_folder, *QUICK, "--epochs", "1"]
    first = orientc(*arguments)
    assert first.code == 0
    (record,) = (tmp_path / "runs" / bert_folder.name).glob("original.glue-mrpc-input-only-*.json")
    model = record.with_suffix("").relative_to(tmp_path)
    assert files_in(tmp_path) == sorted(
        [str(record.relative_to(tmp_path)), *(str(model / name) for name in MODEL_FILES)]
    )
    metrics = json.loads(record.read_text())["metrics"]
    assert list(metrics) == ["accuracy", "f1"]
    title, header, _, *rows = first.out.splitlines()
    assert title == f"{bert_folder} (original); GLUE"
    assert header.split() == ["figure", "value"]
    assert [row.split()[:4] for row in rows] == [["mrpc", name, f"{value:.4f}", "±"] for name, value in metrics.items()]
    assert first.err == f"orientc: fine-tuned model: {model}\n"

    written = record.stat().st_mtime_ns
    again = orientc(*arguments)
    assert (again.code, again.out) == (0, first.out)
    assert again.err.startswith(f"orientc: done already: {record.relative_to(tmp_path)}")
    assert record.stat().st_mtime_ns == written
    as_json = orientc(*arguments, "--json", "--quiet")
    assert (as_json.code, as_json.err) == (0, "")
    document = as_json.document
    (run,) = document["runs"]
    assert (run["path"], run["model"], run["fresh"]) == (str(record.relative_to(tmp_path)), str(model), False)
    assert run["record"] == json.loads(record.read_text())
    assert document["summary"] == {"mrpc": {name: {"mean": metrics[name], "std": None, "count": 1} for name in metrics}}
    assert (document["averages"], document["submissions"]) == ({}, [])

    fresh = orientc(*arguments, "--overwrite", "--json", "-q").document["runs"][0]
    assert (fresh["fresh"], fresh["record"]["metrics"]) == (True, metrics)
    assert record.stat().st_mtime_ns != written
    assert not list(tmp_path.rglob("*checkpoint*"))


def test_with_an_artifact_all_lies_beside_it_and_the_model_is_compact(trained: Trained) -> None:
    beside = trained.artifact.parent
    for run in trained.compressed["runs"]:
        assert Path(run["path"]).parent == beside
        assert Path(run["path"]).name.startswith("svd-r4.glue-stsb-input-only-")
        assert run["record"]["artifact"]["method"] == "svd"
    model, _ = trained.model("compressed")
    assert files_in(model) == COMPACT_FILES
    config = json.loads((model / "config.json").read_text())
    assert (config["model_type"], config["orientc"]["tables"]["input"]["rank"]) == ("orientc_bert", 4)
    tensors = load_file(model / "model.safetensors")
    assert not any(key.endswith("word_embeddings.weight") for key in tensors)
    assert json.loads((trained.model("original")[0] / "config.json").read_text())["model_type"] == "bert"


def test_of_several_seeds_all_keep_their_history_and_the_last_its_model(trained: Trained) -> None:
    for document in (trained.original, trained.compressed):
        assert [run["model"] is None for run in document["runs"]] == [True, True, False]
        for run in document["runs"][:-1]:
            assert files_in(Path(run["path"]).with_suffix("")) == ["orientc_files.json", "training.json"]


@pytest.mark.parametrize("of", ["original", "compressed"])
def test_several_seeds_give_the_mean_and_the_deviation_of_their_records(
    trained: Trained, orientc: Orientc, lively: Path, glue_folder: Path, of: str
) -> None:
    document = getattr(trained, of)
    records = [json.loads(Path(run["path"]).read_text()) for run in document["runs"]]
    assert [record["settings"]["seed"] for record in records] == [1, 2, 3]
    assert set(document["summary"]["stsb"]) == {"pearson", "spearman"}
    for name, spread in document["summary"]["stsb"].items():
        values = [record["metrics"][name] for record in records]
        assert len(set(values)) == 3
        assert spread == {
            "mean": pytest.approx(statistics.mean(values)), "std": pytest.approx(statistics.stdev(values)), "count": 3
        }  # fmt: skip
    subject = ["--embeddings", trained.artifact] if of == "compressed" else ["--model", lively]
    where = [] if of == "compressed" else ["--out", trained.runs]
    shown = orientc("glue", "--task", "stsb", *subject, "--data", glue_folder, *TRAINED, *where)
    assert shown.code == 0
    _, header, _, *rows = (line.split() for line in shown.out.splitlines())
    assert header == ["figure", "mean", "±", "seeds"]
    assert rows == [
        ["stsb", name, f"{spread['mean']:.4f}", f"{spread['std']:.4f}", "3"]
        for name, spread in document["summary"]["stsb"].items()
    ]


@dataclass(frozen=True)
class Every:
    """All nine tasks, scored with a head drawn at random, and their submission files."""

    arguments: list[object]
    document: dict[str, Any]
    submission: Path


@pytest.fixture(scope="module")
def every(one_thread: None, tmp_path_factory: pytest.TempPathFactory, bert_folder: Path, glue_folder: Path) -> Every:
    out = tmp_path_factory.mktemp("every") / "runs"
    arguments = ["glue", "--task", "all", "--model", bert_folder, "--data", glue_folder, *QUICK]
    arguments += ["--epochs", "0", "--predict", "--out", out]
    ended = run_here(*arguments, "--json", "-q")
    assert (ended.code, ended.err) == (0, "")
    document = ended.document
    (submission,) = document["submissions"]
    return Every(arguments, document, Path(submission))


def test_all_tasks_give_both_averages(every: Every, orientc: Orientc) -> None:
    figures = {run["record"]["data"]["task"]: run["record"]["metrics"] for run in every.document["runs"]}
    assert {task: set(metrics) for task, metrics in figures.items()} == {
        "cola": {"matthews"},
        "sst2": {"accuracy"},
        "mrpc": {"accuracy", "f1"},
        "stsb": {"pearson", "spearman"},
        "qqp": {"accuracy", "f1"},
        "mnli": {"accuracy_matched", "accuracy_mismatched"},
        "qnli": {"accuracy"},
        "rte": {"accuracy"},
        "wnli": {"accuracy"},
    }
    scores = {task: statistics.mean(metrics.values()) for task, metrics in figures.items()}
    assert len(set(scores.values())) > 2
    without = [score for task, score in scores.items() if task != "wnli"]
    expected = {"glue": statistics.mean(scores.values()), "glue_without_wnli": statistics.mean(without)}
    assert every.document["averages"] == pytest.approx(expected)
    assert all(run["model"] is None for run in every.document["runs"])

    shown = orientc(*every.arguments)
    assert shown.code == 0
    assert shown.err.count("done already") == 9
    assert f"submission files: {every.submission}" in shown.err
    rows = [line.rsplit(maxsplit=1) for line in shown.out.splitlines()[-2:]]
    assert rows == [[name.replace("_", " "), f"{value:.4f}"] for name, value in every.document["averages"].items()]
    assert "mnli accuracy_matched " in shown.out
    assert "mnli accuracy_mismatched " in shown.out


def test_an_average_that_lacks_a_task_is_left_out() -> None:
    tasks = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte")
    scores = {task: number / 10 for number, task in enumerate(tasks)}
    assert averages(scores) == {"glue_without_wnli": pytest.approx(0.35)}
    assert averages(scores | {"wnli": 0.8}) == pytest.approx({"glue": 0.4, "glue_without_wnli": 0.35})
    del scores["rte"]
    assert averages(scores | {"wnli": 0.8}) == {}


def test_the_submission_has_a_file_for_each_test_set(every: Every) -> None:
    words = {
        "QNLI": {"entailment", "not_entailment"},
        "RTE": {"entailment", "not_entailment"},
        "MNLI-m": {"entailment", "neutral", "contradiction"},
    }
    words |= dict.fromkeys(("MNLI-mm", "AX"), words["MNLI-m"])
    stems = [*(task for task in GLUE if task != "MNLI"), "MNLI-m", "MNLI-mm", "AX"]
    assert files_in(every.submission) == sorted(f"{stem}.tsv" for stem in stems)
    for stem in stems:
        header, *rows = csv.reader((every.submission / f"{stem}.tsv").read_text().splitlines(), delimiter="\t")
        assert header == ["index", "prediction"]
        count = 2 if stem == "AX" else GLUE_ROWS["test"]
        assert [index for index, _ in rows] == [str(number) for number in range(count)]
        given = {prediction for _, prediction in rows}
        if stem == "STS-B":
            assert all(0 <= float(score) <= 5 for score in given)
        else:
            assert given <= words.get(stem, {"0", "1"}), stem


def test_files_to_submit_can_be_asked_for_later(
    trained: Trained, orientc: Orientc, lively: Path, glue_folder: Path, copied: Path
) -> None:
    """The model that was trained then makes them: nothing is trained again, but where no model was kept."""
    weights = {path: path.stat().st_mtime_ns for path in copied.rglob("original.*/model.safetensors")}
    asked = ["glue", "--task", "stsb", "--model", lively, "--data", glue_folder, *TRAINED, "--out", copied]
    assert len(weights) == 1
    ended = orientc(*asked, "--predict", "--json", "-q")
    assert (ended.code, ended.err) == (0, "")
    document = ended.document
    assert len(document["submissions"]) == 3  # of each seed its own
    for name, spread in document["summary"]["stsb"].items():
        assert spread["mean"] == pytest.approx(trained.original["summary"]["stsb"][name]["mean"], abs=1e-4)
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    for folder in document["submissions"]:
        assert files_in(Path(folder)) == ["STS-B.tsv"]


def test_limits_are_part_of_what_was_measured(orientc: Orientc, bert_folder: Path, glue_folder: Path) -> None:
    asked = ["glue", "--task", "cola", "--model", bert_folder, "--data", glue_folder, *QUICK, "--json", "-q"]
    asked += ["--limit-train", "8", "--limit-eval", "4"]
    scored, tuned = (orientc(*asked, "--epochs", epochs).document["runs"][0] for epochs in (0, 1))
    limits = [[run["record"]["data"][f"limit_{name}"] for name in ("train", "eval")] for run in (scored, tuned)]
    assert limits == [[None, 4], [8, 4]]
    log = json.loads((Path(tuned["model"]) / "training.json").read_text())["log"]
    assert log[-1]["step"] == 1  # 8 examples, 8 at a time


# -- the model a run leaves


@pytest.mark.parametrize("of", ["original", "compressed"])
def test_a_fine_tuned_folder_scores_as_it_did_after_training(
    trained: Trained, orientc: Orientc, glue_folder: Path, of: str
) -> None:
    model, metrics = trained.model(of)
    ended = orientc(
        "glue", "--task", "stsb", "--model", model, "--data", glue_folder, *QUICK, "--epochs", "0", "--json"
    )
    assert (ended.code, ended.err) == (0, "")  # no word of a random head
    (run,) = ended.document["runs"]
    assert run["record"]["metrics"] == pytest.approx(metrics, abs=1e-4)
    assert run["record"]["settings"] == {"epochs": 0, "max_length": 64, "precision": "float32", "attention": None}
    assert run["model"] is None


@pytest.mark.parametrize("of", ["original", "compressed"])
def test_a_fine_tuned_folder_is_a_model_to_every_command(
    trained: Trained, orientc: Orientc, text_file: Path, of: str
) -> None:
    model, _ = trained.model(of)
    table = orientc("inspect", model, "--json").document["table"]
    assert (table["vocab"], table["dim"], table["tied"]) == (120, 32, False)
    for command in (["svd"], ["compress", "--epochs", "1", "--device", "cpu"]):
        made = orientc(*command, model, "--rank", "2", "--json")
        assert made.code == 0
        assert Path(made.document["artifact"]).parent == Path("runs", model.name)
    for argument in (model, made.document["artifact"]):
        assert "no language-model head" in one_line(orientc("perplexity", argument, "--text", text_file), 1)


def test_what_is_made_of_a_model_in_the_runs_folder_lies_beside_it(
    trained: Trained, orientc: Orientc, glue_folder: Path
) -> None:
    """Not among its own files: there nothing would find it, and with it the model would count as another."""
    model, _ = trained.model("compressed")
    inside = Path("runs") / model.name
    shutil.copytree(model, inside)
    made = orientc("svd", inside, "--rank", "2", "--json").document["artifact"]
    scored = orientc("glue", "--task", "stsb", "--embeddings", made, "--data", glue_folder, *QUICK, "--epochs", "0")
    assert scored.code == 0
    assert files_in(inside) == COMPACT_FILES
    (comparison,) = orientc("compare", "--json").document["comparisons"]
    assert comparison["rows"][1]["path"] == made


def test_compare_shows_the_scores_and_passes_over_the_models(trained: Trained, orientc: Orientc) -> None:
    ended = orientc("compare", trained.runs, "--json")
    assert (ended.code, ended.err) == (0, "")
    (comparison,) = ended.document["comparisons"]
    assert [(column["name"], column["measured"]["on"]) for column in comparison["columns"]] == [
        ("stsb.pearson", "glue"), ("stsb.spearman", "glue")
    ]  # fmt: skip
    keys = {column["name"]: column["key"] for column in comparison["columns"]}
    assert all("seed" not in column["measured"] for column in comparison["columns"])
    original, row = (entry["figures"] for entry in comparison["rows"])
    for name in ("pearson", "spearman"):
        spreads = [document["summary"]["stsb"][name] for document in (trained.original, trained.compressed)]
        assert original[keys[f"stsb.{name}"]]["value"] == spreads[0]["mean"]
        found = row[keys[f"stsb.{name}"]]
        assert (found["value"], found["std"], found["seeds"]) == (spreads[1]["mean"], spreads[1]["std"], [1, 2, 3])
        assert found["difference"] == pytest.approx(spreads[1]["mean"] - spreads[0]["mean"])
    shown = orientc("compare", trained.runs)
    assert (shown.code, shown.err) == (0, "")
    _, header, _, first, second, *_ = shown.out.splitlines()
    assert "stsb pearson" in header
    value, base = row[keys["stsb.pearson"]], original[keys["stsb.pearson"]]
    assert f"{base['value']:.4f} ± {base['std']:.4f}" in first
    assert f"{value['value']:.4f} ± {value['std']:.4f} ({value['difference']:+.4f})" in second


# -- refusals


@pytest.fixture
def subjects(
    trained: Trained, bert_folder: Path, gpt2_folder: Path, glue_folder: Path, tmp_path: Path
) -> dict[str, Path]:
    """What a bad request may name."""
    given = tmp_path / "given"
    given.mkdir()
    for name, file in (("short", "word\t1\nsentence alone\n"), ("label", "fine words\tmaybe\n")):
        folder = shutil.copytree(glue_folder / "SST-2", given / name / "SST-2")
        (folder / "dev.tsv").write_text(f"sentence\tlabel\n{file}")
    (given / "empty").mkdir()
    (given / "words.txt").write_text("words")
    (given / "mute").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(bert_folder / name, given / "mute")
    other = shutil.copytree(bert_folder, given / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["bert.embeddings.word_embeddings.weight"] *= 1.5
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    found = {path.name.removesuffix(".txt"): path for path in given.iterdir()}
    found |= {"bert": bert_folder, "data": glue_folder, "artifact": trained.artifact}
    return found | {"tuned": trained.model("original")[0], "weights": bert_folder / "model.safetensors"}


SST2 = ["--task", "sst2", "--data", "{data}"]
BERT = [*SST2, "--model", "{bert}"]


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--task", "sst3", "--model", "{bert}"], 2, "cola, sst2"),
        (["--model", "{bert}", "--data", "{data}"], 2, "Missing option '--task'"),
        ([*BERT, "--seeds", "a,b"], 2, "--seeds takes whole numbers"),
        ([*BERT, "--seeds", ""], 2, "--seeds"),
        ([*BERT, "--seeds", "1,-2"], 2, "--seed"),
        ([*BERT, "--seed", "-1"], 2, "--seed"),
        ([*BERT, "--epochs", "-1"], 2, "--epochs"),
        ([*BERT, "--epochs", "nan"], 2, "--epochs"),
        ([*BERT, "--learning-rate", "0"], 2, "--learning-rate"),
        ([*BERT, "--batch-size", "0"], 2, "--batch-size"),
        ([*BERT, "--gradient-accumulation", "0"], 2, "--gradient-accumulation"),
        ([*BERT, "--warmup", "1.5"], 2, "--warmup"),
        ([*BERT, "--weight-decay", "-1"], 2, "--weight-decay"),
        ([*BERT, "--max-length", "0"], 2, "--max-length"),
        ([*BERT, "--max-length", "2"], 1, "2 special tokens"),
        (["--task", "rte", *BERT[2:], "--max-length", "3"], 1, "3 special tokens"),
        ([*BERT, "--limit-train", "0"], 2, "--limit-train"),
        ([*BERT, "--limit-eval", "0"], 2, "--limit-eval"),
        ([*BERT, "--save-steps", "0"], 2, "--save-steps"),
        ([*BERT, "--precision", "int8"], 2, "float32"),
        ([*BERT, "--train-embeddings", "some"], 2, "decoder"),
        ([*BERT, "--device", "gpu9"], 2, "gpu9"),
        ([*BERT, "--revision", "v1"], 2, "revision"),
        ([*SST2, "--embeddings", "{words}"], 2, ".safetensors"),
        ([*SST2, "--embeddings", "{bert}"], 2, ".safetensors"),
        ([*SST2, "--embeddings", "none.safetensors"], 1, "none.safetensors"),
        ([*SST2, "--embeddings", "{weights}"], 1, "not an orientc artifact"),
        ([*SST2, "--embeddings", "{artifact}", "--model", "{other}", "--max-length", "64"], 1, "another"),
        ([*SST2, "--model", "./nowhere"], 1, "nowhere"),
        ([*SST2, "--model", "{empty}"], 1, "empty has no config.json"),
        ([*SST2, "--model", "{words}"], 1, "words.txt is neither a model folder"),
        ([*SST2, "--model", "{mute}"], 1, "no tokenizer that can be used"),
        (["--task", "mnli", *SST2[2:], "--model", "{tuned}", "--max-length", "64"], 1, "not a model for this task"),
        ([*BERT[:2], "--model", "{bert}", "--data", "nowhere"], 1, "can't read nowhere"),
        ([*BERT[:2], "--model", "{bert}", "--data", "{words}"], 1, "words.txt: Not a directory"),
        ([*BERT[:2], "--model", "{bert}", "--data", "{empty}"], 1, "no data for SST-2"),
        ([*BERT[:2], "--model", "{bert}", "--data", "{short}"], 1, "SST-2/dev.tsv, line 3: 1 columns"),
        ([*BERT[:2], "--model", "{bert}", "--data", "{label}"], 1, "SST-2/dev.tsv, line 2: label 'maybe'"),
        ([*BERT, "--out", "given/words.txt"], 1, "can't write"),
    ],
)  # fmt: skip
def test_a_bad_request_is_one_line_and_leaves_nothing(
    orientc: Orientc, subjects: dict[str, Path], tmp_path: Path, arguments: list[str], code: int, named: str
) -> None:
    before = files_in(tmp_path)
    epochs = ["--epochs", "0"] if "--epochs" not in arguments and "{tuned}" in arguments else []
    ended = orientc("glue", *(argument.format(**subjects) for argument in arguments), *epochs)
    assert named in one_line(ended, code)
    assert files_in(tmp_path) == before


def test_no_network_and_no_data_names_the_way_out(orientc: Orientc, bert_folder: Path) -> None:
    said = one_line(orientc("glue", "--task", "sst2", "--model", bert_folder), 1)
    assert "nyu-mll/glue" in said
    assert "--data" in said


def test_an_artifact_of_another_table_can_be_forced(
    orientc: Orientc, subjects: dict[str, Path], tmp_path: Path
) -> None:
    artifact = shutil.copy(subjects["artifact"], tmp_path)
    asked = ["glue", "--task", "sst2", "--data", subjects["data"], *QUICK, "--epochs", "0", "--json"]
    asked += ["--embeddings", artifact, "--model", subjects["other"], "--force"]
    forced = orientc(*asked)
    assert forced.code == 0
    assert "--force: going on with an artifact of another table" in forced.err
    assert forced.document["runs"][0]["record"]["model"]["id"] == str(subjects["other"])
    assert orientc(*asked, "--quiet").err == ""


def test_a_training_that_diverges_gives_no_record(
    orientc: Orientc, bert_folder: Path, glue_folder: Path, tmp_path: Path
) -> None:
    asked = ["glue", "--task", "rte", "--model", bert_folder, "--data", glue_folder, *QUICK, "--epochs", "1"]
    assert "diverged" in one_line(orientc(*asked, "--learning-rate", "1e30"), 1)
    assert not list(tmp_path.rglob("*.glue-rte-*.json"))


# -- interrupted


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_figures_and_weights(
    orientc: Orientc, bert_folder: Path, glue_folder: Path, tmp_path: Path
) -> None:
    asked = ["glue", "--task", "stsb", "--model", bert_folder, "--data", glue_folder, *QUICK]
    asked += ["--epochs", "6", "--learning-rate", "0.003", "--save-steps", "3", "--json", "-q"]
    whole = orientc(*asked, "--out", "whole").document["runs"][0]
    with subprocess.Popen(
        [sys.executable, "-m", "orientc", *map(str, asked), "--out", "killed"],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not list(tmp_path.glob("killed/*/*/checkpoint-*/orientc-run.json")):
                assert process.poll() is None, "it ended before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    asked += ["--out", "killed"]
    assert not list(tmp_path.glob("killed/*/*.json"))
    said = one_line(orientc(*asked), 1)
    assert "--resume" in said
    assert "--overwrite" in said
    resumed = orientc(*asked, "--resume")
    assert (resumed.code, resumed.err) == (0, "")
    run = resumed.document["runs"][0]
    assert run["record"]["metrics"] == whole["record"]["metrics"]
    first, second = (load_file(Path(entry["model"]) / "model.safetensors") for entry in (whole, run))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert files_in(tmp_path / "killed") == files_in(tmp_path / "whole")
