"""A disk that is full: no file of a process can be any longer than so and so many bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import Commands, files_in, one_line, run_here

FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({}, resource.RLIM_INFINITY))"
TUNING = ("--epochs", 1, "--batch-size", 8, "--max-length", 64, "--save-steps", 1)


@pytest.fixture(scope="module")
def process() -> Iterator[Commands]:
    running = Commands()
    yield running
    running.close()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [400, 4_000, 100_000])  # the first file, an artifact and weights, optimizer states
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    process: Commands, bert_folder: Path, text_file: Path, glue_folder: Path, tmp_path: Path, limit: int
) -> None:
    artifact = tmp_path / "svd.safetensors"
    assert run_here("svd", bert_folder, "--rank", 4, "--out", artifact).code == 0
    here = tmp_path / "here"
    here.mkdir()
    score = ("perplexity", bert_folder, "--text", text_file, "--limit", 4)
    small = {400: [score]}
    medium = [("svd", bert_folder, "--rank", 8), ("compress", bert_folder, "--rank", 8, "--epochs", 2)]
    medium += [("export", artifact, "--to", "small"), ("export", artifact, "--to", "dense", "--form", "dense")]
    large = [("glue", "--task", "sst2", "--model", bert_folder, "--data", glue_folder, *TUNING)]
    commands = small.get(limit, []) + (medium if limit < 100_000 else []) + large

    assert process.python(FULL.format(limit), folder=here).code == 0
    for command in commands:
        assert "can't write" in one_line(process.run(*command, folder=here), 1)

    whole = [name for name in files_in(here) if not name.endswith((".history.json", ".checkpoints/orientc-run.json"))]
    # nothing but a checkpoint without its mark, in a folder that says whose it is, and a fit's history without artifact
    assert [name for name in whole if "/checkpoint-" not in name] == []
    assert not [name for name in whole if name.endswith("orientc-run.json")]
