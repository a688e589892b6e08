"""The model card of an exported model: what it is, how small, at what cost, and how to load it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import ModelCardData

from orientc._version import __version__
from orientc.comparison import collect
from orientc.comparison.formats import escaped, markdown
from orientc.comparison.grid import grid
from orientc.comparison.numbers import figure
from orientc.exporters.facts import OURS, THEIRS, Facts
from orientc.exporters.finetuned import Finetuned
from orientc.exporters.forms import DENSE, ONNX
from orientc.models import compact_code
from orientc.models.resolve import Subject
from orientc.storage.sizes import MB, bits_per_weight
from orientc.utils.files import encoded

FILE = "README.md"


def write(
    folder: Path,
    facts: Facts,
    found: Subject,
    *,
    fingerprint: str,
    weights: int,
    finetuned: Finetuned | None = None,
) -> None:
    """Write the card into a folder.

    Args:
        folder: Where the exported model is.
        facts: What it is.
        found: What was exported.
        fingerprint: That of the base model, which is what figures on the card have to be of.
        weights: Bytes of the weight files in the folder.
        finetuned: What is known of a model that was fine-tuned; nothing of it is said where it was changed since.
    """
    local = found.source.local is not None
    known = finetuned if finetuned and finetuned.unchanged else None
    data = ModelCardData(
        base_model=(known.base if known else None) if local else facts.base,
        library_name=facts.library,
        tags=["orientc", "embedding-compression"],
    )
    name = Path(facts.base).name if local else facts.base
    parts = [f"---\n{data.to_yaml()}\n---", f"# {escaped(name)}, with a compressed token-embedding table"]
    parts += [_what(facts, name), known.origin if known else "", _sizes(facts, weights), _loading(facts, folder)]
    parts += [_measured(known) if known else _cost(found, name, fingerprint), _fit(found)]
    (folder / FILE).write_bytes(encoded("\n\n".join(part for part in parts if part) + "\n"))


def _what(facts: Facts, name: str) -> str:
    heads = {
        "tied": "The lookup of tokens and the output projection both run from it.",
        "input-only": "The lookup of tokens runs from it; the output projection keeps the original table.",
        "untied": "The lookup of tokens runs from it; nothing else used the table.",
    }
    how = f"by {escaped(facts.method)} " if facts.method else ""
    text = (
        f"This is {escaped(name)} with its token-embedding table ({facts.vocab} × {facts.dim}) compressed {how}to rank "
        f"{facts.rank} with orientc {__version__}. {heads[facts.head]}"
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


def _loading(facts: Facts, folder: Path) -> str:
    if facts.form == ONNX:
        return "`model.onnx` is the graph, for ONNX Runtime and others; the tokenizer's files lie beside it."
    place, alone = "path/or/repository", facts.library != "transformers"
    classes = ["SentenceTransformer"] if alone else sorted({facts.preparing, facts.auto_class})
    lines = [f"from {facts.library.replace('-', '_')} import {', '.join(classes)}", "", f"model = {facts.load(place)}"]
    if not alone:
        lines += [f"{'processor' if facts.processor else 'tokenizer'} = {facts.tokenizer(place)}"]
    text = "## Loading it\n\n```python\n" + "\n".join(lines) + "\n```"
    if THEIRS in (facts.code, facts.tokenizer_code):
        files = ", ".join(f"`{path.name}`" for path in sorted(folder.glob("*.py")))
        text += f"\n\nThis runs code of the model's own repository, not of orientc's: {files}. Read it before you do."
    if facts.code == OURS:
        text += (
            f"\n\n`{compact_code.FILE}` is the code this needs. It reads nothing but this folder, "
            f"and was written with transformers {transformers.__version__}."
        )
    return text


def _cost(found: Subject, name: str, fingerprint: str) -> str:
    """What an artifact cost, from the records beside it."""
    if not (found.path and found.artifact):
        return ""
    compared = collect.of_artifact(found.path, found.artifact, fingerprint)
    grids = [grid(replace(compared, model=name))] if compared else []
    return f"## What it cost\n\n{markdown(grids)}".rstrip() if grids else ""


def _measured(finetuned: Finetuned) -> str:
    """The figures of a fine-tuned model."""
    rows = [f"| {escaped(name)} | {value:.4f} |" for name, value in finetuned.record.figures.items()]
    return "\n".join(["## What was measured", "", "| figure | |", "|---|---:|", *rows])


def _fit(found: Subject) -> str:
    if not found.artifact:
        return ""
    described = found.artifact.description
    settings: dict[str, Any] = described.settings
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"## How it was fitted\n\nSettings: {escaped(told)}.\n\nBase table: sha256 {escaped(described.base.sha256)}."
