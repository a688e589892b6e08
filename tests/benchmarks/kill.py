"""Kill commands at any moment, and see what is on disk then, and what the same command makes of it.

    OMP_NUM_THREADS=1 python tests/benchmarks/kill.py [--kills 30] [--seed 0] [--only svd,glue]

One half of the kills comes at random times of a command's run, the other half at random ones of its calls that sync or
rename a file. After each every artifact, record and model on disk must be whole; then the command, run again, must
leave the same artifacts, to the byte, and the same figures as a run that nobody killed, and no temporary files.
Commands run in forks of this process, which has imported all they need, and computed nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import torch

from orientc.cli import main as orientc
from orientc.cli.app import app  # noqa: F401  # with this, the commands' own imports are all that is left
from orientc.evaluation import finetuning, perplexity
from orientc.evaluation.glue import task_benchmark as glue
from orientc.storage import artifact as artifacts
from orientc.storage import records, runs

assert finetuning
assert perplexity
assert glue
_HOURS = 1e6
_CALLS = ("fsync", "replace")


def main() -> int:
    """Print one line per command; 1 where anything is not as it should be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        commands = _commands(given, Path(scratch))
        for name in given.only.split(",") if given.only else commands:
            started = time.perf_counter()
            problems, early = _killed(commands[name], Path(scratch) / name, given.kills, random.Random(given.seed))
            print(
                f"{name}: {given.kills} kills, {early} before anything was on disk, {len(problems)} problems, "
                f"{time.perf_counter() - started:.0f} s",
                *problems,
                sep="\n  ",
                flush=True,
            )
            wrong += len(problems)
    return min(wrong, 1)


def _commands(given: argparse.Namespace, scratch: Path) -> dict[str, list[str]]:
    data = given.data.resolve() if given.data else _sentences(scratch / "data")
    model = str(Path(given.model).resolve()) if Path(given.model).exists() else given.model
    text = ["--text", str(given.text.resolve())] if given.text else []
    tuning = ["--data", data, "--epochs", 1, "--batch-size", 8, "--max-length", 32, "--save-steps", 2]
    commands: dict[str, list[Any]] = {
        "svd": ["svd", model, "--rank", 8],
        "compress": ["compress", model, "--rank", 8, "--epochs", 4],
        "perplexity": ["perplexity", model, *text, "--limit", 8],
        "sweep": ["sweep", model, "--ratios", "8", "--perplexity", *text, "--limit", 8],
        "glue": ["glue", "--task", "sst2", "--model", model, *tuning, "--resume"],
    }
    return {name: [*map(str, command), "--quiet"] for name, command in commands.items()}


def _sentences(folder: Path) -> Path:
    """SST-2 in a few rows."""
    (folder / "SST-2").mkdir(parents=True)
    for split, rows in (("train", 64), ("dev", 16)):
        lines = [f"{'a fine film' if row % 2 else 'what a bore'} {row}\t{row % 2}" for row in range(rows)]
        (folder / "SST-2" / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *lines, ""]))
    return folder


def _killed(command: list[str], folder: Path, kills: int, draw: random.Random) -> tuple[list[str], int]:
    """What was wrong after kills, and how many of them came before there was any file."""
    code, seconds, calls = _run(command, folder / "whole")
    assert code == 0, (folder / "whole" / "output").read_text()
    expected = _results(folder / "whole")
    problems: list[str] = []
    early = 0
    for number in range(kills):
        here = folder / f"kill-{number}"
        if number % 2 and calls:
            call = draw.randrange(calls)
            moment, _ = f"call {call} of {calls}", _run(command, here, kill_at_call=call)
        else:
            after = draw.uniform(0, seconds)
            moment, _ = f"{after:.2f} s of {seconds:.2f} s", _run(command, here, kill_after=after)
        early += not (here / "runs").exists()
        found = _damaged(here)
        code, *_ = _run(command, here)
        found += [] if code == 0 else [f"run again, it ends with {code}: {(here / 'output').read_text()[-300:]}"]
        found += _left_over(here)
        if not found and _results(here) != expected:
            found = ["run again, it gives other results"]
        problems += [f"killed at {moment}: {problem}" for problem in found]
        shutil.rmtree(here)
    return problems, early


