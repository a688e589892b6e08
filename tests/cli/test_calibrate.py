"""`orientc calibrate` on small models, with texts from files, frequencies, and a loopback hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.architectures import build
from support.commands import Client, Ended, files_in, one_line
from support.data import SENTENCES
from support.hub import Hub, write_dataset
from support.words import facts
from transformers import PreTrainedTokenizerFast

from orientc.storage import calibration as calibrations

Orientc = Callable[..., Ended]
QUICK = ("--tokens", "300", "--device", "cpu")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(ended: Ended) -> dict[str, Any]:
    assert (ended.code, ended.err) == (0, "")
    found: dict[str, Any] = ended.document
    return found


def test_a_calibration_goes_into_the_runs_folder_and_is_done_once(
    orientc: Orientc, bert_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    made = document(orientc("calibrate", bert_folder, "--text", text_file, *QUICK, "--json"))
    path = Path(made["calibration"])
    assert files_in(tmp_path) == [str(path)]
    assert path.parent == Path("runs") / "tiny-bert"
    assert (made["fresh"], made["objective"], made["text"]) == (True, "masked", "text.txt")
    stored = load_file(path)
    importances = {f"{name}_{what}" for name in ("input", "head") for what in ("importance", "shrinkage")}
    assert stored.keys() == {"counts", "prior", "head_counts"} | importances
    assert made["types"] == int((stored["counts"] > 0).sum())
    assert made["input_trace"] == pytest.approx(float(stored["input_importance"].trace()))
    assert made["head_trace"] == pytest.approx(float(stored["head_importance"].trace()))
    assert made["head_shrinkage"] == pytest.approx(float(stored["head_shrinkage"]))
    content = path.read_bytes()

    again = orientc("calibrate", bert_folder, "--text", text_file, *QUICK, "--json", "--imatrix", "of/columns.gguf")
    assert Path("of/columns.gguf").read_bytes()[:4] == b"GGUF"  # also of one that was there already
    assert again.code == 0
    assert again.document == made | {"fresh": False, "seconds": None}
    assert "done already" in again.err
    over = document(orientc("calibrate", bert_folder, "--text", text_file, *QUICK, "--json", "--overwrite", "--quiet"))
    assert over["fresh"]
    assert path.read_bytes() == content


def test_people_are_told_what_was_counted_and_measured(orientc: Orientc, gpt2_folder: Path, text_file: Path) -> None:
    ended = orientc("calibrate", gpt2_folder, "--text", text_file, *QUICK, "--out", "gpt2.safetensors")
    assert (ended.code, ended.err) == (0, "")
    told = dict(line.split("  ", 1) for line in facts(ended.out))
    assert [name.strip() for name in told] == [
        "calibration", "model", "text", "tokens", "types", "objective", "input importance", "head importance",
        "measured in",
    ]  # fmt: skip
    assert told["calibration"].strip() == "gpt2.safetensors"
    shown = orientc("inspect", "gpt2.safetensors")
    assert (shown.code, shown.err) == (0, "")
    assert [line.split() for line in shown.out.splitlines()[:8]] == [
        line.split() for line in ended.out.splitlines()[:8]
    ]
    assert document(orientc("inspect", "gpt2.safetensors", "--json"))["objective"] == "causal"


def test_something_else_in_the_way_is_kept_and_a_calibration_unless_told_to_replace_it(
    orientc: Orientc, bert_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_text("somebody's notes")
    arguments = ("calibrate", bert_folder, "--text", text_file, *QUICK, "--out", path)
    for more in ([], ["--overwrite"]):
        assert "move it, or name another place" in one_line(orientc(*arguments, *more), 1)
        assert path.read_text() == "somebody's notes"
    path.unlink()
    assert orientc(*arguments).code == 0
    assert "another calibration" in one_line(orientc(*arguments, "--seed", "1"), 1)
    assert calibrations.read_description(path).seed == 0


def test_a_frequency_needs_no_text(orientc: Orientc, bert_folder: Path) -> None:
    made = document(orientc("calibrate", bert_folder, "--frequency", "zipf", "--json"))
    assert (made["frequency"], made["objective"], made["text"], made["measured"]) == ("zipf", None, None, 0)
    ended = orientc("calibrate", bert_folder, "--frequency", "zipf")
    assert "frequencies zipf" in ended.out
    assert "counts alone" in ended.out


def test_a_frequency_beside_a_text_replaces_its_counts(orientc: Orientc, bert_folder: Path, text_file: Path) -> None:
    arguments = ("calibrate", bert_folder, "--text", text_file, *QUICK, "--json")
    text, both = (document(orientc(*arguments, *more)) for more in ((), ("--frequency", "zipf")))
    assert text["calibration"] != both["calibration"]
    stored = [load_file(entry["calibration"]) for entry in (text, both)]
    assert torch.equal(stored[0]["input_importance"], stored[1]["input_importance"])
    assert not torch.equal(stored[0]["counts"], stored[1]["counts"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--tokens", "0"], "--tokens"),
        (["--tokens", "255"], "256"),
        (["--tokens", "many"], "--tokens"),
        (["--frequency", "often"], "wordfreq:LANGUAGE"),
        (["--seed", "-1"], "--seed"),
        (["--device", "gpu9"], "gpu9"),
        (["--text", "{text}", "--text", "{text}=0"], "--text"),
        (["--text", "{text}", "--dataset", "imdb=much"], "--dataset"),
        (["surplus"], "surplus"),
        (["--text", "{text}", "--out", "x.bin"], "--out"),
        (["--text", "{text}", "--imatrix", "x.dat"], "--imatrix"),
    ],
)
def test_a_wrong_request_ends_with_2(
    orientc: Orientc, bert_folder: Path, text_file: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    filled = [option.format(text=text_file) for option in options]
    assert named in one_line(orientc("calibrate", bert_folder, *filled), 2)
    assert files_in(tmp_path) == []


def test_several_processes_are_refused_before_any_work(
    orientc: Orientc, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "calibrate runs in one process" in one_line(orientc("calibrate", "./nowhere", "--text", text_file), 2)


def test_what_cannot_be_calibrated_ends_with_1(
    orientc: Orientc, bert_folder: Path, text_file: Path, tmp_path: Path, wordpiece: PreTrainedTokenizerFast
) -> None:
    (tmp_path / "short.txt").write_text("\n".join(SENTENCES[:3]))
    (tmp_path / "empty.txt").write_text(" \n")
    build("t5").save_pretrained(tmp_path / "t5")
    wordpiece.save_pretrained(tmp_path / "t5")
    for options, named in (
        ([bert_folder, "--text", "short.txt"], "at least 256 are needed"),
        ([bert_folder, "--text", "empty.txt"], "no text"),
        ([bert_folder, "--text", "none.txt"], "none.txt"),
        ([bert_folder], "--text"),  # no hub here
        (["t5", "--text", text_file], "encoder-decoder"),
        (["t5"], "encoder-decoder"),
        (["./nowhere", "--text", text_file], "nowhere"),
    ):
        assert named in one_line(orientc("calibrate", *options), 1)
    assert not (tmp_path / "runs").exists() or files_in(tmp_path / "runs") == []
    assert orientc("calibrate", "t5", "--frequency", "zipf").code == 0


def test_texts_come_from_the_hub_and_never_the_one_that_is_scored(
    hub: Hub, online: Client, bert_folder: Path, tmp_path: Path
) -> None:
    lines = [{"text": f" {sentence} \n"} for sentence in SENTENCES]
    wikitext = {"wikitext-103-raw-v1": {"validation": lines, "test": [{"text": " To be scored . \n"}]}}
    reviews = {"plain": {"train": [{"review": line, "stars": 5} for line in SENTENCES], "test": [{"review": "-"}]}}
    hub.publish("Salesforce/wikitext", write_dataset(tmp_path / "wikitext", wikitext), kind="datasets")
    hub.publish("some/reviews", write_dataset(tmp_path / "reviews", reviews), kind="datasets")

    def run(*arguments: object) -> Ended:
        return online("calibrate", bert_folder, *QUICK, "--json", *arguments)

    assert document(run())["text"] == "Salesforce/wikitext/wikitext-103-raw-v1/validation"
    assert hub.downloads("Salesforce/wikitext", "datasets") == {"wikitext-103-raw-v1/validation-00000-of-00001.parquet"}
    made = document(run("--dataset", "some/reviews:plain", "--column", "review"))
    assert made["text"] == "some/reviews/plain/train"
    assert made["counted"] > 1000
    assert "can't load some/nothing" in one_line(run("--dataset", "some/nothing"), 1)
