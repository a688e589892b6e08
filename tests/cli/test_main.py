from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from support.commands import Ended, files_in, one_line

from orientc.cli.app import app
from orientc.errors import FitError
from orientc.storage import artifact as artifacts
from orientc.utils.progress import Progress

Orientc = Callable[..., Ended]
Command = Any  # typer keeps the class of its commands to itself

QUICK = ("--epochs", "2", "--device", "cpu")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def artifact(orientc: Orientc, bert_folder: Path, tmp_path: Path) -> Path:
    """An artifact of the small masked language model."""
    path = tmp_path / "bert.safetensors"
    assert orientc("svd", bert_folder, "--rank", "4", "--out", path).code == 0
    return path


# -- requests that are wrong by themselves


@pytest.mark.parametrize("command", ["compress", "svd"])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--rank", "0"], "rank"),
        (["--rank", "-3"], "rank"),
        (["--rank", "four"], "--rank"),
        (["--rank"], "--rank"),
        (["--ratio", "0.5"], "ratio"),
        (["--ratio", "nan"], "ratio"),
        (["--rank", "4", "--ratio", "5"], "not both"),
        ([], "--rank"),
        (["--rank", "4", "--rnk", "4"], "--rnk"),
        (["--rank", "4", "--dtype", "int8"], "float16"),
        (["--rank", "4", "--device", "gpu9"], "gpu9"),
        (["--rank", "4", "--config", "none.toml"], "none.toml"),
        (["--rank", "4", "surplus"], "surplus"),
    ],
)
def test_a_wrong_request_ends_with_2(
    orientc: Orientc, bert_folder: Path, tmp_path: Path, command: str, options: list[str], named: str
) -> None:
    assert named in one_line(orientc(command, bert_folder, *options), 2)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frobnicate"], "frobnicate"),
        (["svd", "--rank", "4"], "MODEL"),
        (["compress", "{bert}", "--rank", "4", "--epochs", "0"], "epochs"),
        (["compress", "{bert}", "--rank", "4", "--seed", "9" * 30], "seed"),
        (["compress", "{bert}", "--rank", "4", "--preset", "ours"], "paper"),
        (["compress", "{bert}", "--rank", "4", "--init", "zeros"], "subspace"),
        (["compress", "{bert}", "--rank", "4", "--init", "artifact"], "--init"),
        (["compress", "{bert}", "--rank", "4", "--log-with", "paper-and-pencil"], "paper-and-pencil"),
        (["inspect", "{bert}", "--ratio", "0.5"], "ratio"),
        (["perplexity", "{bert}", "--text", "{text}", "--limit", "0"], "limit"),
        (["perplexity", "{bert}", "--text", "{text}", "--head", "left"], "tied"),
        (["perplexity", "{bert}", "--text", "{text}", "--device", "gpu9"], "gpu9"),
        (["perplexity", "{bert}", "--text", "{text}", "--model", "{bert}"], "--model"),
        (["perplexity", "{gpt2}", "--text", "{text}", "--window", "4", "--stride", "5"], "stride"),
    ],
)
def test_other_wrong_requests_end_with_2(
    orientc: Orientc,
    bert_folder: Path,
    gpt2_folder: Path,
    text_file: Path,
    tmp_path: Path,
    arguments: list[str],
    named: str,
) -> None:
    filled = [argument.format(bert=bert_folder, gpt2=gpt2_folder, text=text_file) for argument in arguments]
    assert named in one_line(orientc(*filled), 2)
    assert files_in(tmp_path) == []


def test_without_a_command_there_is_help_and_2(orientc: Orientc) -> None:
    ended = orientc()
    assert (ended.code, ended.err) == (2, "")
    assert "compress" in ended.out


# -- requests that can't be met


def test_a_rank_above_the_width_ends_with_1(orientc: Orientc, bert_folder: Path, tmp_path: Path) -> None:
    for command in ("svd", "compress"):
        assert "at most 32" in one_line(orientc(command, bert_folder, "--rank", "33"), 1)
        assert "at most" in one_line(orientc(command, bert_folder, "--ratio", "1000"), 1)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c", "none.gguf"])
