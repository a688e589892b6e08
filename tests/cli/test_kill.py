"""Commands that are killed: the benchmark's script, with two kills a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orientc.storage import artifact as artifacts
from orientc.storage import records

pytestmark = pytest.mark.slow

KILL = Path(__file__).parents[1] / "benchmarks" / "kill.py"


@pytest.mark.skipif(sys.platform != "linux", reason="forks processes that have torch in them")
def test_commands_killed_at_any_moment_leave_what_is_whole_and_do_the_rest_when_run_again(
    bert_folder: Path, text_file: Path, glue_folder: Path
) -> None:
    places = ["--model", bert_folder, "--text", text_file, "--data", glue_folder]
    done = subprocess.run(
        [sys.executable, KILL, "--kills", "2", *map(str, places)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["svd", "compress", "perplexity", "sweep", "glue"]
    assert all(" 2 kills, " in line and " 0 problems" in line for line in lines)


def test_two_of_the_same_command_at_once_leave_one_whole_result(
    bert_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    command = ["sweep", bert_folder, "--ratios", "4", "--methods", "svd", "--perplexity", "--text", text_file]
    command = [sys.executable, "-m", "orientc", *map(str, command), "--limit", "4", "--out", "both", "-q"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    ended = [(process.communicate(timeout=120), process.returncode) for process in both]
    assert [(code, said) for (_, said), code in ended] == [(0, b"")] * 2
    (artifact,) = (tmp_path / "both").rglob("*.safetensors")
    assert artifacts.load(artifact).description.method == "svd"
    found = [path for path in artifact.parent.glob("*.json") if not path.name.endswith(".history.json")]
    assert sorted(records.read(path).head for path in found) == ["input-only", "tied", "tied"]
    assert len(list(artifact.parent.iterdir())) == 5
