"""A CI job as a shell script: what it reads and what its gates say hold, whatever else is measured in the folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_names_and_verdicts_hold_through_a_ci_job(tmp_path: Path) -> None:
    script = Path(__file__).with_name("ci_engineer.sh")
    environment = {name: value for name, value in os.environ.items() if name != "ORIENTC_RUNS"}
    done = subprocess.run(
        ["bash", script, sys.executable], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "before").read_text().splitlines()[1::2] == [
        "true",
        '"perplexity.tied[limit=20]"',
        "true",
        "null",
    ]
    assert sum(map(float, (tmp_path / "seconds").read_text().split())) < 10  # nothing was made again
