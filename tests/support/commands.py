"""Ways to run the command line, and how a command ended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.documents import valid


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout, which is as its schema says."""
        return valid(json.loads(self.out))


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


def without_hint(err: str) -> str:
    """What a command says on stderr but for what a calibration would do."""
    return "".join(line for line in err.splitlines(keepends=True) if "made without a calibration" not in line)


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


_SERVE = """
import contextlib, io, json, os, sys
from time import monotonic

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # whatever else is printed must not be taken for an answer
exec(sys.argv[1])
from orientc.cli import main

scope = {"__name__": "__main__"}
inherited = dict(os.environ)
for line in open(0, encoding="utf-8"):
    asked = json.loads(line)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(inherited | asked["environment"])
    sys.argv = ["-c" if asked["python"] else "orientc", *asked["arguments"]]
    out, err, code = io.StringIO(), io.StringIO(), 0
    start = monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(asked["python"], scope) if asked["python"] else main()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 70
    print(json.dumps([code, out.getvalue(), err.getvalue(), monotonic() - start]), file=answers, flush=True)
"""


class Commands:
    """A process that runs commands one after the other, for what can't be changed in this one.

    A process for each would spend most of its time on imports. It runs some code `before` it reads the package, in an
    environment that is changed as told; each command may change more, for itself alone.
    """

    def __init__(self, *, before: str = "", **environment: str) -> None:
        self._arguments = [sys.executable, "-c", _SERVE, before]
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[str] | None = None
        self.seconds = 0.0  # that the last command took

    def run(self, *arguments: object, folder: Path, **environment: str) -> Ended:
        """How a command ended, run in a folder."""
        return self._ask(folder, environment, arguments=[*map(str, arguments)], python="")

    def python(self, code: str, *arguments: object, folder: Path) -> Ended:
        """How code ended, run in a folder with arguments; names it defines are there for the next."""
        return self._ask(folder, {}, arguments=[*map(str, arguments)], python=code)

    def _ask(self, folder: Path, environment: dict[str, str], **asked: object) -> Ended:
        if self._process is None:
            self._process = subprocess.Popen(
                self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
                env=self._environment,
            )  # fmt: skip
        process = self._process
        assert process.stdin
        assert process.stdout
        watch = threading.Timer(300, process.kill)
        watch.start()
        try:
            process.stdin.write(json.dumps(asked | {"folder": str(folder), "environment": environment}) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            watch.cancel()
        assert answer, f"the process ended with {process.wait()}"
        code, out, err, self.seconds = json.loads(answer)
        return Ended(code, out, err)

    def close(self) -> None:
        """Let the process end."""
        if self._process is not None:
            self._process.communicate(timeout=60)
            self._process = None


@dataclass(frozen=True)
class Client:
    """Runs commands and code in a folder, in a process that knows a hub or in one that is offline."""

    online: Commands
    offline: Commands
    folder: Path

    def __call__(self, *arguments: object, offline: bool = False, **environment: str) -> Ended:
        """How a command ended."""
        return (self.offline if offline else self.online).run(*arguments, folder=self.folder, **environment)

    def python(self, code: str, *arguments: object, offline: bool = False) -> Ended:
        """How code ended; names it defines are there for the next."""
        return (self.offline if offline else self.online).python(code, *arguments, folder=self.folder)
