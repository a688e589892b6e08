"""Strings from strangers, in files and on the command line: one line, which a terminal shows as it stands."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import Ended, one_line, run_here

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202egpj.exe\r\x9b31m\x00\x7f"
FORMATS = ("table", "markdown", "csv", "html", "json")


def clean(ended: Ended) -> bool:
    """Whether a terminal shows all of it as it stands."""
    return all(sign.isprintable() or sign == "\n" for sign in ended.out + ended.err)


@pytest.fixture(scope="module")
def evaluated(bert_folder: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an artifact and its records."""
    folder = tmp_path_factory.mktemp("evaluated")
    artifact = folder / "a.safetensors"
    assert run_here("svd", bert_folder, "--rank", 4, "--out", artifact).code == 0
    assert run_here("perplexity", artifact, "--text", text_file, "--limit", 4).code == 0
    return folder


def with_metadata(artifact: Path, **changed: str) -> None:
    content = artifact.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] |= changed
    encoded = json.dumps(header).encode()
    artifact.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


@pytest.mark.slow
@pytest.mark.parametrize("key", ["base_id", "base_revision", "base_dtype", "base_sha256", "method", "version", "codec"])
def test_the_strings_of_an_artifact_do_nothing_to_a_terminal(
    orientc: Callable[..., Ended], evaluated: Path, tmp_path: Path, bert_folder: Path, text_file: Path, key: str
) -> None:
    folder = shutil.copytree(evaluated, tmp_path / "here")
    artifact = folder / "a.safetensors"
    with_metadata(artifact, **{key: f"x{HOSTILE}"})
    commands: list[tuple[object, ...]] = [("inspect", artifact), ("inspect", artifact, "--json")]
    commands += [("compare", folder, "--format", format) for format in FORMATS]
    commands += [("compare", folder, "--plot", "-")]
    commands += [("perplexity", artifact, "--text", text_file), ("export", artifact, "--to", tmp_path / "out")]
    commands += [("compress", bert_folder, "--like", artifact), ("svd", bert_folder, "--rank", 4, "--out", artifact)]
    for command in commands:
        ended = orientc(*command)
        assert clean(ended), (command, ended)
        assert ended.code in (0, 1, 2)


@pytest.mark.parametrize(
    "place", ["kind", "head", "model.id", "text.name", "settings.dtype", "metrics.new", "versions.new"]
)
def test_the_strings_of_a_record_do_nothing_to_a_terminal(
    orientc: Callable[..., Ended], evaluated: Path, tmp_path: Path, place: str
) -> None:
    folder = shutil.copytree(evaluated, tmp_path / "here")
    changed = 0
    for path in folder.glob("*.perplexity-*.json"):
        values = json.loads(path.read_text())
        *holders, key = place.split(".")
        holder = values[holders[0]] if holders else values
        if key == "new":
            holder[HOSTILE] = 1.0 if place.startswith("metrics") else HOSTILE
        else:
            holder[key] = f"{holder.get(key)}{HOSTILE}"
        path.write_text(json.dumps(values))
        changed += 1
    assert changed
    for format in FORMATS:
        ended = orientc("compare", folder, "--format", format)
        assert clean(ended), (format, ended)
    assert clean(orientc("compare", folder, "--plot", "-"))


def test_a_hostile_name_does_nothing_to_a_terminal(orientc: Callable[..., Ended]) -> None:
    for command in ("svd", "compress", "inspect", "perplexity", "export"):
        rank = ("--rank", 4) if command in ("svd", "compress") else ()
        ended = orientc(command, f"./x{HOSTILE.replace(chr(0), '')}", *rank)
        assert ended.code in (1, 2)
        assert clean(ended)


# -- files that are none


@pytest.fixture
def endless(tmp_path: Path) -> dict[str, Path]:
    """What can't be read to its end, or should not be."""
    found = {name: tmp_path / f"{name}.txt" for name in ("pipe", "sparse")}
    os.mkfifo(found["pipe"])
    with found["sparse"].open("wb") as stream:
        stream.truncate(5_000_000_000)
    return found | {"device": Path("/dev/zero"), "folder": tmp_path, "stdin": Path("-"), "long": Path("a" * 400)}