def _run(
    command: list[str], folder: Path, *, kill_after: float = _HOURS, kill_at_call: int | None = None
) -> tuple[int, float, int]:
    """Run a command in a fork: its exit code (negative: the signal), its seconds, its calls that sync or rename."""
    folder.mkdir(parents=True, exist_ok=True)
    counted = folder / "calls"
    counted.unlink(missing_ok=True)
    start = time.perf_counter()
    process = os.fork()
    if not process:
        _child(command, folder, counted, kill_at_call)
    ended = 0
    while not ended:
        ended, status = os.waitpid(process, os.WNOHANG)
        if not ended and time.perf_counter() - start > kill_after:
            os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            break
        time.sleep(0.002)
    seconds = time.perf_counter() - start
    return os.waitstatus_to_exitcode(status), seconds, int(counted.read_text()) if counted.exists() else 0


def _child(command: list[str], folder: Path, counted: Path, kill_at_call: int | None) -> None:
    """Run a command in this process and leave it."""
    code = 70
    calls = 0
    write_text = counted.write_text

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*values: Any, **named: Any) -> Any:
            nonlocal calls
            if calls == kill_at_call:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return call(*values, **named)

        return called

    try:
        os.chdir(folder)
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for name in _CALLS:
            setattr(os, name, deadly(getattr(os, name)))
        sys.argv = ["orientc", *command]
        orientc()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        write_text(str(calls))
        os._exit(code)


def _files(folder: Path) -> list[Path]:
    """Files that a reader would come upon: none in checkpoints or temporary folders."""
    passed = (".part", ".checkpoints")
    return sorted(
        path
        for path in (folder / "runs").rglob("*")
        if path.is_file() and not any(part.endswith(passed) for part in path.parts)
    )


def _damaged(folder: Path) -> list[str]:
    """What is on disk and can't be read."""
    problems = []
    for path in _files(folder):
        try:
            if (path.parent / records.MODEL_CONFIG).exists():
                _read_model_file(path)
            elif path.suffix == artifacts.SUFFIX:
                artifacts.load(path)
            elif path.name.endswith(runs.HISTORY_SUFFIX):
                json.loads(path.read_text())
            elif path.suffix == ".json":
                records.read(path)
            else:
                problems.append(f"there is {path.relative_to(folder)}")
        except Exception as error:
            problems.append(f"{path.relative_to(folder)}: {error}")
    return problems


def _read_model_file(path: Path) -> None:
    assert (path.parent / finetuning.HISTORY).exists(), "a model without its history, which is written last"
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".safetensors":
        with safetensors.safe_open(path, framework="pt") as file:
            for name in list(file.keys()):
                file.get_tensor(name)


def _left_over(folder: Path) -> list[str]:
    found = [path for path in (folder / "runs").rglob("*") if path.name.endswith((".part", ".checkpoints"))]
    return [f"left: {path.relative_to(folder)}" for path in found]


def _results(folder: Path) -> dict[str, Any]:
    """Artifacts and weights as bytes, records without the time they took."""
    results: dict[str, Any] = {}
    for path in _files(folder):
        name = str(path.relative_to(folder))
        results[name] = None
        if path.suffix == artifacts.SUFFIX:
            results[name] = path.read_bytes()
        elif (path.parent / records.MODEL_CONFIG).exists() or path.name.endswith(runs.HISTORY_SUFFIX):
            continue
        elif path.suffix == ".json":
            results[name] = records.read(path).as_dict() | {"seconds": None}
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)  # in several, the forks would wait for threads they don't have
    sys.exit(main())
