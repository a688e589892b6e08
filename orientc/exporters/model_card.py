"""The model card of an exported model: what it is, how small, at what cost, and how to load it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import ModelCardData

from orientc._version import __version__
from orientc.comparison import collect, formats
from orientc.comparison.grid import grid
from orientc.comparison.numbers import figure
from orientc.errors import RecordError
from orientc.exporters.facts import Facts
from orientc.exporters.forms import COMPACT, DENSE, ONNX
from orientc.models import compact_code
from orientc.models.resolve import Subject
from orientc.storage import records
from orientc.storage.sizes import MB, bits_per_weight

FILE = "README.md"


def write(folder: Path, facts: Facts, found: Subject, *, weights: int) -> None:
    """Write the card into `folder`; `weights` are the bytes of the weight files there."""
    local = found.source.local is not None
    data = ModelCardData(
        base_model=None if local else facts.base,
        library_name=facts.library,
        tags=["orientc", "embedding-compression"],
    )
    name = Path(facts.base).name if local else facts.base
    parts = [f"---\n{data.to_yaml()}\n---", f"# {name}, with a compressed token-embedding table"]
    parts += [_what(facts, name), _sizes(facts, weights), _loading(facts), _cost(found, name), _fit(found)]
    (folder / FILE).write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def _what(facts: Facts, name: str) -> str:
    heads = {
        "tied": "The lookup of tokens and the output projection both run from it.",
        "input-only": "The lookup of tokens runs from it; the output projection keeps the original table.",
        "untied": "The lookup of tokens runs from it; nothing else used the table.",
    }
    how = f"by {facts.method} " if facts.method else ""
    text = (
        f"{name} with its token-embedding table ({facts.vocab} × {facts.dim}) compressed {how}to rank {facts.rank} "
        f"with orientc {__version__}. {heads[facts.head]}"
    )
    if facts.form == DENSE:
        text += " In this folder the table is rebuilt: it is as large as before, with what compression cost it."
    return text


def _sizes(facts: Facts, weights: int) -> str:
    bits = figure(bits_per_weight(facts.vocab, facts.dim, facts.table))
    before = figure(bits_per_weight(facts.vocab, facts.dim, facts.base_table))
    return "\n".join(
        [
            "| | original | here |",
            "|---|---:|---:|",
            f"| table, MB | {facts.base_table / MB:.2f} | {facts.table / MB:.2f} |",
            f"| bits per weight of the table | {before} | {bits} |",
            f"| all weights, MB | {facts.base_weights / MB:.2f} | {weights / MB:.2f} |",
            f"| stored as | | {facts.dtype} |",
        ]
    )


def _loading(facts: Facts) -> str:
    if facts.form == ONNX:
        return "`model.onnx` is the graph, for ONNX Runtime and others; the tokenizer's files lie beside it."
    place, alone = "path/or/repository", facts.library != "transformers"
    classes = ["SentenceTransformer"] if alone else sorted({"AutoTokenizer", facts.auto_class})
    lines = [f"from {facts.library.replace('-', '_')} import {', '.join(classes)}", "", f"model = {facts.load(place)}"]
    if not alone:
        # a tokenizer needs no code, but in a terminal transformers would ask: it reads the configuration first
        lines += [f"tokenizer = AutoTokenizer.from_pretrained({facts.arguments(place)})"]
    text = "## Loading it\n\n```python\n" + "\n".join(lines) + "\n```"
    if facts.form == COMPACT:
        text += (
            f"\n\n`{compact_code.FILE}` is the code this needs. It reads nothing but this folder, "
            f"and was written with transformers {transformers.__version__}."
        )
    return text


def _cost(found: Subject, name: str) -> str:
    """What was measured of it, from the records beside the artifact or the folder."""
    if found.path:
        compared = collect.of_artifact(found.path)
        grids = [grid(replace(compared, model=name))] if compared else []
        return f"## What it cost\n\n{formats.markdown(grids)}".rstrip() if grids else ""
    if (folder := found.source.local) is None:
        return ""
    try:
        record = records.read(folder.with_name(f"{folder.name}.json"))
    except RecordError:
        return ""
    rows = [f"| {name} | {value:.4f} |" for name, value in record.figures.items()]
    return "\n".join(["## What was measured", "", "| figure | |", "|---|---:|", *rows])


def _fit(found: Subject) -> str:
    if not found.artifact:
        return ""
    described = found.artifact.description
    settings: dict[str, Any] = described.settings
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"## How it was fitted\n\n{told}.\n\nBase table: sha256 `{described.base.sha256}`."
