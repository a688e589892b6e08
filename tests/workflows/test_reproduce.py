"""`orientc reproduce`: its report, what it leaves out, and that it goes on where it was."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.commands import Ended, one_line, run_here

from orientc.storage import artifact as artifacts
from orientc.storage import records
from orientc.workflows import paper

pytestmark = pytest.mark.usefixtures("one_thread")

Orientc = Callable[..., Ended]

LIMITS = ("--ratios", "4", "--limit", "12", "--epochs", "1", "--limit-train", "8", "--limit-eval", "8")
TASKS = ("--task", "rte,squad,qnli", "--seeds", "1,2", "--device", "cpu")


@dataclass(frozen=True)
class Reproduced:
    """A reproduction without QNLI's data; `runs` is for reading only."""

    runs: Path
    arguments: list[object]
    ended: Ended
    document: dict[str, Any]

    @property
    def folder(self) -> Path:
        (folder,) = self.runs.iterdir()
        return folder


@pytest.fixture(scope="module")
def reproduced(
    one_thread: None,
    tmp_path_factory: pytest.TempPathFactory,
    bert_folder: Path,
    text_file: Path,
    glue_folder: Path,
    squad_folder: Path,
) -> Reproduced:
    root = tmp_path_factory.mktemp("reproduced")
    data = shutil.copytree(glue_folder, root / "glue")
    shutil.rmtree(data / "QNLI")
    arguments = ["reproduce", "--model", bert_folder, *LIMITS, *TASKS, "--text", text_file, "--data", data]
    arguments += ["--squad-data", squad_folder, "--out", root / "runs"]
    ended = run_here(*arguments)
    as_json = run_here(*arguments, "--json", "--quiet")
    return Reproduced(root / "runs", arguments, ended, as_json.document)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_svd_the_papers_recipe_and_ours_are_made(reproduced: Reproduced) -> None:
    assert reproduced.ended.code == 0
    made = [artifacts.read_description(path) for path in reproduced.folder.glob("*.safetensors")]
    assert sorted((each.method, each.rank, each.settings.get("epochs")) for each in made) == [
        ("autoencoder", 6, 4), ("autoencoder", 6, 30), ("svd", 6, None)
    ]  # fmt: skip
    assert [(each["method"], each["preset"], each["ratio"]) for each in reproduced.document["results"]] == [
        ("original", "", None), ("svd", "", 4), ("ae", "paper", 4), ("ae", "default", 4)
    ]  # fmt: skip


def test_the_papers_settings_are_those_of_its_tasks() -> None:
    for task, expected in {"rte": (3, 32, 2e-5, 128, 22), "squad": (3, 16, 3e-5, 384, 22)}.items():
        config = paper.STUDY.config_of(task)
        settings = (
            config.epochs,
            config.batch_size,
            config.learning_rate,
            config.max_length,
            *paper.STUDY.seeds_of(task),
        )
        assert settings == expected
    assert paper.STUDY.ratios == (2.5, 5, 10)
    assert paper.STUDY.limits_of("squad") == (None, None)


@pytest.mark.slow
def test_figures_are_those_of_the_records_over_seeds(reproduced: Reproduced) -> None:
    found = [records.read(path) for path in reproduced.folder.glob("*.json") if "history" not in path.name]
    original = reproduced.document["results"][0]["figures"]
    (perplexity,) = (each.metrics["perplexity"] for each in found if not each.artifact and each.kind == "perplexity")
    assert original["perplexity.input-only"] == original["perplexity.tied"]
    assert original["perplexity.tied"]["value"] == pytest.approx(perplexity)
    scores = [each.metrics["f1"] for each in found if not each.artifact and each.kind == "squad"]
    assert original["squad.f1"]["value"] == pytest.approx(sum(scores) / 2)
    assert [original[name]["runs"] for name in ("perplexity.tied", "squad.f1", "rte.accuracy")] == [1, 2, 2]


@pytest.mark.slow
def test_a_task_without_data_is_named_and_there_is_no_average(reproduced: Reproduced) -> None:
    (name,) = reproduced.document["missing"]
    assert name == "qnli"
    assert "has no data for QNLI" in reproduced.document["missing"]["qnli"]
    assert "missing: qnli: " in reproduced.ended.err
    assert not any(each["averages"] for each in reproduced.document["results"])
    assert "There is no average: it lacks cola, sst2" in reproduced.ended.out
    assert not [cell for cell in reproduced.document["cells"] if "qnli" in cell["name"]]


@pytest.mark.slow
def test_the_report_has_a_verdict_for_each_claim_and_lies_in_the_models_folder(reproduced: Reproduced) -> None:
    report, tex = sorted(reproduced.folder.glob("reproduction-*"))
    assert (report.suffix, tex.suffix) == (".md", ".tex")
    assert report.read_text() == reproduced.ended.out
    claims = {claim["text"]: claim for claim in reproduced.document["claims"]}
    assert list(claims) == [
        paper.PERPLEXITY_CLAIM, paper.TIED_CLAIM, paper.GLUE_CLAIM, paper.SQUAD_CLAIM, paper.RECIPE_CLAIM
    ]  # fmt: skip
    assert all([part["ratio"] for part in claim["parts"]] == [4] for claim in claims.values())
    for text in (*claims, *(theirs for theirs, _ in paper.OTHERWISE)):
        assert text in report.read_text()
    assert "The paper's own figures are not shown" in report.read_text()


