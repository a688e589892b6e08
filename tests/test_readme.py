"""The README's commands and code, run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.coded import CASES, filled, layout, stored
from support.data import SENTENCES
from support.hub import Hub, write_dataset
from support.readme import ROOT, blocks
from transformers import PreTrainedTokenizerFast

from orientc.storage import artifact as artifacts

COMMANDS = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
SETUP = [command for command in COMMANDS if "-m venv" in command]
USE = [command for command in COMMANDS if command not in SETUP]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wordpiece: PreTrainedTokenizerFast) -> dict[str, str]:
    """Where `orientc` is the code under test, and Python and torch are those that run it."""
    bin_folder = tmp_path_factory.mktemp("bin")
    for name, module in {"orientc": "orientc", "torchrun": "torch.distributed.run"}.items():
        command = bin_folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        command.chmod(0o755)
    return os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}


def test_the_setup_commands_are_run_by_ci() -> None:
    """`.ci/run` takes them from the README; here, that they are what it looks for and end in what they promise."""
    assert [command.rsplit("/", 1)[1] for command in SETUP] == ["orientc demo", "python -m pytest"]
    assert all(command.startswith("python3 -m venv .venv && .venv/bin/pip install") for command in SETUP)
    assert "grep '^\\$ python3 -m venv' README.md" in (ROOT / ".ci" / "run").read_text()


def test_every_command_and_every_line_of_python_runs(
    environment: dict[str, str], wordpiece: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """In one folder, one after the other; hub names stand for a tiny model on a loopback hub."""
    assert len(USE) > 8
    published = tmp_path / "published"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(wordpiece), hidden_size=160, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    transformers.BertForMaskedLM(config).save_pretrained(published)
    wordpiece.save_pretrained(published)
    work = tmp_path / "work"
    work.mkdir()
    (work / "sentences.txt").write_text("\n".join(SENTENCES[:20]))
    sentences = [{"sentence": line, "label": number % 2, "idx": number} for number, line in enumerate(SENTENCES)]
    questions = [
        {
            "id": str(number),
            "title": "Village",
            "question": "Who was asleep?",
            "context": line,
            "answers": {"text": ["everybody else"], "answer_start": [line.index("everybody else")]},
        }
        for number, line in enumerate(SENTENCES)
    ]
    glue = write_dataset(tmp_path / "glue", {"sst2": {"train": sentences, "validation": sentences[:9]}})
    squad = write_dataset(tmp_path / "squad", {"plain_text": {"train": questions, "validation": questions[:9]}})
    python = "\n".join(blocks("python"))
    with Hub() as hub:
        hub.publish("google-bert/bert-base-uncased", published, alias="bert-base-uncased")
        hub.publish("nyu-mll/glue", glue, kind="datasets")
        hub.publish("rajpurkar/squad", squad, kind="datasets")
        online = environment | hub.environment(tmp_path / "huggingface")
        for command in [["bash", "-e", "-c", "\n".join(USE)], [sys.executable, "-c", python]]:
            done = subprocess.run(command, cwd=work, env=online, capture_output=True, text=True, timeout=1200)
            assert done.returncode == 0, done.stderr
            assert "Traceback" not in done.stderr
    assert (work / "perplexity.json").stat().st_size > 100
    made = {path.name.split("-")[0] for path in (work / "runs" / "bert-base-uncased").glob("*.safetensors")}
    assert made == {"autoencoder", "svd"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("coding", "shape", "options"),
    [case for case in CASES if "row group" in case[0] and case[1] != "elu"],
)
def test_numpy_reads_a_table_in_codes_as_the_reader_says(
    coding: str, shape: str, options: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    (block,) = (block for block in blocks("python") if "def table_in_codes" in block)
    found: dict[str, Any] = {}
    exec(block, found)
    artifact = stored(filled(layout(coding, shape, **options)).to(dtype))
    artifacts.save(artifact, tmp_path / "x.safetensors")
    read = torch.from_numpy(found["table_in_codes"](tmp_path / "x.safetensors"))
    torch.testing.assert_close(read, artifact.factors.dense(), atol=1e-4, rtol=1e-5)
