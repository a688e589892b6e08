"""`shrink` as a whole: on a tiny model, whose losses mean nothing but are measured all the same."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import transformers
from huggingface_hub import ModelCard
from support.commands import Ended, files_in, one_line, run_here
from support.documents import valid

import orientc as library
from orientc.comparison.compare import compare
from orientc.comparison.grid import grid
from orientc.errors import ExportError, FitError, GateError, UsageError
from orientc.models.source import ModelSource
from orientc.storage import artifact as artifacts
from orientc.utils.progress import Progress
from orientc.workflows import fresh_process
from orientc.workflows.fresh_process import Loaded, loaded
from orientc.workflows.request import texts_for
from orientc.workflows.ruler import Outcome, Ruler
from orientc.workflows.shrunk import Shrunk

Orientc = Callable[..., Ended]


@dataclass(frozen=True)
class Made:
    """A shrunk model: how the command ended, its folder, and its runs folder."""

    ended: Ended
    folder: Path
    runs: Path
    arguments: tuple[object, ...]

    @property
    def result(self) -> Shrunk:
        state = min(self.runs.rglob("shrink-*.state"), key=lambda path: path.stat().st_mtime)
        return Shrunk.from_dict(json.loads(state.read_text()))


@pytest.fixture(scope="module")
def made(bert_folder: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("shrunk")
    arguments = (
        "shrink",
        bert_folder,
        "--to",
        place / "small",
        "--text",
        text,
        "--out",
        place / "runs",
        "--name",
        "Mine",
    )
    return Made(run_here(*arguments), place / "small", place / "runs", arguments)


@pytest.fixture
def not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process without orientc is started by the tests that are about it alone: it takes seconds."""
    monkeypatch.setattr(fresh_process, "loaded", lambda *_: Loaded(0, None, "of a test"))


def test_the_folder_loads_and_is_measured_on_a_text_of_its_own(
    made: Made, bert_folder: Path, text: Path, tmp_path: Path
) -> None:
    assert made.ended.code == 0, made.ended
    found = made.result
    assert found.verdict
    assert found.inside
    assert found.texts == {part: f"village.txt/{part}" for part in ("calibration", "search", "verdict")}
    assert found.verdict.text == "village.txt/verdict"
    source = ModelSource.resolve(bert_folder)
    parts = texts_for(source, "perplexity", text=text, sts=None, data=None, seed=0, progress=Progress())
    for place, figure in ((bert_folder, found.verdict.outcome.original), (made.folder, found.verdict.outcome.here)):
        (record,) = library.perplexity(place, text=parts.verdict, limit=2000, device="cpu", out=tmp_path).records
        assert record.perplexity == figure
    smallest = min((entry for entry in found.tried if entry.inside), key=lambda entry: entry.bits)
    assert found.artifact
    assert artifacts.read_description(found.artifact).settings["target_bits"] == smallest.bits
    assert len(found.tried) <= 5
    model = transformers.AutoModelForMaskedLM.from_pretrained(made.folder, trust_remote_code=True)
    assert type(model).__name__ == "BertForMaskedLM"
    assert found.loaded
    assert found.loaded.sentences == 64
    assert found.loaded.difference is not None
    assert found.loaded.difference <= 1e-3


def test_the_screen_is_a_verdict_to_be_shown(made: Made) -> None:
    lines = made.ended.out.splitlines()
    assert lines[0].startswith("tiny-bert ")
    assert "table 0.0 → 0.0 MB    model 0.1 → 0.1 MB" in lines[0]
    assert lines[1].startswith("perplexity, tied")
    assert " % ± " in lines[1]
    assert "within 1%" in lines[1]
    assert any(line.startswith("load with") and "trust_remote_code=True" in line for line in lines)
    assert "bits per weight: perplexity" in made.ended.err
    assert "left" in made.ended.err
    assert made.ended.err.count("at least ") == made.ended.err.count("rank 1 of 32") == 1


def test_the_card_has_the_verdict_and_no_figure_of_the_search(made: Made) -> None:
    card = ModelCard.load(made.folder / "README.md")
    assert "# Mine" in card.content
    assert "perplexity on village.txt/verdict" in card.content
    assert "search" not in card.content
    assert json.loads((made.folder / "orientc_files.json").read_text())["files"].keys() >= {"README.md"}