@pytest.mark.slow
def test_the_latex_is_of_booktabs_and_escapes_what_latex_reads(reproduced: Reproduced, orientc: Orientc) -> None:
    ended = orientc(*reproduced.arguments, "--latex", "--quiet")
    assert ended.code == 0
    assert ended.out == next(reproduced.folder.glob("*.tex")).read_text()
    assert ended.out.count(r"\toprule") == ended.out.count(r"\bottomrule") == ended.out.count(r"\begin{tabular}") == 2
    body = "\n".join(line for line in ended.out.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%#_]|[×±–∞]", body)
    widths = {line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")}
    assert widths == {8, 4}


@pytest.mark.slow
def test_again_it_does_no_work_and_says_the_same(
    reproduced: Reproduced, orientc: Orientc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> Any:
        raise AssertionError("this was done already")

    for name in ("orientc.compression.fit_table.Fit.run", "transformers.Trainer.train", "transformers.Trainer.predict"):
        monkeypatch.setattr(name, fail)
    ended = orientc(*reproduced.arguments, "--quiet")
    assert (ended.code, ended.err, ended.out) == (0, "", reproduced.ended.out)
    assert {cell["status"] for cell in reproduced.document["cells"]} == {"skipped"}


@pytest.mark.slow
def test_no_fine_tuned_model_is_left(reproduced: Reproduced) -> None:
    assert not list(reproduced.folder.rglob("model.safetensors"))
    assert not list(reproduced.folder.rglob("*.checkpoints"))


@pytest.mark.slow
def test_the_papers_figures_stand_beside_ours_with_their_table(
    reproduced: Reproduced, orientc: Orientc, tmp_path: Path
) -> None:
    (tmp_path / "published.toml").write_text(
        '[[figure]]\nmethod = "ae"\nratio = 4\nfigure = "perplexity.input-only"\nvalue = 123.4\ntable = "Table 7"\n'
    )
    out = shutil.copytree(reproduced.runs, tmp_path / "copied")
    ended = orientc(*reproduced.arguments[:-1], out, "--published", "published.toml", "--quiet")
    assert ended.code == 0
    (line,) = (line for line in ended.out.splitlines() if "123.4" in line)
    assert line.startswith("| autoencoder, the paper's recipe | 4 |")
    assert f"In brackets: Table 7 of {paper.SOURCE}." in ended.out.replace("\\", "")
    assert "The paper's own figures are not shown" not in ended.out


def test_a_text_that_is_not_there_leaves_the_tasks(orientc: Orientc, bert_folder: Path) -> None:
    asked = ["reproduce", "--model", bert_folder, "--ratios", "4", "--text", "none.txt", "--task", "none", "--json"]
    document = orientc(*asked, "--quiet", "--device", "cpu").document
    assert list(document["missing"]) == ["perplexity"]
    assert "none.txt" in document["missing"]["perplexity"]
    assert {claim["verdict"] for claim in document["claims"]} == {"not measured"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--ratios", "x"], "--ratios"),
        (["--task", "sst3"], "sst3"),
        (["--published", "none.toml"], "none.toml"),
        (["--config", "none.toml"], "none.toml"),
        (["--epochs", "-1"], "--epochs"),
    ],
)
def test_a_wrong_request_ends_with_2(orientc: Orientc, bert_folder: Path, arguments: list[str], named: str) -> None:
    assert named in one_line(orientc("reproduce", "--model", bert_folder, *arguments), 2)


@pytest.mark.slow
def test_a_quick_run_asks_no_hub(orientc_process: Callable[..., Ended]) -> None:
    quick = ("reproduce", "--quick", "--ratios", "5", "--limit", "50", "--device", "cpu")
    ended = orientc_process(*quick, HF_HUB_OFFLINE="0", HF_ENDPOINT="http://0.0.0.0")
    assert ended.code == 0, ended.err
    assert "so that nothing here is a reproduction" in ended.out
    assert ended.err.count("no data is given, and a quick run asks no hub") == 10
    assert f"**{paper.PERPLEXITY_CLAIM}**" in ended.out


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(reproduced: Reproduced, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "orientc", *map(str, reproduced.arguments[:-1]), str(tmp_path / "runs")]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr
    for line in process.stderr:
        if "rte of autoencoder" in line:  # some fits, perplexities and fine-tunings are done
            process.send_signal(signal.SIGKILL)
            break
    process.communicate(timeout=60)
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.json")}
    assert len(there) > 6
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("there already") >= 3 + 4 + 2
    assert {path: path.stat().st_mtime_ns for path in there if path.exists()} == there
    whole = reproduced.ended.out
    took = re.compile(r"Fits and evaluations took .*")
    assert took.sub("", done.stdout) == took.sub("", whole)
