"""Strings in files from strangers: none of them reaches the terminal as anything but text."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

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
