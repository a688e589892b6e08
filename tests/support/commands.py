"""Ways to run the command line, and how a command ended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def run_here(*arguments: object) -> Ended:
    """Run a command in this process, outside of any test: for what several tests look at."""
    from orientc.cli import main

    given, sys.argv = sys.argv, ["orientc", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = given
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def one_line(ended: Ended, code: int) -> str:
    """What a command says on stderr when it fails as it should."""
    assert ended.code == code, ended
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("orientc: ")
    return lines[0]


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


_APART = """
import contextlib, io, json, sys
from time import monotonic
exec(sys.argv[1])
from orientc.cli import main
ended = []
for arguments in json.load(sys.stdin):
    sys.argv, out, err, start = ["orientc", *arguments], io.StringIO(), io.StringIO(), monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    ended.append([code, out.getvalue(), err.getvalue(), monotonic() - start])
print(json.dumps(ended))
"""


def run_apart(
    commands: Sequence[Sequence[object]], folder: Path, *, before: str = "", **environment: str
) -> list[tuple[Ended, float]]:
    """How commands ended, one after the other in a process of their own, which ran some code `before`; their seconds.

    For what can't be changed in this process, and costs too much with a process for each command.
    """
    done = subprocess.run(
        [sys.executable, "-c", _APART, before],
        input=json.dumps([[*map(str, command)] for command in commands]),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [(Ended(*ended), seconds) for *ended, seconds in json.loads(done.stdout)]