def test_what_it_leaves_among_the_runs_is_no_problem_to_compare(made: Made) -> None:
    found = compare(made.runs)
    assert found.problems == ()
    assert any(len(one.rows) > 1 for one in found.comparisons)
    assert len(found.comparisons) == 1  # the folder is no model of its own there
    for one in found.comparisons:
        assert [heading for heading in grid(one).header if heading.startswith("ppl tied")] == ["ppl tied"]
        assert "settings" not in grid(one).header


def test_the_same_again_makes_nothing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_process, "loaded", pytest.fail)
    monkeypatch.setattr(Ruler, "folder", pytest.fail)
    before = files_in(made.folder)
    again = run_here(*made.arguments)
    assert again.code == 0
    assert "done already" in again.err
    assert again.out == made.ended.out
    assert run_here(*made.arguments, "--json").document["inside"]
    assert files_in(made.folder) == before


def test_what_lies_in_the_runs_folder_is_not_made_again(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_loaded: None
) -> None:
    """Where the folder is gone, an export and a verdict are all there is to do."""
    monkeypatch.setattr("orientc.calibration.calibrate.measure", pytest.fail)
    monkeypatch.setattr("orientc.storage.artifact.save", pytest.fail)
    written = [path.name for path in made.runs.rglob("target-*.json")]
    arguments = [tmp_path / "other" if argument == made.folder else argument for argument in made.arguments]
    ended = run_here(*arguments)
    assert ended.code == 0, ended
    assert [path.name for path in made.runs.rglob("target-*.json")] == written
    assert (tmp_path / "other" / "model.safetensors").read_bytes() == (made.folder / "model.safetensors").read_bytes()


def test_a_folder_that_is_another_by_now_is_not_taken_for_done(made: Made, tmp_path: Path) -> None:
    copied = shutil.copytree(made.folder.parent, tmp_path / "copy")
    arguments = [
        {made.folder: copied / "small", made.runs: copied / "runs"}.get(argument, argument)  # type: ignore[call-overload]
        for argument in made.arguments
    ]
    assert "there already" in one_line(run_here(*arguments, "--quiet"), 1)


@pytest.mark.slow
def test_a_folder_that_computes_something_else_there_is_found_out(
    made: Made, bert_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(made.folder, tmp_path / "small")
    code = folder / "modeling_orientc.py"
    artifact = made.result.artifact
    assert artifact
    facts = library.export(artifact, tmp_path / "exported", model=bert_folder).facts
    code.write_text(code.read_text() + "\nraise RuntimeError('not here')\n")
    with pytest.raises(ExportError, match=r"does not load where orientc is not: .*not here"):
        loaded(folder, facts, ["a village"])
    bent = "\n_forward = CompressedEmbedding.forward\n"
    bent += "CompressedEmbedding.forward = lambda self, ids: 1.1 * _forward(self, ids)\n"
    code.write_text((made.folder / "modeling_orientc.py").read_text() + bent)
    with pytest.raises(ExportError, match="computes something else"):
        loaded(folder, facts, ["a village"])


def test_a_verdict_outside_keeps_the_folder_and_ends_with_three(
    bert_folder: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_loaded: None
) -> None:
    monkeypatch.setattr(Ruler, "folder", lambda *_: Outcome(20.0, 21.0, math.log(21 / 20), 0.001))
    ended = run_here("shrink", bert_folder, "--to", tmp_path / "small", "--text", text, "--out", tmp_path / "runs")
    assert ended.code == 3
    assert "OUTSIDE 1%" in ended.out
    assert "outside 1%" in ended.err
    assert (tmp_path / "small" / "model.safetensors").exists()


def test_a_tolerance_that_nothing_meets_writes_no_folder(
    bert_folder: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ruler, "artifact", lambda *_: Outcome(20.0, 30.0, math.log(1.5), 0.001))
    with pytest.raises(GateError, match="no table is surely within 1%"):
        library.shrink(bert_folder, tmp_path / "small", text=text, out=tmp_path / "runs")
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("size", "value"), [("target_bits", 5.0), ("target_mb", 0.003), ("target_ratio", 6.0), ("model_mb", 0.062)]
)
def test_a_size_is_kept_to_in_the_folder(
    size: str, value: float, bert_folder: Path, text: Path, tmp_path: Path, not_loaded: None
) -> None:
    found = library.shrink(bert_folder, tmp_path / "small", text=text, out=tmp_path / "runs", **{size: value})
    assert found.table is not None
    assert found.weights is not None
    assert found.verdict
    assert found.verdict.inside is None
    assert not found.tried
    allowed = {
        "target_bits": value * 120 * 32 / 8, "target_mb": value * 1e6, "target_ratio": 120 * 32 * 4 / value,
        "model_mb": math.inf,
    }[size]  # fmt: skip
    assert 0.5 * allowed < found.table <= allowed or size == "model_mb"
    if size == "model_mb":
        assert 0.75 * value * 1e6 < found.weights <= value * 1e6


