"""`orientc sweep`: what it makes, what it does not make again, and what it says of cells that fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.commands import Ended, files_in, one_line, run_here
from support.data import PAIRS
from support.documents import valid
from support.untied import save_translator
from transformers import PreTrainedTokenizerFast

from orientc.calibration.calibrate import calibrate
from orientc.evaluation.perplexity import perplexity
from orientc.storage import artifact as artifacts
from orientc.storage import records
from orientc.workflows.sweep import sweep

pytestmark = pytest.mark.usefixtures("one_thread")

Orientc = Callable[..., Ended]

CELLS = ("--ratios", "2,4", "--methods", "svd,ae", "--limit", "5", "--device", "cpu", "--quiet")
TASK = ("--task", "rte", "--epochs", "1", "--limit-train", "4", "--limit-eval", "4", "--keep", "last")


@dataclass(frozen=True)
class Swept:
    """A sweep of two ratios by two methods, with perplexity and a task; `runs` is for reading only."""

    runs: Path
    arguments: list[object]
    ended: Ended

    @property
    def folder(self) -> Path:
        (folder,) = self.runs.iterdir()
        return folder


@pytest.fixture(scope="module")
def swept(
    one_thread: None,
    tmp_path_factory: pytest.TempPathFactory,
    bert_folder: Path,
    text_file: Path,
    glue_folder: Path,
) -> Swept:
    runs = tmp_path_factory.mktemp("swept") / "runs"
    arguments = [bert_folder, *CELLS, "--perplexity", "--text", text_file, *TASK, "--data", glue_folder]
    return Swept(runs, arguments, run_here("sweep", *arguments, "--out", runs))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fits, scores or trains fails."""

    def fail(*_arguments: object, **_options: object) -> Any:
        raise AssertionError("this was done already")

    for name in (
        "orientc.compression.fit_table.Fit.run",
        "orientc.evaluation.side_by_side.SideBySide.score",
        "orientc.evaluation.perplexity.load",
        "transformers.Trainer.train",
        "transformers.Trainer.predict",
    ):
        monkeypatch.setattr(name, fail)


def test_every_cell_leaves_its_artifact_and_records(swept: Swept, bert_folder: Path) -> None:
    assert (swept.ended.code, swept.ended.err) == (0, "")
    assert swept.folder.name == bert_folder.name
    made = [artifacts.read_description(path) for path in sorted(swept.folder.glob("*.safetensors"))]
    assert [(each.method, each.rank) for each in made] == [
        ("autoencoder", 12), ("autoencoder", 6), ("svd", 12), ("svd", 6)
    ]  # fmt: skip
    assert all(each.parameter_ratio >= (2 if each.rank == 12 else 4) for each in made)
    found = [records.read(path) for path in swept.folder.glob("*.json") if not path.name.endswith("history.json")]
    assert sorted((each.kind, each.head, bool(each.artifact)) for each in found) == sorted(
        [
            ("perplexity", "tied", False),
            *[("perplexity", head, True) for head in ("input-only", "tied") for _ in made],
            ("glue", "input-only", False),
            *[("glue", "input-only", True)] * len(made),
        ]
    )
    assert {each.settings["limit"] for each in found if each.kind == "perplexity"} == {5}
    assert {each.data["limit_train"] for each in found if each.data} == {4}


def test_the_comparison_of_all_cells_is_shown(swept: Swept, orientc: Orientc) -> None:
    assert swept.ended.out == orientc("compare", swept.runs).out
    for word in ("ppl input-only", "ppl tied", "rte accuracy"):
        assert word in swept.ended.out
    assert "–" not in swept.ended.out  # no figure is lacking


def test_the_same_again_does_no_work_and_shows_the_same(swept: Swept, no_work: None, orientc: Orientc) -> None:
    before = {path: path.stat().st_ino for path in swept.runs.rglob("*")}
    again = orientc("sweep", *swept.arguments, "--out", swept.runs)
    assert (again.code, again.err, again.out) == (0, "", swept.ended.out)
    assert {path: path.stat().st_ino for path in swept.runs.rglob("*")} == before  # what is written is a new file


