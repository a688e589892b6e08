"""`orientc tune` on small models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import documents
from support.commands import Ended, files_in, one_line
from support.data import SENTENCES
from support.words import facts

from orientc.storage import artifact as artifacts

Orientc = Callable[..., Ended]
QUICK = ("--steps", "2", "--batch-size", "4", "--device", "cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(SENTENCES * 3))
    return path


@pytest.fixture
def artifact(orientc: Orientc, bert_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "bert.safetensors"
    assert orientc("svd", bert_folder, "--rank", "4", "--out", path).code == 0
    return path


def document(ended: Ended) -> dict[str, Any]:
    assert (ended.code, ended.err) == (0, "")
    found: dict[str, Any] = ended.document
    return found


def test_a_tuned_artifact_goes_beside_the_one_it_is_made_from_and_is_done_once(
    orientc: Orientc, artifact: Path, text: Path
) -> None:
    arguments = ("tune", artifact, "--text", text, *QUICK, "--json")
    made = document(orientc(*arguments))
    path = Path(made["artifact"])
    assert path.parent == artifact.parent
    assert path.name.startswith("bert-tuned-")
    assert (made["fresh"], made["method"], made["tuning"]["steps"]) == (True, "svd", 2)
    assert made["tuning"]["after"] < made["tuning"]["before"]
    history = documents.read(path.with_name(path.stem + ".history.json"))
    assert [entry["step"] for entry in history["evaluations"]] == [0, 2]
    assert history["settings"] == made["settings"] == artifacts.read_description(path).settings
    content = path.read_bytes()

    again = orientc(*arguments)
    assert "done already" in again.err
    assert again.document == made | {"fresh": False}
    assert document(orientc(*arguments, "--overwrite", "--quiet"))["fresh"]
    assert path.read_bytes() == content
    assert len(files_in(artifact.parent)) == 5  # two artifacts with their histories, and the text


def test_people_are_told_what_it_brought(orientc: Orientc, artifact: Path, text: Path) -> None:
    ended = orientc("tune", artifact, "--text", text, *QUICK, "--head", "input-only", "--out", "out.safetensors")
    assert (ended.code, ended.err) == (0, "")
    told = dict(line.split("  ", 1) for line in facts(ended.out))
    assert told["artifact"].strip() == "out.safetensors"
    assert [name.strip() for name in told][-3:] == ["held-out loss", "steps", "tuned in"]
    assert "before" in told["held-out loss"]
    assert artifacts.read_description("out.safetensors").settings["tuned_head"] == "input-only"
    assert orientc("tune", artifact, "--text", text, *QUICK, "--out", "folder").code == 0
    assert len(files_in(Path("folder") / "tiny-bert")) == 2


def test_a_tuned_artifact_is_inspected_scored_and_compared_as_any_other(
    orientc: Orientc, artifact: Path, text: Path, bert_folder: Path
) -> None:
    tuned = document(orientc("tune", artifact, "--text", text, *QUICK, "--json"))["artifact"]
    assert "tuned_steps 2" in orientc("inspect", tuned).out
    assert orientc("perplexity", tuned, "--text", text, "--limit", "5").code == 0
    (comparison,) = orientc("compare", artifact.parent, "--json").document["comparisons"]
    assert sorted(row["name"] for row in comparison["rows"]) == ["bert", Path(tuned).stem, "original"]
    assert "tuned artifact" in one_line(orientc("svd", bert_folder, "--like", tuned), 2)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--steps", "0"], "--steps"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--head", "neither"], "--head"),
        (["--device", "gpu9"], "gpu9"),
        (["--text", "other.txt=0"], "--text"),
        (["--out", "x.bin"], "--out"),
    ],
)
def test_a_wrong_request_ends_with_2(
    orientc: Orientc, artifact: Path, text: Path, options: list[str], named: str
) -> None:
    before = files_in(artifact.parent)
    assert named in one_line(orientc("tune", artifact, "--text", text, *options), 2)
    assert files_in(artifact.parent) == before


def test_what_cannot_be_tuned_ends_with_one_line(
    orientc: Orientc, artifact: Path, text: Path, gpt2_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "short.txt").write_text("\n".join(SENTENCES[:20]))
    (tmp_path / "damaged.safetensors").write_bytes(artifact.read_bytes()[:500])
    for arguments, named, code in (
        (["demo", "--text", text], "ends in .safetensors", 2),
        ([artifact, "--text", "short.txt"], "too little text", 1),
        ([artifact, "--text", "none.txt"], "none.txt", 1),
        ([artifact], "--text", 1),  # no hub here
        ([artifact, "--text", text, "--head", "head-only"], "not head-only", 1),
        ([artifact, "--text", text, "--model", gpt2_folder], "another", 1),
        (["damaged.safetensors", "--text", text], "damaged", 1),
        (["none.safetensors", "--text", text], "none.safetensors", 1),
    ):
        assert named in one_line(orientc("tune", *arguments), code)
    (tmp_path / "taken.safetensors").write_text("somebody's notes")
    assert "move it" in one_line(orientc("tune", artifact, "--text", text, *QUICK, "--out", "taken.safetensors"), 1)


def test_several_processes_are_refused_before_any_work(
    orientc: Orientc, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "tune runs in one process" in one_line(orientc("tune", "none.safetensors", "--text", text), 2)