@pytest.mark.parametrize("command", [["svd", "--rank", "4"], ["inspect"], ["perplexity"]])
def test_a_model_that_is_not_there_is_named(orientc: Orientc, command: list[str], name: str) -> None:
    assert name in one_line(orientc(*command, name), 1)


def test_a_file_or_folder_that_is_no_model_is_named(orientc: Orientc, text_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for model in (text_file, tmp_path / "empty"):
        assert str(model) in one_line(orientc("svd", model, "--rank", "4"), 1)


def test_a_table_with_nan_is_refused(orientc: Orientc, bert_folder: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    (model / "config.json").write_bytes((bert_folder / "config.json").read_bytes())
    tensors = load_file(bert_folder / "model.safetensors")
    tensors["bert.embeddings.word_embeddings.weight"][17, 3] = torch.nan
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    for command in ("svd", "compress"):
        assert "row 17" in one_line(orientc(command, model, "--rank", "4", "--out", out), 1)
    assert "not finite" in one_line(orientc("inspect", model), 1)
    assert files_in(out) == []


@pytest.mark.parametrize("out", ["file/runs", "file/x.safetensors", "/proc/nowhere/runs", "/proc/x.safetensors"])
def test_an_out_that_cannot_be_written_is_named(orientc: Orientc, bert_folder: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("in the way")
    for command in ("svd", "compress"):
        assert "can't write" in one_line(orientc(command, bert_folder, "--rank", "4", "--out", out), 1)
    assert files_in(tmp_path) == ["file"]


@pytest.mark.parametrize("command", [["svd", "--rank", "4"], ["compress", "--rank", "4"], ["calibrate"]])
def test_an_out_that_is_neither_a_folder_nor_an_artifact_is_refused(
    orientc: Orientc, bert_folder: Path, tmp_path: Path, command: list[str]
) -> None:
    name, *options = command
    assert "--out must be a folder" in one_line(orientc(name, bert_folder, *options, "--out", "x.bin"), 2)
    assert files_in(tmp_path) == []
    (tmp_path / "v1.2").mkdir()
    assert orientc("svd", bert_folder, "--rank", "4", "--out", "v1.2").code == 0


def test_perplexity_finds_an_unwritable_out_before_it_scores(
    orientc: Orientc, bert_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orientc.evaluation.perplexity.SideBySide", pytest.fail)
    (tmp_path / "file").write_text("in the way")
    ended = orientc("perplexity", bert_folder, "--text", text_file, "--out", "file/runs")
    assert "can't write" in one_line(ended, 1)


@pytest.mark.parametrize("content", [b"", b"words\n" * 50, (2**63).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_artifact_is_refused_everywhere(
    orientc: Orientc, bert_folder: Path, text_file: Path, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    for arguments in (
        ["inspect", path],
        ["perplexity", path, "--text", text_file],
        ["compare", path],
        ["svd", bert_folder, "--like", path],
        ["compress", bert_folder, "--like", path],
        ["compress", bert_folder, "--rank", 4, "--init", path],
        ["svd", bert_folder, "--rank", "4", "--out", path],
    ):
        assert "bad.safetensors" in one_line(orientc(*arguments), 1)
    assert path.read_bytes() == content
    assert files_in(tmp_path) == ["bad.safetensors"]


def test_an_artifact_cut_short_is_refused(orientc: Orientc, artifact: Path, text_file: Path) -> None:
    artifact.write_bytes(artifact.read_bytes()[:-4])
    for arguments in (["inspect", artifact], ["perplexity", artifact, "--text", text_file], ["compare", artifact]):
        assert "damaged" in one_line(orientc(*arguments), 1)


def test_a_models_weights_are_not_taken_for_an_artifact(orientc: Orientc, bert_folder: Path) -> None:
    assert "not an orientc artifact" in one_line(orientc("inspect", bert_folder / "model.safetensors"), 1)


@pytest.mark.parametrize("content", [b"", b" \n\n ", b"caf\xe9 au lait", None])
def test_a_text_that_cannot_be_scored_is_refused(
    orientc: Orientc, bert_folder: Path, tmp_path: Path, content: bytes | None
) -> None:
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_bytes(content)
    assert "text.txt" in one_line(orientc("perplexity", bert_folder, "--text", text, "--out", "runs"), 1)
    assert not list(tmp_path.rglob("*.json"))


def test_nothing_to_compare_is_an_error(orientc: Orientc, tmp_path: Path) -> None:
    assert "runs" in one_line(orientc("compare"), 1)
    (tmp_path / "runs").mkdir()
    assert "runs" in one_line(orientc("compare"), 1)
    assert "elsewhere" in one_line(orientc("compare", "elsewhere", "--json"), 1)


# -- artifacts and their base models


def with_other_weights(bert_folder: Path, folder: Path) -> Path:
    """The same architecture, another table."""
    folder.mkdir()
    for file in bert_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    tensors["bert.embeddings.word_embeddings.weight"] *= 1.5
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_an_artifact_of_another_table_needs_force(
    orientc: Orientc, artifact: Path, bert_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    other = with_other_weights(bert_folder, tmp_path / "other")
    arguments = ["perplexity", artifact, "--model", other, "--text", text_file, "--limit", "5", "--json"]
    assert "another" in one_line(orientc(*arguments), 1)
    assert not list(tmp_path.glob("*.perplexity-*.json"))
    forced = orientc(*arguments, "--force")
    assert forced.code == 0
    assert "--force" in forced.err
    assert len(forced.document["records"]) == 3
    assert orientc(*arguments, "--force", "--quiet").err == ""
    compared = orientc("compare", tmp_path)
    assert compared.code == 0
    assert "another model's table" in compared.err


def test_an_artifact_of_another_shape_cannot_be_forced(
    orientc: Orientc, artifact: Path, gpt2_folder: Path, text_file: Path
) -> None:
    ended = orientc(
        "perplexity", artifact, "--model", gpt2_folder, "--text", text_file, "--limit", "9", "--force", "-q"
    )
    assert "120 × 32" in one_line(ended, 1)


def test_an_artifact_whose_base_model_is_gone_says_how_to_go_on(
    orientc: Orientc, bert_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    moved = with_other_weights(bert_folder, tmp_path / "model")
    artifact = tmp_path / "x.safetensors"
    assert orientc("svd", moved, "--rank", "4", "--out", artifact).code == 0
    moved.rename(tmp_path / "moved")
    assert "--model" in one_line(orientc("perplexity", artifact, "--text", text_file), 1)
    arguments = ["--text", text_file, "--limit", "5", "--model", tmp_path / "moved"]
    assert orientc("perplexity", artifact, *arguments).code == 0


# -- errors nobody expected


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[str]:
    """A command in which an error comes up."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("orientc.calibration.calibrate.table_info", fail)
    return ["calibrate", "demo", "--frequency", "zipf"]


def test_an_error_nobody_expected_is_one_line_and_its_traceback_a_file(
    orientc: Orientc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command = failing(monkeypatch, ValueError("of two minds.\nIndeed\x1b[2J"))
    said = one_line(orientc(*command), 70)
    assert "bug of orientc (ValueError: of two minds" in said
    (file,) = files_in(tmp_path)
    assert said.endswith(f"its traceback is in {tmp_path / file}")
    assert "line" in (kept := (tmp_path / file).read_text())
    assert "ValueError: of two minds.\nIndeed" in kept
    assert "calibrate demo --frequency zipf" in kept


@pytest.mark.parametrize("place", [0, 1, 4])
def test_debug_prints_the_traceback(
    orientc: Orientc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command = failing(monkeypatch, ValueError("of two minds"))
    ended = orientc(*command[:place], "--debug", *command[place:])
    assert ended.code == 70
    assert ended.err.startswith("Traceback (most recent call last):")
    assert ended.err.splitlines()[-1].endswith("its traceback is above")
    assert files_in(tmp_path) == []


def test_a_traceback_that_cannot_be_written_is_printed(orientc: Orientc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    ended = orientc(*failing(monkeypatch, ValueError("of two minds")))
    assert ended.code == 70
    assert "ValueError: of two minds" in ended.err.splitlines()[-2]
    assert ended.err.splitlines()[-1].endswith("its traceback is above")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"),
    ],
)
def test_too_little_memory_is_one_line_that_says_what_to_do(
    orientc: Orientc, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    said = one_line(orientc(*failing(monkeypatch, error)), 1)
    assert "not enough memory" in said
    assert said.endswith("try another --device")


# -- the library's messages


def test_fields_become_the_options_that_a_command_has(orientc: Orientc, monkeypatch: pytest.MonkeyPatch) -> None:
    error = FitError("`tokens`, `as_json` and `keep_rows` of `model` do not go together")
    said = one_line(orientc(*failing(monkeypatch, error)), 1)
    assert said == "orientc: --tokens, --json and keep_rows of model do not go together"


def test_warnings_speak_of_options_too(orientc: Orientc, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object, progress: Progress, **__: object) -> None:
        progress.warn("`force`: going on")
        progress.warn("`tokens` are few")
        raise FitError("enough")

    monkeypatch.setattr("orientc.calibration.calibrate.calibrate", warn)
    assert orientc("calibrate", "demo").err == "orientc: force: going on\norientc: --tokens are few\norientc: enough\n"


# -- what a fit leaves behind


def test_a_fit_tells_where_it_went(orientc: Orientc, bert_folder: Path, tmp_path: Path) -> None:
    ended = orientc("compress", bert_folder, "--rank", "4", *QUICK, "--json")
    assert "made without a calibration" in ended.err  # once, and nothing else
    assert len(ended.err.splitlines()) == 1
    result = ended.document
    path = Path(result["artifact"])
    assert path.parent == Path("runs") / bert_folder.name
    assert files_in(tmp_path) == sorted([str(path), str(path.with_suffix(".history.json"))])
    described = artifacts.load(path).description
    assert result["fresh"]
    for name in ("rank", "method", "settings", "distances", "bits_per_weight", "parameter_ratio", "byte_ratio"):
        assert result[name] == described.as_dict()[name]


def test_the_same_again_is_done_already(orientc: Orientc, bert_folder: Path) -> None:
    arguments = ["svd", bert_folder, "--rank", "4", "--json"]
    first, again = orientc(*arguments), orientc(*arguments)
    assert (first.code, again.code) == (0, 0)
    assert first.document["fresh"]
    assert again.document == first.document | {"fresh": False}
    assert "done already" in again.err
    assert orientc(*arguments, "--quiet").err == ""
    assert orientc(*arguments, "--overwrite").document["fresh"]


def test_another_artifact_at_the_name_needs_overwrite(orientc: Orientc, artifact: Path, bert_folder: Path) -> None:
    content = artifact.read_bytes()
    arguments = ["svd", bert_folder, "--rank", "5", "--out", artifact]
    assert "--overwrite" in one_line(orientc(*arguments), 1)
    assert artifact.read_bytes() == content
    assert orientc(*arguments, "--overwrite").code == 0
    assert artifacts.load(artifact).description.rank == 5


def test_runs_go_where_the_environment_says(
    orientc: Orientc, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORIENTC_RUNS", str(tmp_path / "mine"))
    result = orientc("svd", bert_folder, "--rank", "4", "--json").document
    assert Path(result["artifact"]).parent == tmp_path / "mine" / bert_folder.name
    assert orientc("compare").code == 0


def settings(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    found: dict[str, Any] = ended.document["settings"]
    return found


def test_like_replays_another_artifact(orientc: Orientc, bert_folder: Path, gpt2_folder: Path) -> None:
    options = ["--seed", "5", "--nonlinear", "decoder", "--dtype", "float16"]
    first = orientc("compress", bert_folder, "--rank", "4", *QUICK, *options, "--json")
    path = first.document["artifact"]
    again = orientc("compress", bert_folder, "--like", path, "--out", "again.safetensors", "--json", "-q")
    assert settings(again) == settings(first)
    assert Path("again.safetensors").read_bytes() == Path(path).read_bytes()
    other = orientc("compress", gpt2_folder, "--like", path, "--ratio", "5", "--epochs", "1", "--json")
    changed = {"rank": other.document["rank"], "epochs": 1}
    assert settings(other) == settings(first) | changed
    assert "another method" in one_line(orientc("svd", bert_folder, "--like", path), 2)


def test_settings_come_from_a_file(orientc: Orientc, bert_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "fit.toml").write_text('rank = 4\nepochs = 1\nbatch-size = 16\nschedule = "halving"\n')
    (tmp_path / "fit.json").write_text('{"rank": 4, "epochs": 1, "batch_size": 16, "schedule": "halving"}')
    toml = settings(orientc("compress", bert_folder, "--config", "fit.toml", "--json"))
    assert (toml["rank"], toml["epochs"], toml["batch_size"], toml["schedule"]) == (4, 1, 16, "halving")
    assert settings(orientc("compress", bert_folder, "--config", "fit.json", "--json")) == toml
    over = settings(orientc("compress", bert_folder, "--config", "fit.toml", "--rank", "5", "--json"))
    assert over == toml | {"rank": 5}


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("x.toml", "rank = ", "not TOML"),
        ("x.toml", "rank = 4\ncentre = true", "'centre'"),
        ("x.toml", "rank = '4'", "type int"),
        ("x.toml", "rank = 4\n[fit]\nepochs = 3", "'fit'"),
        ("x.toml", "rank = 4\nratio = 5", "not both"),
        ("x.toml", "a = " + "[" * 5000, "not TOML"),
        ("x.json", "{", "not JSON"),
        ("x.json", "[1]", "by name"),
        ("x.json", "[" * 100_000, "not JSON"),
        ("x.json", "\ud800", "not JSON"),
    ],
)
def test_a_file_of_settings_that_makes_no_sense_is_refused(
    orientc: Orientc, bert_folder: Path, tmp_path: Path, name: str, content: str, named: str
) -> None:
    (tmp_path / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    for command in ("compress", "svd"):
        assert named in one_line(orientc(command, bert_folder, "--config", name), 2)


def test_a_fit_can_start_from_an_artifact(orientc: Orientc, artifact: Path, bert_folder: Path) -> None:
    ended = orientc("compress", bert_folder, "--rank", "4", "--init", artifact, *QUICK, "--json")
    assert settings(ended)["init"] == "artifact"
    path = ended.document["artifact"]
    assert "--init" in one_line(orientc("compress", bert_folder, "--like", path), 2)
    assert orientc("compress", bert_folder, "--like", path, "--init", artifact, "--json").document["fresh"] is False
    assert settings(orientc("compress", bert_folder, "--like", path, "--init", "random", "--json"))["init"] == "random"
    wrong_rank = orientc("compress", bert_folder, "--rank", "5", "--init", artifact)
    assert "rank 4, not 5" in one_line(wrong_rank, 1)


# -- what is said where


def test_every_command_gives_one_json_document(
    orientc: Orientc, artifact: Path, bert_folder: Path, text_file: Path
) -> None:
    measured = orientc("perplexity", artifact, "--text", text_file, "--limit", "5", "--json")
    document = measured.document
    assert document["protocol"] == "masked"
    assert [record["head"] for record in document["records"]] == ["tied", "input-only", "tied"]
    inspected = orientc("inspect", bert_folder, "--ratio", "2", "--json").document
    assert (inspected["table"]["vocab"], inspected["table"]["dim"]) == (120, 32)
    assert orientc("inspect", artifact, "--json").document["rank"] == 4
    (comparison,) = orientc("compare", artifact.parent, "--json").document["comparisons"]
    assert [row["method"] for row in comparison["rows"]] == ["original", "svd"]


def test_json_is_ascii_so_that_any_pipe_carries_it(orientc: Orientc, bert_folder: Path) -> None:
    ended = orientc("svd", bert_folder, "--rank", "4", "--out", "größe.safetensors", "--json")
    assert ended.out.isascii()
    assert ended.document["artifact"] == "größe.safetensors"


def test_no_table_is_cut_or_folded_in_a_pipe(
    orientc: Orientc, artifact: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    measured = orientc("perplexity", artifact, "--text", text_file, "--limit", "5").out.splitlines()
    assert measured[1].split()[:3] == ["table", "perplexity", "ratio"]
    assert len(measured) == 8  # title, header, rule, three rows, two words
    compared = orientc("compare", artifact.parent).out.splitlines()
    rows = compared[3:5]
    assert compared[1].split()[:3] == ["table", "method", "rank"]
    assert [row.replace("◆", "").split()[:3] for row in rows] == [["original", "original", "32"], ["bert", "svd", "4"]]
    assert len({len(line) for line in compared[1:5]}) == 1
    assert len(compared) == 10  # title, header, rule, two rows, three notes, two words
    assert "…" not in "".join(compared)


def test_brackets_in_a_file_are_shown_as_they_are(orientc: Orientc, artifact: Path) -> None:
    """They are markup to rich; a file's own words must not be."""
    content = artifact.read_bytes()
    artifact.write_bytes(content.replace(b'"method":"svd"', b'"method":"[/]"'))
    assert "[/]" in orientc("compare", artifact).out


def test_quiet_says_nothing_but_errors(orientc: Orientc, artifact: Path, bert_folder: Path, text_file: Path) -> None:
    for arguments in (
        ["svd", bert_folder, "--rank", "4", "--out", artifact],
        ["perplexity", artifact, "--text", text_file, "--limit", "5", "--force"],
        ["compare", artifact.parent, artifact.parent / "none.json"],
    ):
        ended = orientc(*arguments, "--quiet")
        assert (ended.code, ended.err) == (0, "")
        assert ended.out
    assert one_line(orientc("inspect", "./nowhere"), 1)


# -- help


def commands() -> dict[str, Command]:
    found: dict[str, Command] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return found


def test_the_commands() -> None:
    assert list(commands()) == [
        "shrink", "demo", "compress", "svd", "quantize", "calibrate", "tune", "perplexity", "similarity", "glue",
        "squad", "sweep", "reproduce", "compare", "inspect", "export", "schema",
    ]  # fmt: skip


def test_help_has_the_commands_in_groups(orientc: Orientc) -> None:
    help = orientc("--help").out
    places = [help.index(f"─ {panel} ─") for panel in ("Start here", "Compress", "Measure", "Ship", "Scripts")]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["calibrate", "tune"])
def test_a_commands_options_are_all_in_panels(orientc: Orientc, name: str) -> None:
    help = orientc(name, "--help").out
    assert "─ Options ─" not in help
    assert help.index("─ Output ─") < help.index("─ Hub and trust ─")
    assert help.index("─ Output ─") < help.index("--help") < help.index("─ Hub and trust ─")


@pytest.mark.parametrize("name", commands())
def test_a_commands_help_has_an_example_and_a_word_for_every_option(
    orientc: Orientc, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # in a narrower terminal long names are cut
    ended = orientc(name, "--help")
    assert ended.code == 0
    assert f"Example: orientc {name}" in ended.out
    assert orientc(name, "-h").out == ended.out
    for parameter in commands()[name].params:
        assert parameter.help, f"{name} {parameter.name}"
        assert all(option in ended.out for option in parameter.opts if option.startswith("-")), parameter.opts


@pytest.mark.parametrize("name", commands())
def test_a_commands_example_names_options_it_has(name: str) -> None:
    command = commands()[name]
    known = {option for parameter in command.params for option in parameter.opts}
    example = command.help.split("Example: `orientc ")[1].rstrip("`\n ").split()
    assert example[0] == name
    assert {word for word in example if word.startswith("--")} <= known


def test_the_version_is_the_packages(orientc: Orientc) -> None:
    from orientc import __version__

    assert orientc("--version").out == f"orientc {__version__}\n"


# -- as processes


def imported_by(*commands: list[object]) -> set[str]:
    """All modules that a process has imported when it has run some commands."""
    code = (
        "import sys; from orientc.cli import main\n"
        f"for command in {[[str(part) for part in command] for command in commands]}:\n"
        "    sys.argv = ['orientc', *command]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return set(done.stdout.splitlines()[-1].split())


def test_help_and_wrong_options_do_not_wait_for_torch() -> None:
    found = imported_by(
        ["--help"],
        ["compress", "--help"],
        ["glue", "--help"],
        ["svd", "m", "--rnk", "4"],
        ["svd", "m"],
        ["svd", "m", "--ratio", "0.5"],
        ["compress", "m", "--rank", "0"],
        ["compress", "m", "--rank", "4", "--epochs", "0"],
        ["compress", "m", "--target-bits", "0"],
        ["quantize", "m", "--bits", "5"],
    )
    assert not {"torch", "transformers", "numpy"} & found


UNUSED = {"datasets", "gguf", "matplotlib", "onnx", "pandas", "plotext", "pyarrow", "sentence_transformers", "sklearn"}
UNUSED |= {"scipy.stats", "tensorboard", "torchvision", "transformers.trainer", "orientc.exporters.export"}
UNUSED |= {"transformers.models.auto.tokenization_auto", "orientc.evaluation.perplexity", "orientc.evaluation.texts"}


@pytest.mark.slow
def test_commands_on_a_table_import_the_code_of_its_model_and_of_no_other(bert_folder: Path, tmp_path: Path) -> None:
    """Neither tokenizers nor what evaluations need."""
    found = imported_by(
        ["svd", bert_folder, "--rank", "4", "--out", tmp_path],
        ["compress", bert_folder, "--rank", "4", "--epochs", "1", "--out", tmp_path],
        ["inspect", bert_folder],
    )
    of_models = {module for module in found if module.startswith("transformers.models.") and ".modeling_" in module}
    assert of_models - {"transformers.models.auto.modeling_auto"} == {"transformers.models.bert.modeling_bert"}
    assert not UNUSED & found
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_inspecting_an_artifact_does_not_wait_for_transformers(
    orientc: Orientc, bert_folder: Path, tmp_path: Path
) -> None:
    artifact = tmp_path / "table.safetensors"
    assert orientc("svd", bert_folder, "--rank", "4", "--out", artifact).code == 0
    found = imported_by(["inspect", artifact])
    assert "orientc.storage.artifact" in found
    assert not {"transformers", "accelerate", "huggingface_hub", "scipy"} & found


def test_the_package_runs_as_a_module(orientc_process: Orientc) -> None:
    ended = orientc_process("--version")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("orientc ")


def test_another_process_gives_the_same_bytes_and_says_nothing_else(
    orientc: Orientc, orientc_process: Orientc, bert_folder: Path
) -> None:
    arguments = ["compress", bert_folder, "--rank", "4", *QUICK, "--json", "--quiet", "--out"]
    assert orientc(*arguments, "here.safetensors").code == 0
    threads = str(torch.get_num_threads())
    there = orientc_process(*arguments, "there.safetensors", PYTHONHASHSEED="7", OMP_NUM_THREADS=threads)
    assert (there.code, there.err) == (0, "")
    assert there.document["artifact"] == "there.safetensors"
    assert Path("there.safetensors").read_bytes() == Path("here.safetensors").read_bytes()


def test_a_terminal_that_lacks_our_signs_is_no_error(orientc_process: Orientc, artifact: Path) -> None:
    ended = orientc_process("inspect", artifact, PYTHONIOENCODING="ascii")
    assert (ended.code, ended.err) == (0, "")
    assert "\\xd7 32 float32" in ended.out


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_reader_that_has_enough_is_no_error(artifact: Path, as_json: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "orientc", "compare", str(artifact), *as_json],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
def test_a_full_disk_ends_with_one_line(artifact: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "orientc", "compare", str(artifact)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert "No space left" in one_line(Ended(done.returncode, "", done.stderr), 1)


# A shell starts background jobs with Ctrl-C switched off: have it back on, as in a terminal.
AS_IN_A_TERMINAL = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "runpy.run_module('orientc', run_name='__main__')"
)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_fit_that_is_told_to_stop_leaves_nothing(bert_folder: Path, tmp_path: Path, sent: int, code: int) -> None:
    out = tmp_path / "out" / "x.safetensors"
    arguments = ["compress", bert_folder, "--rank", "4", "--epochs", "100000", "--device", "cpu", "--out", out]
    with subprocess.Popen(
        [sys.executable, "-c", AS_IN_A_TERMINAL, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not out.parent.exists():  # made just before the fit begins
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(sent)
            printed, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, printed, said) == (code, "", "")
    assert os.listdir(out.parent) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_one_line(orientc: Orientc, bert_folder: Path) -> None:
    assert "no cuda here" in one_line(orientc("svd", bert_folder, "--rank", "4", "--device", "cuda"), 1)