def test_what_is_lost_is_all_that_is_made_again(swept: Swept, orientc: Orientc, tmp_path: Path) -> None:
    runs = shutil.copytree(swept.runs, tmp_path / "copied")
    folder = runs / swept.folder.name
    lost = [next(folder.glob("svd-r6*.safetensors")), next(folder.glob("autoencoder-r12*.perplexity-tied-*.json"))]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    contents = [path.read_bytes() for path in lost[:1]]
    for path in lost:
        path.unlink()
    again = orientc("sweep", *swept.arguments, "--out", runs)
    assert again.code == 0
    assert [path.read_bytes() for path in lost[:1]] == contents
    changed = {path for path in folder.iterdir() if path.is_file() and path.stat().st_mtime_ns != before[path]}
    found_again = {path for path in changed if path.suffix == ".safetensors"}  # these have the time of now
    assert changed - found_again == {lost[1], lost[0].with_suffix(".history.json")}
    assert {path.name for path in folder.iterdir()} == {path.name for path in before}


def test_only_what_was_asked_for_is_shown_though_more_is_there(swept: Swept, no_work: None, orientc: Orientc) -> None:
    model = swept.arguments[0]
    ended = orientc("sweep", model, "--ratios", "4", "--methods", "svd", "--out", swept.runs, "--json", "--quiet")
    assert ended.code == 0
    (comparison,) = ended.document["comparisons"]
    assert [(row["method"], row["rank"]) for row in comparison["rows"]] == [("original", 32), ("svd", 6)]
    assert comparison["columns"] == []


def test_json_is_one_document_of_the_comparison(swept: Swept, no_work: None, orientc: Orientc) -> None:
    ended = orientc("sweep", *swept.arguments, "--out", swept.runs, "--json")
    assert (ended.code, ended.err) == (0, "")
    document = ended.document
    cells = document["cells"]
    assert document["comparisons"] == orientc("compare", swept.runs, "--json").document["comparisons"]
    assert [(cell["name"], cell["status"], len(cell["paths"])) for cell in cells[:5]] == [
        ("svd, ratio 2", "skipped", 1),
        ("autoencoder, ratio 2", "skipped", 1),
        ("svd, ratio 4", "skipped", 1),
        ("autoencoder, ratio 4", "skipped", 1),
        ("perplexity of original", "skipped", 1),
    ]
    assert {cell["status"] for cell in cells} == {"skipped"}
    assert len(cells) == 4 + 5 + 5
    (comparison,) = document["comparisons"]
    names = ("perplexity", "kl", "kl_p99", "kl_max", "same_top")
    columns = [f"{name}.{head}" for name in names for head in ("input-only", "tied")]
    assert [column["name"] for column in comparison["columns"]] == [*columns, "rte.accuracy"]
    first, *_, last = comparison["columns"]
    assert first["key"].startswith("perplexity.input-only[limit=5,text=text.txt:")
    assert (last["chosen"]["limit_train"], last["chosen"].keys() & {"data", "seed", "text"}) == (4, set())
    assert [len(row["figures"]) for row in comparison["rows"]] == [3, *[11] * 4]


def test_a_method_named_twice_is_fitted_once(orientc: Orientc, bert_folder: Path, tmp_path: Path) -> None:
    ended = orientc("sweep", bert_folder, "--ratios", "4,4.0", "--methods", "svd, svd", "--device", "cpu", "--json")
    assert ended.code == 0
    (comparison,) = ended.document["comparisons"]
    assert len(comparison["rows"]) == 2
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


# -- cells that fail