@pytest.mark.parametrize("command", ["perplexity", "similarity", "calibrate", "tune"])
def test_a_text_is_a_regular_file_of_bounded_size(
    orientc: Callable[..., Ended], evaluated: Path, bert_folder: Path, endless: dict[str, Path], command: str
) -> None:
    subject = evaluated / "a.safetensors" if command == "tune" else bert_folder
    says = {
        "pipe": "not a regular file", "sparse": "it has 5.0 GB, at most 1.0 GB are read: cut it",
        "device": "not a regular file", "folder": "it is a folder", "stdin": "stdin: write it to a file",
        "long": "File name too long",
    }  # fmt: skip
    for kind, path in endless.items():
        assert says[kind] in one_line(orientc(command, subject, "--text", path), 1)


def test_no_other_file_is_read_without_end(
    orientc: Callable[..., Ended], bert_folder: Path, endless: dict[str, Path], tmp_path: Path
) -> None:
    pipe, record = tmp_path / "pipe.safetensors", tmp_path / "pipe.json"
    os.mkfifo(pipe)
    os.mkfifo(record)
    for command, code in (
        (("inspect", pipe), 1),
        (("compare", pipe, record), 1),
        (("svd", bert_folder, "--rank", 4, "--calibration", pipe), 1),
        (("svd", bert_folder, "--like", pipe), 1),
        (("svd", bert_folder, "--config", endless["pipe"]), 2),
        (("svd", bert_folder, "--config", endless["sparse"]), 2),
        (("squad", "--score", endless["pipe"]), 1),
        (("squad", "--score", endless["sparse"]), 1),
    ):
        assert "regular file" in (line := one_line(orientc(*command), code)) or "at most" in line


