"""Whether an exported GGUF file runs in llama.cpp: a new process loads it there and puts sentences through it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from orientc.errors import ExportError
from orientc.exporters.facts import LLAMA_CPP
from orientc.workflows.fresh_process import PATIENCE, Loaded, environment

_PACKAGE = "xllamacpp"
_CHARACTERS = 60  # of a sentence, so that it stays within any model's window

# What runs there; a token behind each sentence is asked for.
_CODE = """
import json, sys
sys.modules["orientc"] = None  # importing it fails
from xllamacpp import xllamacpp
given = json.load(sys.stdin)
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.n_parallel, parameters.warmup = given["file"], 1, False
server = xllamacpp.Server(parameters)
for sentence in given["sentences"]:
    answer = server.handle_completions({"prompt": sentence, "max_tokens": 1, "temperature": 0})
    if not answer.get("choices"):
        sys.exit(f"no answer: {answer}")
"""


def loaded(file: Path, sentences: list[str]) -> Loaded:
    """Run a GGUF file in llama.cpp in a fresh process in which orientc can't be imported, where it is installed.

    Nothing is compared: llama.cpp computes with activations of 8 bits.

    Args:
        file: The file.
        sentences: What is put into it.

    Raises:
        ExportError: llama.cpp can't load the file, or says nothing.
    """
    if importlib.util.find_spec(_PACKAGE) is None:
        return Loaded(0, None, f"{LLAMA_CPP} ({_PACKAGE}) is not installed here")
    short = [sentence[:_CHARACTERS] for sentence in sentences]
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        input=json.dumps({"file": str(file), "sentences": short}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word"]
        raise ExportError(f"{file} is written, but does not run in {LLAMA_CPP}: {said[-1]:.300}")
    return Loaded(len(short), None)