def test_a_ratio_no_rank_can_reach_fails_its_cell_alone(
    orientc: Orientc, bert_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    arguments = [bert_folder, *CELLS[4:], "--methods", "svd", "--perplexity", "--text", text_file]
    ended = orientc("sweep", *arguments, "--ratios", "500,4")
    assert ended.code == 1
    failed, end = ended.err.splitlines()
    assert failed.startswith("orientc: failed: svd, ratio 500: ")
    assert "choose at most" in failed
    assert end.startswith("orientc: 1 ")
    assert "svd-r6" in ended.out
    assert len(list(tmp_path.rglob("svd-r6*.perplexity-*.json"))) == 2
    as_json = orientc("sweep", *arguments, "--ratios", "500,4", "--json")
    assert as_json.code == 1
    assert len(as_json.document["comparisons"][0]["rows"]) == 2
    assert failed in as_json.err


def test_a_task_without_data_fails_for_every_subject_and_nothing_else(
    orientc: Orientc, bert_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    cells = ["--ratios", "4", "--methods", "svd", "--perplexity", "--text", text_file, *CELLS[4:], *TASK]
    ended = orientc("sweep", bert_folder, *cells, "--data", "empty")
    assert ended.code == 1
    *failed, end = ended.err.splitlines()
    assert [line.split(": ")[2].partition("-")[0] for line in failed] == ["rte of original", "rte of svd"]
    assert end.startswith("orientc: 2 cells failed")
    assert "ppl tied" in ended.out
    assert "rte" not in ended.out
    assert len(list(tmp_path.rglob("*.perplexity-*.json"))) == 3


def test_a_text_that_is_missing_fails_perplexity_alone(orientc: Orientc, bert_folder: Path) -> None:
    ended = orientc(
        "sweep", bert_folder, "--ratios", "4", "--methods", "svd", "--perplexity", "--text", "none.txt", *CELLS[4:]
    )
    assert ended.code == 1
    assert ended.err.count("none.txt") == 2
    assert "svd-r6" in ended.out


def test_a_model_without_perplexity_says_so_in_each_cell(
    orientc: Orientc, bert_folder: Path, text_file: Path, swept: Swept
) -> None:
    """A fine-tuned classifier has no language-model head; its table is compressed all the same."""
    classifier = next(path for path in swept.folder.iterdir() if path.is_dir() and path.name.startswith("original."))
    ended = orientc(
        "sweep", classifier, "--ratios", "4", "--methods", "svd", "--perplexity", "--text", text_file, *CELLS[4:]
    )
    assert (classifier / "config.json").is_file()
    assert ended.code == 1
    assert ended.err.count("no language-model head") == 2
    assert "svd-r6" in ended.out


def test_where_every_cell_fails_there_is_no_table(orientc: Orientc, bert_folder: Path, tmp_path: Path) -> None:
    ended = orientc("sweep", bert_folder, "--ratios", "500", *CELLS[2:4], "--device", "cpu", "--quiet")
    assert (ended.code, ended.out) == (1, "")
    assert len(ended.err.splitlines()) == 3
    assert files_in(tmp_path) == []


def test_an_unforeseen_failure_is_a_cells_too(
    orientc: Orientc, bert_folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory, say: the table is shown, the cells are named, no traceback."""

    def score(*_arguments: object, **_options: object) -> Any:
        raise MemoryError("no more of it\nand a second line")

    monkeypatch.setattr("orientc.evaluation.side_by_side.SideBySide.score", score)
    ended = orientc(
        "sweep", bert_folder, "--ratios", "4", "--methods", "svd", "--perplexity", "--text", text_file, *CELLS[4:]
    )
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 3
    assert ended.err.count("no more of it") == 2
    assert "svd-r6" in ended.out


def test_being_interrupted_is_no_cells_failure(
    orientc: Orientc, bert_folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(*_arguments: object, **_options: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("orientc.evaluation.side_by_side.SideBySide.score", score)
    ended = orientc(
        "sweep", bert_folder, "--ratios", "4", "--methods", "svd", "--perplexity", "--text", text_file, *CELLS[4:]
    )
    assert (ended.code, ended.out, ended.err) == (130, "", "")


# -- what is said of each cell


def test_a_line_for_each_cell_where_no_terminal_is(orientc: Orientc, bert_folder: Path, text_file: Path) -> None:
    arguments = [bert_folder, *CELLS[:-1], "--methods", "svd", "--ratios", "4,500", "--perplexity", "--text", text_file]
    first, again = (orientc("sweep", *arguments).err.splitlines() for _ in range(2))
    assert [line.rsplit(" in ", 1)[0] for line in first[:4]] == [
        "orientc: 1/5 svd, ratio 4: made",
        "orientc: 2/5 svd, ratio 500: failed: ratio 500 leaves less than one number per token: choose at most 25.2",
        "orientc: 3/4 perplexity of original: made",
        first[3].rsplit(" in ", 1)[0],
    ]
    assert first[3].startswith("orientc: 4/4 perplexity of svd-r6-")
    assert [line.rpartition(": ")[2] for line in again if "/4 " in line] == ["there already"] * 2
    document = orientc("sweep", *arguments, "--json", "--quiet").document
    assert [cell["status"] for cell in document["cells"]] == ["skipped", "failed", "skipped", "skipped"]
    assert [bool(cell["error"]) for cell in document["cells"]] == [False, True, False, False]


def test_every_method_calibrated_and_not(orientc: Orientc, bert_folder: Path, text_file: Path, tmp_path: Path) -> None:
    calibration = tmp_path / "calibration.safetensors"
    assert orientc("calibrate", bert_folder, "--text", text_file, "--tokens", "400", "--out", calibration).code == 0
    sizes = ["--ratios", "2", "--bits", "none,4", "--blocks", "Q5_0", "--target-bits", "3"]
    sizes += ["--methods", "svd,ae,quantize,target"]
    both = ["--calibration", "none", "--calibration", calibration]
    ended = orientc("sweep", bert_folder, *sizes, *both, "--device", "cpu", "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    document = ended.document
    assert [cell["name"] for cell in document["cells"]] == [
        f"{name}{calibrated}"
        for name in (
            "svd, ratio 2", "autoencoder, ratio 2", "svd, ratio 2, 4 bits", "autoencoder, ratio 2, 4 bits",
            "quantize, 4 bits", "quantize, Q5_0 blocks", "target, target bits 3",
        )
        for calibrated in ("", ", calibrated")
    ]  # fmt: skip
    found = [artifacts.read_description(Path(path)) for cell in document["cells"] for path in cell["paths"]]
    assert [bool(each.settings.get("calibration_sha256")) for each in found] == [False, True] * 7


def test_a_calibration_that_is_asked_for_is_measured_once_and_kept(
    orientc: Orientc, bert_folder: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "orientc.workflows.sweep.calibrate", partial(calibrate, text=text_file, tokens=400, frequency=None)
    )
    asked = ["sweep", bert_folder, "--target-bits", "2,3", "--calibration", "auto", "--device", "cpu", "--json", "-q"]
    for status in ("made", "skipped"):
        document = orientc(*asked).document
        assert [(cell["name"], cell["status"]) for cell in document["cells"]] == [
            ("calibration", status),
            ("target, target bits 2, calibrated", status),
            ("target, target bits 3, calibrated", status),
        ]


def test_a_study_is_read_from_a_file_and_options_go_over_it(
    orientc: Orientc, bert_folder: Path, text_file: Path, glue_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_text(
        f"""
        ratios = [4, 2]
        methods = ["svd"]
        perplexity = true
        text = "{text_file}"
        limit = 5
        task = ["rte", "cola"]
        data = "{glue_folder}"
        epochs = 1
        [glue]
        limit-train = 4
        limit-eval = 4
        [cola]
        epochs = 2
        seeds = [3, 4]
        """
    )
    ended = orientc("sweep", bert_folder, "--config", "study.toml", "--ratios", "4", "--device", "cpu", "-q", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = [records.read(Path(path)) for cell in ended.document["cells"][1:] for path in cell["paths"]]
    told = {(each.kind, (each.data or {}).get("task")): [] for each in found}  # type: ignore[var-annotated]
    for each in found:
        told[(each.kind, (each.data or {}).get("task"))].append(
            (each.settings.get("epochs"), each.settings["seed"], (each.data or {}).get("limit_train"))
        )
    assert told == {
        ("perplexity", None): [(None, 0, None)] * 3,
        ("glue", "rte"): [(1, 0, 4)] * 2,
        ("glue", "cola"): [(2, 3, 4), (2, 4, 4)] * 2,
    }


# -- requests that are wrong by themselves


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--methods", "svd,pca"], "pca"),
        (["--methods", ""], "svd"),
        (["--ratios", "2,five"], "--ratios"),
        (["--ratios", ""], "--ratios"),
        (["--ratios", "2,,5"], "--ratios"),
        (["--ratios", "0.5"], "--ratios must be at least 1, not 0.5"),
        (["--ratios", "nan"], "--ratios"),
        (["--ratios", "inf"], "--ratios"),
        (["--ratios", "-5"], "--ratios"),
        (["--task", "sst3"], "sst3"),
        (["--task", "rte", "--task", ""], "squad"),
        (["--task", "rte", "--seeds", "1,two"], "--seeds"),
        (["--task", "rte", "--epochs", "-1"], "epochs"),
        (["--perplexity", "--limit", "0"], "limit"),
        (["--device", "gpu9"], "gpu9"),
        (["--rnk", "4"], "--rnk"),
        (["--presets", "fast"], "fast"),
        (["--bits", "4,x"], "--bits"),
        (["--bits", "5"], "5"),
        (["--blocks", "Q4_2"], "IQ4_NL"),
        (["--target-bits", "0"], "0"),
        (["--fit-seeds", "x"], "--fit-seeds"),
        (["--task", "rte", "--keep", "all"], "all"),
        (["--config", "none.toml"], "none.toml"),
    ],
)
def test_a_wrong_request_ends_with_2_before_anything_is_made(
    orientc: Orientc, bert_folder: Path, tmp_path: Path, arguments: list[str], named: str
) -> None:
    assert named in one_line(orientc("sweep", bert_folder, *arguments), 2)
    assert files_in(tmp_path) == []


def test_a_model_that_is_not_there_is_named(orientc: Orientc) -> None:
    assert "./nowhere" in one_line(orientc("sweep", "./nowhere"), 1)


def test_under_a_launcher_it_is_refused_before_any_work(
    orientc: Orientc, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "sweep runs in one process" in one_line(orientc("sweep", bert_folder, "--ratios", "4"), 2)
    assert files_in(tmp_path) == []


# -- as a function


def test_the_function_does_what_the_command_does(
    swept: Swept, no_work: None, bert_folder: Path, text_file: Path, glue_folder: Path, orientc: Orientc
) -> None:
    done = sweep(
        bert_folder, ratios=[2, 4], methods=["svd", "autoencoder"], perplexity=True, text=str(text_file), limit=5,
        task="rte", data=glue_folder, epochs=1, limit_train=4, limit_eval=4, keep="last", device="cpu", out=swept.runs,
    )  # fmt: skip
    assert done.failed == ()
    assert len(done.paths) == 4 + 9 + 5
    found = valid(json.loads(json.dumps(done.as_dict())))
    assert len(found["cells"]) == len(done.cells)
    assert found["comparisons"] == orientc("compare", swept.runs, "--json").document["comparisons"]


def test_the_function_returns_what_failed(bert_folder: Path) -> None:
    done = sweep(bert_folder, ratios=[500], methods="svd", device="cpu")
    assert (done.compared, done.paths) == (None, ())
    (cell,) = done.as_dict()["cells"]
    assert (done.as_dict()["comparisons"], cell["status"], cell["paths"]) == ([], "failed", [])
    (line,) = done.failed
    assert line.startswith("svd, ratio 500: ")


# -- tables and pairs


def test_of_pairs_the_languages_that_are_named_are_measured_with_both_tables_compressed(
    orientc: Orientc, wordpiece: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = save_translator("mt5-two-tensors", tmp_path / "model", wordpiece)
    text = tmp_path / "pairs.jsonl"
    rows = ({"fr": target[::-1], "de": target, "en": source} for source, target in PAIRS)
    text.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    asked = ["sweep", model, "--bits", "8,4", "--perplexity", "--text", text, "--device", "cpu", "--json", "-q"]
    assert "say with `languages` which two" in orientc(*asked).document["cells"][-1]["error"]
    found = orientc(*asked, "--table", "all", "--languages", "en,de").document
    assert [cell["status"] for cell in found["cells"]] == ["made"] * 5
    (comparison,) = found["comparisons"]
    names = {row["name"]: [*row["model_mb"]] for row in comparison["rows"]}
    assert [head for name, (*_, head) in names.items() if " + " in name] == ["both"] * 2
    read = [records.read(Path(path)) for cell in found["cells"][2:] for path in cell["paths"]]
    again = perplexity(model, text=text, languages="en,de", device="cpu", out=tmp_path / "again").records[0]
    assert [record.head for record in read] == ["input-only", "both", "both"]
    assert {record.text["sha256"] for record in read if record.text} == {again.text["sha256"] if again.text else ""}
    assert read[0].metrics["loss"] == again.metrics["loss"]
    alone = orientc(*asked, "--table", "head", "--languages", "en,de").document
    assert [[*row["model_mb"]] for row in alone["comparisons"][0]["rows"]][1:] == [["head-only"]] * 2
    assert "--languages" in one_line(orientc(*asked, "--languages", "en"), 2)
