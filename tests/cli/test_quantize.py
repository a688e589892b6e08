"""The command line of calibrated and quantized tables: `orientc quantize`, and the options it shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import calibrations
from support.commands import Ended, one_line

from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import calibration

Orientc = Callable[..., Ended]
QUICK = ("--epochs", "1", "--device", "cpu")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a folder of its own, and no runs folder from outside."""
    monkeypatch.delenv("ORIENTC_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def calibration_of(folder: Path, path: Path) -> Path:
    """A calibration of a model, of random numbers."""
    info = read_table(ModelSource.resolve(str(folder))).info
    root = torch.randn(info.dim, info.dim, generator=torch.Generator().manual_seed(0))
    made = calibrations.made()
    description = replace(made.description, base=info, metrics=("input_importance", "head_importance"))
    counts = 100 / torch.arange(1, info.vocab + 1)
    calibration.save(calibration.Calibration(counts, root @ root.T, torch.eye(info.dim), description=description), path)
    return path


@pytest.fixture(scope="module")
def bert_calibration(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibration_of(bert_folder, tmp_path_factory.mktemp("calibrations") / "bert.safetensors")


def document(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    found: dict[str, Any] = ended.document
    return found


# -- requests that are wrong by themselves


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["quantize"], "--bits"),
        (["quantize", "--bits", "5"], "8, 4, 3, 2"),
        (["quantize", "--bits", "2.5"], "--bits"),
        (["quantize", "--bits", "four"], "--bits"),
        (["quantize", "--bits", "4", "--group-size", "0"], "--group-size must be"),
        (["quantize", "--bits", "4", "--group-size", "65537"], "65536"),
        (["quantize", "--bits", "4", "--keep-rows", "3"], "--calibration"),
        (["quantize", "--bits", "4", "--keep-rows", "few"], "--keep-rows"),
        (["quantize", "--bits", "4", "--keep-rows", "auto"], "ratio"),
        (["quantize", "--bits", "4", "--keep-rows", "-1"], "auto with a ratio"),
        (["quantize", "--bits", "4", "--rank", "3"], "--rank"),
        (["quantize", "--block", "Q9_0"], "IQ4_NL"),
        (["quantize", "--block", "Q4_0", "--bits", "4"], "--bits and --block exclude each other"),
        (["quantize", "--block", "Q4_0", "--keep-rows", "3"], "--keep-rows and --block exclude each other"),
        (["quantize", "--block", "Q4_0", "--group-size", "32"], "--group-size"),
        (["quantize", "--bits", "4", "--calibration", "none.safetensors"], "none.safetensors"),
        (["svd", "--rank", "4", "--group-size", "32"], "--bits"),
        (["svd", "--rank", "4", "--keep-rows", "3"], "--calibration"),
        (["svd", "--rank", "4", "--keep-rows", "auto"], "ratio"),
        (["svd", "--rank", "4", "--head-weight", "-1"], "--head-weight must be"),
        (["compress", "--target-bits", "4", "--target-mb", "1"], "one target"),
        (["compress", "--target-bits", "0"], "above 0"),
        (["compress", "--target-bits", "4", "--for", "onnx"], "--for"),
        (["compress", "--rank", "4", "--for", "gguf"], "--for is for a target: say its size with --target-bits"),
        (["compress", "--target-bits", "4", "--effort", "most"], "fast, best"),
        (["compress", "--target-bits", "5", "--effort", "best", "--for", "gguf"], "--effort and --for exclude"),
        (["compress", "--rank", "4", "--effort", "best"], "--effort is for a target: say its size with --target-bits"),
        (["shrink", "--effort", "best", "--for", "gguf"], "--effort and --for exclude"),
        (["sweep", "--ratios", "4", "--effort", "best"], "--effort is for target"),
        (["compress", "--target-ratio", "-2"], "above 0"),
        (["compress", "--target-mb", "inf"], "above 0"),
        (["compress", "--target-bits", "4", "--rank", "3"], "--rank and --target-bits exclude each other"),
        (["compress", "--target-bits", "4", "--ratio", "3"], "--ratio and --target-bits exclude each other"),
        (["compress", "--target-bits", "4", "--bits", "4"], "--bits and --target-bits exclude each other"),
        (["compress", "--target-bits", "4", "--preset", "paper"], "--preset and --target-bits exclude each other"),
        (["compress", "--target-bits", "4", "--epochs", "2"], "--epochs and --target-bits exclude each other"),
        (["compress", "--target-bits", "4", "--log-with", "wandb"], "--log-with"),
        (["compress", "--rank", "4", "--halve-every", "2"], "--schedule"),
        (["compress", "--rank", "4", "--head-weight", "0.5"], "--calibration"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_2(
    orientc: Orientc, bert_folder: Path, arguments: list[str], named: str
) -> None:
    command, *options = arguments
    assert named in one_line(orientc(command, bert_folder, *options), 2)


def test_an_elu_behind_the_decoder_and_a_metric_are_refused(
    orientc: Orientc, bert_folder: Path, bert_calibration: Path
) -> None:
    ended = orientc("compress", bert_folder, "--rank", "4", "--nonlinear", "both", "--calibration", bert_calibration)
    assert "nonlinear" in one_line(ended, 2)


# -- what can't be done


@pytest.mark.parametrize("command", [["svd", "--rank", "4"], ["quantize", "--bits", "4"], ["compress", "--rank", "4"]])
def test_more_rows_than_there_are_is_one_line_and_1(
    orientc: Orientc, bert_folder: Path, bert_calibration: Path, command: list[str]
) -> None:
    name, *options = command
    for count in (120, 121):
        ended = orientc(name, bert_folder, *options, "--keep-rows", count, "--calibration", bert_calibration)
        assert "keep_rows" in one_line(ended, 1)


def test_a_calibration_of_another_model_or_none_at_all_is_one_line_and_1(
    orientc: Orientc, bert_folder: Path, gpt2_folder: Path, bert_calibration: Path
) -> None:
    for command in (["svd", "--rank", "4"], ["quantize", "--bits", "4"], ["compress", "--target-bits", "6"]):
        name, *options = command
        line = one_line(orientc(name, gpt2_folder, *options, "--calibration", bert_calibration), 1)
        assert "another" in line
        assert "orientc calibrate" in line
    made = document(orientc("quantize", bert_folder, "--bits", "4", "--json"))["artifact"]
    assert "not a calibration" in one_line(orientc("svd", bert_folder, "--rank", "4", "--calibration", made), 1)
    assert "artifact" in one_line(orientc("svd", bert_folder, "--like", bert_calibration), 1)


@pytest.mark.parametrize("target", [("--target-bits", "0.01"), ("--target-ratio", "5000"), ("--target-mb", "0.0001")])
def test_a_target_that_is_too_small_is_one_line_and_1(
    orientc: Orientc, bert_folder: Path, target: tuple[str, str]
) -> None:
    assert "the target must leave it more" in one_line(orientc("compress", bert_folder, *target), 1)


# -- what is done


CASES: dict[str, list[str]] = {
    "bits": ["quantize", "--bits", "3", "--group-size", "16"],
    "svd": ["svd", "--rank", "6", "--bits", "4", "--keep-rows", "5"],
    "auto": ["svd", "--ratio", "3", "--keep-rows", "auto", "--head-weight", "0.5"],
    "autoencoder": ["compress", "--rank", "6", "--epochs", "1", "--bits", "8", "--keep-rows", "3"],
    "target": ["compress", "--target-bits", "9"],
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_done_once_and_replayed_by_like(
    orientc: Orientc, bert_folder: Path, bert_calibration: Path, name: str
) -> None:
    command, *options = CASES[name]
    calibrated = ("--calibration", bert_calibration, "--device", "cpu", "--json")
    first = document(orientc(command, bert_folder, *options, *calibrated))
    path = Path(first["artifact"])
    content = path.read_bytes()
    assert first["fresh"]
    assert first["settings"]["calibration_sha256"]
    assert first["distances"]["cost"] > 0
    kept = {"svd": 5, "autoencoder": 3}.get(name)
    if kept:
        assert first["layout"]["kept"] == kept
        table = read_table(ModelSource.resolve(str(bert_folder))).weight
        assert torch.equal(artifacts.load(path).factors.dense()[:kept], table[:kept])
    again = orientc(command, bert_folder, *options, *calibrated)
    assert document(again)["fresh"] is False
    assert "done already" in again.err
    replayed = document(
        orientc(command, bert_folder, "--like", path, *calibrated, "--out", "again.safetensors", "--quiet")
    )
    assert replayed["settings"] == first["settings"]
    assert Path("again.safetensors").read_bytes() == content
    assert "--calibration" in one_line(orientc(command, bert_folder, "--like", path), 2)
    told = orientc("inspect", path)
    assert told.code == 0
    assert "predicted loss" in told.out


@pytest.mark.parametrize(
    ("command", "toml", "options"),
    [
        ("quantize", "bits = 4\ngroup-size = 16\n", ["--bits", "4", "--group-size", "16"]),
        ("svd", "rank = 4\nbits = 3\n", ["--rank", "4", "--bits", "3"]),
        ("compress", "target-bits = 12\n", ["--target-bits", "12"]),
        ("compress", "target_mb = 1\n", ["--target-mb", "1"]),
    ],
)
def test_settings_from_a_file_are_those_of_the_options(
    orientc: Orientc, bert_folder: Path, command: str, toml: str, options: list[str]
) -> None:
    """And so get the same name: the second is done already."""
    Path("fit.toml").write_text(toml)
    first = document(orientc(command, bert_folder, "--config", "fit.toml", "--json"))
    second = document(orientc(command, bert_folder, *options, "--json"))
    assert (second["artifact"], second["fresh"]) == (first["artifact"], False)


def test_a_file_can_say_auto_for_the_rows_kept(orientc: Orientc, bert_folder: Path, bert_calibration: Path) -> None:
    Path("fit.toml").write_text('ratio = 3\nkeep-rows = "auto"\nhead-weight = 0.5\n')
    calibrated = ("--calibration", bert_calibration, "--device", "cpu", "--json")
    first = document(orientc("svd", bert_folder, "--config", "fit.toml", *calibrated))
    second = document(orientc("svd", bert_folder, *CASES["auto"][1:], *calibrated))
    assert (second["artifact"], second["fresh"]) == (first["artifact"], False)


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("bits = '4'", "bits must be of type int"),
        ("bits = true", "bits must be of type int"),
        ("bits = 5", "8, 4, 3, 2"),
        ("head_weight = " + "9" * 400, "larger than any number"),
        ("bits = 4\ngroup_size = 1.5", "group-size must be of type int"),
        ("bits = 4\nkeep_rows = 'many'", "a whole number or auto"),
        ("bits = 4\nkeep_rows = 'auto'", "only with a ratio"),
        ("bits = 4\nrank = 3", "'rank'"),
        ("bits = 4\ntarget_bits = 3", "'target_bits'"),
    ],
)
def test_a_file_of_settings_that_makes_no_sense_is_refused(
    orientc: Orientc, bert_folder: Path, toml: str, named: str
) -> None:
    Path("fit.toml").write_text(toml)
    assert named in one_line(orientc("quantize", bert_folder, "--config", "fit.toml"), 2)


@pytest.mark.parametrize("options", [[], ["--bits", "4"]])
def test_a_ratio_is_kept_whatever_is_stored(orientc: Orientc, bert_folder: Path, options: list[str]) -> None:
    found = document(orientc("svd", bert_folder, "--ratio", "1.5", *options, "--json"))
    assert found["parameter_ratio"] >= 1.5
    rank = found["rank"] + 1
    above = document(orientc("svd", bert_folder, "--rank", rank, *options, "--json"))
    assert above["parameter_ratio"] < 1.5


@pytest.mark.parametrize("options", [("--bits", "4", "--keep-rows", "5"), ("--block", "IQ4_NL")])
def test_a_table_in_codes_is_evaluated_and_exported_like_any_other(
    orientc: Orientc, bert_folder: Path, bert_calibration: Path, text_file: Path, options: tuple[str, ...]
) -> None:
    made = document(orientc("quantize", bert_folder, *options, "--calibration", bert_calibration, "--json"))["artifact"]
    measured = document(orientc("perplexity", made, "--text", text_file, "--limit", "3", "--json"))
    heads = {record["head"]: record["metrics"]["perplexity"] for record in measured["records"] if record["artifact"]}
    assert heads.keys() == {"tied", "input-only"}
    for form in ("compact", "dense"):
        assert orientc("export", made, "--to", form, "--form", form).code == 0
        again = document(orientc("perplexity", form, "--text", text_file, "--limit", "3", "--json"))
        assert again["records"][0]["metrics"]["perplexity"] == pytest.approx(heads["tied"], rel=1e-4)


def test_people_are_told_of_blocks_and_settings_are_replayed(orientc: Orientc, bert_folder: Path) -> None:
    ended = orientc("quantize", bert_folder, "--block", "Q5_1", "--out", "one.safetensors")
    assert ended.code == 0, ended.err
    assert "ggml's Q5_1, 32 numbers in 24 bytes" in ended.out
    assert "6.00 bits per weight" in ended.out
    again = document(
        orientc("quantize", bert_folder, "--like", "one.safetensors", "--out", "two.safetensors", "--json")
    )
    assert (again["codec"], again["settings"]["block"]) == ("ggml", "Q5_1")
    assert "group_size" not in again["settings"]
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()
    shown = orientc("inspect", "one.safetensors")
    assert "ggml" in shown.out


def test_a_table_in_blocks_is_tuned_like_any_other(orientc: Orientc, bert_folder: Path, text_file: Path) -> None:
    made = document(orientc("quantize", bert_folder, "--block", "Q4_0", "--json"))["artifact"]
    long = Path("long.txt")
    long.write_text(text_file.read_text() * 4)
    ended = orientc("tune", made, "--text", long, "--steps", "2", "--device", "cpu", "--json")
    tuned = artifacts.load(document(ended)["artifact"])
    assert tuned.description.layout == artifacts.load(made).description.layout
