"""Whether an exported folder loads where orientc is not: a new process loads it by the line that is printed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orientc.errors import ExportError
from orientc.evaluation.sentences import Sentences
from orientc.evaluation.setup import tokenizer_for
from orientc.exporters.facts import Facts
from orientc.models.source import ModelSource

SENTENCES = 64
TOLERANCE = 1e-3
_LONGEST = 64  # tokens
PATIENCE = 900.0  # seconds
_NUMBERS = NDArray[np.float32]

# What runs there, after the lines that load. A model is compared by what it says in the middle of each sentence,
# a classifier by what it says of it.
_CODE = """
import json, sys
sys.modules["orientc"] = None  # importing it fails
given = json.load(open(sys.argv[1], encoding="utf-8"))
scope = {}
exec("\\n".join(given["lines"]), scope)
import numpy, torch
model = scope["model"].eval() if given["coded"] else scope["model"].float().eval()  # codes can't be cast
found = []
with torch.inference_mode():
    for sentence in given["sentences"]:
        if given["encoder"]:
            found.append(model.encode(sentence, convert_to_tensor=True, show_progress_bar=False).float().numpy())
            continue
        batch = scope["tokenizer"](sentence, return_tensors="pt", truncation=True, max_length=given["longest"])
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = batch["input_ids"]
        output = model(**inputs)
        states = output.logits if "logits" in output else output.last_hidden_state
        found.append((states[0, states.shape[1] // 2] if states.ndim == 3 else states[0]).float().numpy())
numpy.save(given["out"], numpy.stack(found).astype("float32"))
"""


@dataclass(frozen=True)
class Loaded:
    """How a folder loaded in a process without orientc.

    Attributes:
        sentences: How many were put into it; 0 where that could not be tried.
        difference: The largest difference of its logits or vectors from orientc's own; None where not tried.
        why_not: Why it was not tried, else None.
    """

    sentences: int
    difference: float | None
    why_not: str | None = None


def loaded(folder: Path, facts: Facts, sentences: list[str]) -> Loaded:
    """Load a folder in a fresh process in which orientc can't be imported, and compare what it computes.

    Args:
        folder: The exported folder.
        facts: Its facts, which have the lines that load it.
        sentences: What is put into it.

    Raises:
        ExportError: It does not load there, or computes something else.
    """
    encoder = facts.library == "sentence-transformers"
    package = facts.library.replace("-", "_")
    if importlib.util.find_spec(package) is None:
        return Loaded(0, None, f"{facts.library} is not installed here")
    name = "SentenceTransformer" if encoder else facts.auto_class
    lines = [f"from {package} import {name}", f"model = {facts.load(str(folder))}"]
    if not encoder:
        lines += ["from transformers import AutoTokenizer", f"tokenizer = {facts.tokenizer(str(folder))}"]
    coded, dtype = facts.body is not None, getattr(torch, facts.dtype) if facts.body else torch.float32
    given = {"lines": lines, "sentences": sentences, "encoder": encoder, "longest": _LONGEST, "coded": coded}
    with TemporaryDirectory() as place:
        out, told = Path(place) / "found.npy", Path(place) / "given.json"
        told.write_text(json.dumps(given | {"out": str(out)}), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", _CODE, str(told)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            env=environment(),
        )
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word"]
            raise ExportError(f"{folder} is written, but does not load where orientc is not: {said[-1]:.300}")
        theirs = np.load(out)
    ours = _vectors(folder, sentences, dtype) if encoder else _states(folder, sentences, dtype)
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{folder} is written, but computes something else where orientc is not: {difference:.1e} off, "
            f"{TOLERANCE:g} is allowed"
        )
    return Loaded(len(sentences), difference)


def some_of(lines: list[str]) -> list[str]:
    """As many lines as are compared, from all over a text."""
    usable = [line.strip() for line in lines if line.strip()]
    step = max(1, len(usable) // SENTENCES)
    return usable[::step][:SENTENCES]


def environment() -> dict[str, str]:
    """One process of its own, that asks no hub and is no part of a launcher's."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    return inherited | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}


@torch.inference_mode()
def _states(folder: Path, sentences: list[str], dtype: torch.dtype) -> _NUMBERS:
    source = ModelSource.resolve(folder)
    model = source.load(None, dtype=dtype).eval()
    found = []
    for sentence in sentences:
        batch = source.tokenizer(sentence, return_tensors="pt", truncation=True, max_length=_LONGEST)
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        if model.config.is_encoder_decoder:  # any ids do: they are the same here and there
            inputs["decoder_input_ids"] = batch["input_ids"]
        output: Any = model(**inputs)
        states = output.logits if "logits" in output else output.last_hidden_state
        found.append((states[0, states.shape[1] // 2] if states.ndim == 3 else states[0]).float().numpy())
    return np.stack(found).astype(np.float32)


@torch.inference_mode()
def _vectors(folder: Path, sentences: list[str], dtype: torch.dtype) -> _NUMBERS:
    source = ModelSource.resolve(folder)
    how = Sentences(source)
    device = torch.device("cpu")
    tokenizer = tokenizer_for(source)
    model, vectors = how.load(dtype, device), how.vectors(tokenizer, device)
    longest = min(how.texts.max_length or source.longest, source.longest)
    found = []
    for text in how.prepared(sentences):
        batch = tokenizer(text, return_tensors="pt", truncation=True, max_length=longest)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        found.append(vectors(states.float(), mask)[0].numpy())
    return np.stack(found).astype(np.float32)
