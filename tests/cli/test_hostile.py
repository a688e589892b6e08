"""Strings from strangers, in files and on the command line: one line, which a terminal shows as it stands."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import Ended, run_here

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
    "export": ("./none.safetensors", "--to", "out"), "tune": ("./none.safetensors",),
}  # fmt: skip
COMMANDS = (
    "compress", "svd", "quantize", "calibrate", "tune", "perplexity", "similarity", "glue", "squad", "sweep", "compare",
    "inspect", "export",
)  # fmt: skip


def test_every_command_is_tried() -> None:
    assert {*COMMANDS, "demo"} == _commands().keys()  # demo takes no values


@pytest.mark.parametrize("command", COMMANDS)
def test_no_value_of_an_option_is_more_than_one_line(
    orientc: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """With a model that is not there: what the command line alone shows to be wrong."""
    monkeypatch.chdir(tmp_path)
    given = ARGUMENTS.get(command, ("./none",))
    for option, value in _hostile(command, every=4):
        ended = orientc(command, *given, option, value)
        assert _ends_well(ended, (command, option, value))
        assert ended.code


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
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
    for option, value in _hostile(command):
        fresh = ("--out", f"out-{next(numbers)}") if command not in ("compare", "inspect", "export") else ()
        fresh = () if option == "--out" or command in ("perplexity", "similarity") else fresh
        assert _ends_well(orientc(command, *given[command], *fresh, option, value), (command, option, value))
    for path in tmp_path.glob("out-*"):
        shutil.rmtree(path, ignore_errors=True)
