"""Tests end alike whatever their caller's environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.environment import FOREIGN
from support.readme import ROOT

ODD = {
    "HF_HUB_OFFLINE": "1",
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_TOKEN": "hf_someone_elses",
    "HF_HUB_DISABLE_XET": "0",
    "HF_HUB_ETAG_TIMEOUT": "0",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "debug",
    "ORIENTC_RUNS": "/nowhere",
    "COLUMNS": "20",
    "LINES": "3",
    "LANG": "C",
    "LC_ALL": "C",
    "TERM": "dumb",
    "FORCE_COLOR": "1",
    "OMP_NUM_THREADS": "3",
    "WORLD_SIZE": "2",
    "RANK": "1",
    "PYTHONHASHSEED": "7",
    "PYTHONIOENCODING": "ascii",
}
# what asks a hub, what is offline, what prints tables and help, what depends on threads, what asks for its place
SOME = [
    "tests/cli/test_main.py::test_another_process_gives_the_same_bytes_and_says_nothing_else",
    "tests/cli/test_main.py::test_no_table_is_cut_or_folded_in_a_pipe",
    "tests/cli/test_main.py::test_runs_go_where_the_environment_says",
    "tests/cli/test_main.py::test_a_commands_help_has_an_example_and_a_word_for_every_option",
    "tests/cli/test_glue.py::test_limits_are_part_of_what_was_measured",
    "tests/evaluation/glue/test_data.py::test_the_hub_gives_what_a_folder_gives",
    "tests/exporters/test_push.py::test_what_keeps_the_hub_away_is_told_before_any_work",
    "tests/models/test_compact_code.py::test_it_reads_nothing_but_its_own_folder",
    "tests/models/test_hub.py",
    "tests/utils/test_distributed.py",
]


def test_odd_values_are_all_taken_out() -> None:
    assert [name for name in ODD if not FOREIGN.fullmatch(name)] == []
    assert not FOREIGN.fullmatch("PATH")
    assert not FOREIGN.fullmatch("CUDA_VISIBLE_DEVICES")


@pytest.mark.slow
def test_tests_pass_in_an_odd_environment(tmp_path: Path) -> None:
    """Of those that might not, a few of each kind."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path, *SOME],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=inherited | ODD,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout.splitlines()[-1]