def test_names_that_no_model_has(
    orientc: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "is empty" in one_line(orientc("inspect", ""), 2)  # and not the folder one is in
    assert "no file none.GGUF" in one_line(orientc("inspect", "none.GGUF"), 1)
    assert "UTF-8" in one_line(orientc("inspect", "m\udcff"), 2)
    for name in ("a" * 400, "/" + "a" * 400, f"{'a/' * 3000}b", "a" * 400 + ".gguf", "a" * 400 + ".safetensors"):
        one_line(orientc("inspect", name), 1)
    for command in (("svd", "demo", "--rank", 4, "--out", "a" * 400), ("compare", "a" * 400)):
        assert "File name too long" in one_line(orientc(*command), 1)


@pytest.mark.parametrize("target", [("--target-bits", "1e308"), ("--target-mb", "1e308"), ("--target-ratio", "1e-320")])
def test_a_target_beyond_any_form_stands_for_the_largest(
    orientc: Callable[..., Ended], bert_folder: Path, tmp_path: Path, target: tuple[str, str]
) -> None:
    ended = orientc("compress", bert_folder, *target, "--out", tmp_path, "--json")
    assert ended.code == 0, ended
    assert ended.document["bits_per_weight"] > 8


def test_a_record_with_an_empty_artifact_is_a_problem(
    orientc: Callable[..., Ended], evaluated: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(evaluated, tmp_path / "here")
    for path in folder.glob("*.perplexity-*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"artifact": {}}))
    ended = orientc("compare", folder)
    assert ended.code == 0
    assert ended.err.count("is damaged: path is missing") == 3


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_traceback_and_lose_no_file(bert_folder: Path, tmp_path: Path, closed: str) -> None:
    said, out = tmp_path / "said", tmp_path / "a.safetensors"
    streams = f"{'' if '2>' in closed else f'2>{said}'} {closed}"
    line = f"{sys.executable} -m orientc {{}} {'' if ' >' in f' {closed}' else f'>{said}'} {streams}"
    made = subprocess.run(line.format(f"svd {bert_folder} --rank 4 --out {out}"), shell=True, timeout=120)
    assert made.returncode == 0
    assert "Traceback" not in (said.read_text() if said.exists() else "")
    assert run_here("inspect", out).code == 0  # nothing was printed into it
    assert subprocess.run(line.format("inspect ''"), shell=True, timeout=120).returncode == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_device_behind_stdout_is_one_line(bert_folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "orientc", "inspect", str(bert_folder)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on device" in done.stderr


# -- values of options

NUMBERS = ("0", "-1", "2147483648", "-9223372036854775809", "1" + "0" * 400, "", "x")
FLOATS = ("0", "-1", "1" + "0" * 400, "nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "", "x")
# "" is the folder one is in, for a path; half a surrogate pair is what Python makes of bytes that are not UTF-8
WORDS = (
    "",
    " ",
    "-",
    "x",
    "a" * 400,
    f"{'a/' * 3000}b",
    "\udcff",
    "../..",
    "/dev/zero",
    "\n",
    f"x{HOSTILE[:-2]}",
    "demo",
)
AMOUNTS, ENDLESS = ("--epochs", "--steps", "--minutes"), ("2147483648", "1" + "0" * 400, "inf", "1e308")  # of work
KINDS = {int: NUMBERS, float: FLOATS, list[float]: FLOATS}


def _commands() -> dict[str, Any]:
    import typer

    from orientc.cli.app import app

    return typer.main.get_command(app).commands  # type: ignore[attr-defined,no-any-return]


def _hostile(command: str, *, every: int = 1) -> Iterator[tuple[str, str]]:
    """Each option of a command that takes a value, with every so many of the values that nobody meant."""
    for number, parameter in enumerate(_commands()[command].params):
        if parameter.param_type_name == "option" and not parameter.is_flag:
            for value in KINDS.get(parameter.type_descriptor.annotation, WORDS)[number % every :: every]:
                yield parameter.opts[0], value


def _ends_well(ended: Ended, command: tuple[object, ...]) -> bool:
    lines = [line for line in ended.err.splitlines() if not line.startswith("orientc: ")]
    assert ended.code in (0, 1, 2, 3), (command, ended)
    assert not lines, (command, ended)
    assert ended.code == 0 or ended.err, (command, ended)
    assert clean(ended), (command, ended)
    return True


ARGUMENTS = {
    "demo": (), "compare": ("none",), "glue": ("--model", "./none"), "squad": ("--model", "./none"),
    "reproduce": ("--model", "./none"),
    "export": ("./none.safetensors", "--to", "out"), "tune": ("./none.safetensors",),
    "shrink": ("./none", "--to", "out"),
}  # fmt: skip
COMMANDS = (
    "compress", "svd", "quantize", "calibrate", "tune", "perplexity", "similarity", "glue", "squad", "sweep", "compare",
    "inspect", "export", "shrink", "reproduce",
)  # fmt: skip


def test_every_command_is_tried() -> None:
    assert {*COMMANDS, "demo", "schema"} == _commands().keys()  # options of these take no values


@pytest.mark.parametrize("command", COMMANDS)
def test_no_value_of_an_option_is_more_than_one_line(
    orientc: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """With a model that is not there: what the command line alone shows to be wrong."""
    monkeypatch.chdir(tmp_path)
    given = ARGUMENTS.get(command, ("./none",))
    for option, value in _hostile(command, every=16):
        ended = orientc(command, *given, option, value)
        assert _ends_well(ended, (command, option, value))
        assert ended.code


@pytest.mark.slow
@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("shrink", "reproduce")])  # made of them
def test_no_value_of_an_option_is_a_traceback_of_a_command_that_runs(
    orientc: Callable[..., Ended],
    evaluated: Path,
    bert_folder: Path,
    text_file: Path,
    glue_folder: Path,
    squad_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    artifact, text = evaluated / "a.safetensors", tmp_path / "text.txt"
    text.write_text(text_file.read_text() * 3)
    tuning = ("--epochs", 0, "--limit-eval", 2)
    given: dict[str, tuple[object, ...]] = {
        "compress": (bert_folder, "--rank", 4, "--epochs", 1),
        "svd": (bert_folder, "--rank", 4),
        "quantize": (bert_folder, "--bits", 4),
        "calibrate": (bert_folder, "--text", text, "--tokens", 64),
        "tune": (artifact, "--text", text, "--steps", 1),
        "perplexity": (artifact, "--text", text, "--limit", 2),
        "similarity": (artifact, "--text", text),
        "glue": ("--model", bert_folder, "--task", "rte", "--data", glue_folder, *tuning),
        "squad": ("--model", bert_folder, "--data", squad_folder, *tuning, "--max-length", 64),
        "sweep": (bert_folder, "--ratios", "2", "--methods", "svd", "--perplexity", "--text", text, "--limit", 2),
        "compare": (evaluated,),
        "inspect": (bert_folder,),
        "export": (artifact, "--to", "out"),
    }
    numbers = iter(range(10_000))
    for option, value in _hostile(command, every=5):
        if (option in AMOUNTS and value in ENDLESS) or (option, value) == ("--data", "../.."):  # datasets reads it all
            continue
        fresh = ("--out", f"out-{next(numbers)}") if command not in ("compare", "inspect", "export") else ()
        fresh = () if option == "--out" or command in ("perplexity", "similarity") else fresh
        assert _ends_well(orientc(command, *given[command], *fresh, option, value), (command, option, value))
    for path in tmp_path.glob("out-*"):
        shutil.rmtree(path, ignore_errors=True)