def test_a_model_that_can_not_be_so_small_says_what_the_rest_takes(
    bert_folder: Path, text: Path, tmp_path: Path
) -> None:
    with pytest.raises(FitError, match=r"what is not the table takes .* `dtype` float16"):
        library.shrink(bert_folder, tmp_path / "small", text=text, out=tmp_path / "runs", model_mb=0.001)
    assert not (tmp_path / "small").exists()


def test_a_dry_run_predicts_and_leaves_nothing(bert_folder: Path, text: Path, tmp_path: Path, made: Made) -> None:
    found = library.shrink(bert_folder, text=text, dry_run=True, out=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []
    assert found.calibration is None
    losses = [row.loss for row in found.predicted if row.loss is not None]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) >= 4
    before = files_in(made.runs)
    ended = run_here("shrink", bert_folder, "--dry-run", "--text", text, "--out", made.runs)
    assert "predicted loss" in ended.out
    valid(json.loads(json.dumps(found.as_dict())))
    assert files_in(made.runs) == before


def test_vectors_are_measured_where_there_is_no_head(
    bert_folder: Path, text: Path, tmp_path: Path, glue_folder: Path, not_loaded: None
) -> None:
    encoder = shutil.copytree(bert_folder, tmp_path / "encoder")
    transformers.AutoModel.from_pretrained(bert_folder).save_pretrained(encoder)
    found = library.shrink(encoder, tmp_path / "one", text=text, out=tmp_path / "runs", limit=40)
    assert found.verdict
    assert found.verdict.measure == "similarity"
    assert 0.99 <= found.verdict.outcome.here <= 1
    found = library.shrink(encoder, tmp_path / "two", text=text, sts=glue_folder, within="40pt", out=tmp_path / "runs")
    assert found.verdict
    assert found.verdict.measure == "spearman"
    assert found.texts["calibration"] == text.name
    assert [found.texts[part].rpartition("/")[2] for part in ("search", "verdict")] == ["train", "dev"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"within": "1%", "target_bits": 2.0}, "`within` and `target_bits`"),
        ({"target_mb": 2.0, "model_mb": 3.0}, "`target_mb` and `model_mb`"),
        ({"target_bits": 0.0}, "`target_bits`"),
        ({"within": "much"}, "`within`"),
        ({"measure": "spearman"}, "`sts`"),
        ({"measure": "bleu"}, "`measure`"),
        ({"limit": 0}, "`limit`"),
        ({"dtype": "int8"}, "`dtype`"),
        ({"private": True}, "`private`"),
        ({"to": None}, "`to`"),
        ({"dry_run": True, "push": "a/b"}, "`push`"),
    ],
)
def test_what_can_not_be_asked_for_is_refused_before_any_work(
    options: dict[str, object], named: str, bert_folder: Path, text: Path, tmp_path: Path
) -> None:
    asked: dict[str, object] = {"to": tmp_path / "small", "text": text, "out": tmp_path / "runs"} | options
    with pytest.raises(UsageError, match=named):
        library.shrink(bert_folder, **asked)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_under_a_launcher_it_is_refused(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="shrink runs in one process"):
        library.shrink(bert_folder, tmp_path / "small")
