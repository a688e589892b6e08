"""What the READMEs show: commands with their output, code, and whether what runs is what is shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("orientc/*/README.md"))]

TOLERANCE = 0.02
TIMES = ("seconds", "fit s", "tune s")  # headers of columns
NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
# What no two runs have in common: how long it took, and hashes of settings and texts, which differ by Python's version.
TIME = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?= (?:s|seconds|min|minutes|ms)\b)|(?<=^fit  )\S.*|(?<=^seconds  )\S.*")
HASH = re.compile(r"(?<=[-; ])[0-9a-f]{8}\b")


@dataclass
class Step:
    """A command and the lines shown below it, or (with a `language`) a block of code."""

    text: str
    shown: list[str]
    language: str = ""


def steps(readme: Path) -> list[Step]:
    """What a page has to run, in its order; commands that make an environment are left out."""
    found: list[Step] = []
    for language, block in re.findall(r"^```(console|python)\n(.*?)^```$", _read(readme), re.MULTILINE | re.DOTALL):
        found += [Step(block, [], language)] if language == "python" else _commands(block)
    return [step for step in found if "-m venv" not in step.text]


def setup(readme: Path) -> list[Step]:
    """The commands of a page that make an environment and run something there."""
    blocks = re.findall(r"^```console\n(.*?)^```$", _read(readme), re.MULTILINE | re.DOTALL)
    return [step for block in blocks for step in _commands(block) if "-m venv" in step.text]


def refreshed(readme: Path, printed: dict[str, list[str]]) -> str:
    """The page with what commands printed in the place of what it shows below them; a line `…` is a place for it."""

    def block(found: re.Match[str]) -> str:
        lines: list[str] = []
        for step in _commands(found[1]):
            lines += [f"$ {step.text}", *(printed.get(step.text, step.shown) if step.shown else [])]
        return "\n".join(line.rstrip() for line in ["```console", *lines, "```"])

    return re.sub(r"^```console\n(.*?)^```$", block, _read(readme), flags=re.MULTILINE | re.DOTALL)


def plain(command: str) -> tuple[list[str], str | None] | None:
    """A command's words and the file its output goes to; None where it takes a shell to understand it."""
    found = re.fullmatch(r"(.*) > ([\w./-]+)", command, re.DOTALL)
    command, file = (found[1], found[2]) if found else (command, None)
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", command)
    return None if re.search(r"[$`*?~;&|<>()#]", bare) else (shlex.split(command), file)


def differences(shown: list[str], printed: list[str]) -> list[str]:
    """Lines that differ: in their words, or in a figure by more than the tolerance; times and layout may differ."""
    expected, actual = _without_times(shown), _without_times(printed)
    if len(expected) != len(actual):
        return [f"{len(expected)} lines are shown, {len(actual)} printed:", *printed]
    return [
        f"shown: {shown[at]}\nprinted: {printed[at]}"
        for at, (one, other) in enumerate(zip(expected, actual, strict=True))
        if not _alike(one, other)
    ]


def _read(readme: Path) -> str:
    return readme.read_text(encoding="utf-8")


def _commands(block: str) -> list[Step]:
    """The commands of a console block; one goes on in the next line after a backslash."""
    found: list[Step] = []
    more = False
    for line in block.splitlines():
        if more:
            found[-1].text += "\n" + line
        elif line.startswith("$ "):
            found.append(Step(line[2:], []))
        else:
            assert found, f"output before any command: {line}"
            found[-1].shown.append(line)
            continue
        more = line.endswith("\\")
    for step in found:
        while step.shown and not step.shown[-1].strip():
            step.shown.pop()
    return found


def _without_times(lines: list[str]) -> list[str]:
    """Lines with a sign for each time and hash, and rules of one length."""
    found = list(lines)
    for at in range(1, len(lines)):
        if set(lines[at].strip()) == {"─"}:
            for start, end in _columns(lines[at - 1]):
                for row in range(at + 1, len(lines)):
                    if not lines[row].strip():
                        break
                    found[row] = _blank(found[row], start, end)
    return [re.sub("─+", "─", HASH.sub("#", TIME.sub("#", line))).rstrip() for line in found]


def _columns(header: str) -> Iterator[tuple[int, int]]:
    for name in TIMES:
        for match in re.finditer(rf"(?<!\S){re.escape(name)}(?!\S)", header):
            yield match.span()


def _blank(line: str, start: int, end: int) -> str:
    """A line whose word between two places (it may begin earlier) is a sign of the same length."""
    for word in re.finditer(r"\S+", line):
        if word.start() < end and word.end() > start:
            return line[: word.start()] + "#" * len(word[0]) + line[word.end() :]
    return line


def _alike(one: str, other: str) -> bool:
    first, second = (NUMBER.split(re.sub("#+", "#", " ".join(line.split()))) for line in (one, other))
    if len(first) != len(second) or first[::2] != second[::2]:
        return False
    return all(_near(*figures) for figures in zip(first[1::2], second[1::2], strict=True))


def _near(shown: str, printed: str) -> bool:
    """Whether figures agree to the tolerance, or to one in the last decimal that is shown."""
    _, _, decimals = shown.partition(".")
    last = 10 ** -len(decimals) if decimals and "e" not in decimals else 0
    return abs(float(shown) - float(printed)) <= max(TOLERANCE * abs(float(shown)), 1.001 * last)
