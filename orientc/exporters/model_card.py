"""The model card of an exported model: what it is, how small, at what cost, and how to load it."""

from __future__ import annotations

from collections.abc import Sequence
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
from orientc.exporters import base_card, onnx_card
from orientc.exporters.facts import OURS, THEIRS, Facts, TableFacts
from orientc.exporters.finetuned import Finetuned
from orientc.exporters.forms import DENSE, ONNX
from orientc.modeling.table_names import HEAD, INPUT
from orientc.models import compact_code
from orientc.models.resolve import Subject
from orientc.storage.description import Description
from orientc.storage.sizes import MB
from orientc.utils.files import encoded

FILE = base_card.FILE
TAGS = ("orientc", "embedding-compression")
ONNX_TAGS = ("onnx", "transformers.js")


def write(folder: Path, facts: Facts, found: Subject, **options: Any) -> None:
    """Write the card into `folder`; arguments are those of `content`."""
    (folder / FILE).write_bytes(content(folder, facts, found, **options))


def content(
    folder: Path,
    facts: Facts,
    found: Subject,
    *,
    fingerprint: str,
    weights: int,
    finetuned: Finetuned | None = None,
    name: str | None = None,
    verdict: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The card.

    Args:
        folder: What it lies in; code there is named.
        facts: About the exported model.
        found: The base model and the artifact.
        fingerprint: The base model's, which is what figures on the card have to be of.
        weights: Bytes of the weight files.
        finetuned: What is known of a model that was fine-tuned; nothing of it is said where it was changed since.
        name: The title; what was done to the base unless given.
        verdict: What was measured of this very folder, by name; in the place of what records beside the artifact say.
    """
    local = found.source.local is not None
    known = finetuned if finetuned and finetuned.unchanged else None
    origin = (known.base if known else None) if local else facts.base
    own = base_card.kept(found.source)
    added = (*TAGS, *(ONNX_TAGS if facts.form == ONNX else ()))
    tags = [tag for tag in own.pop("tags", []) if tag not in added]
    data = ModelCardData(
        **own,
        base_model=origin,
        base_model_relation="quantized" if origin and not local else None,
        library_name=facts.library,
        tags=[*tags, *added],
    )
    base = Path(facts.base).name if local else facts.base
    parts = [f"---\n{data.to_yaml()}\n---", f"# {escaped(name or title(facts, base))}"]
    parts += [_what(facts, base), known.origin if known else "", _sizes(facts, weights), _loading(facts, folder)]
    cost = _verdict(verdict) if verdict else _measured(known) if known else _cost(found, base, fingerprint)
    return encoded("\n\n".join(part for part in (*parts, cost, _fit(found)) if part) + "\n")


def title(facts: Facts, base: str) -> str:
    """What a folder without a name of its own is called."""
    which = "token table" if len(facts.tables) == 1 else "tables"
    if facts.form == DENSE:
        return f"{base}, {which} compressed and rebuilt"
    return f"{base.rpartition('/')[2]}, {which} at {figure(8 * facts.table / facts.numbers)} bits"


def _verdict(rows: Sequence[tuple[str, str]]) -> str:
    lines = [f"| {escaped(name)} | {escaped(value)} |" for name, value in rows]
    return "\n".join(["## What it cost", "", "Measured with this folder's files.", "", "| | |", "|---|---|", *lines])


def _what(facts: Facts, name: str) -> str:
    heads = {
        "tied": "The lookup of tokens and the output projection both run from it.",
        "input-only": "The lookup of tokens runs from it; an output projection keeps the original table, or its own.",
        "head-only": "The output projection runs from it; the lookup of tokens keeps its own table.",
        "both": "The lookup of tokens and the output projection each run from a compressed table of their own.",
    }
    tables = " and ".join(map(_how, facts.tables))
    text = f"This is {escaped(name)} with {tables} with orientc {__version__}. {heads[facts.head]}"
    if facts.form == DENSE:
        text += " In this folder the table is rebuilt: it is as large as before, with what compression cost it."
    return text


def _how(table: TableFacts) -> str:
    """What became of a table."""
    named = {INPUT: "its token-embedding table", HEAD: "the table of its head"}
    how = f"by {escaped(table.method)} " if table.method else ""
    called = named.get(table.table, f"its table `{table.table}`")
    return f"{called} ({table.vocab} × {table.dim}) compressed {how}to rank {table.rank}"


def _sizes(facts: Facts, weights: int) -> str:
    bits, before = (figure(8 * nbytes / facts.numbers) for nbytes in (facts.table, facts.base_table))
    which = "table" if len(facts.tables) == 1 else "tables"
    return "\n".join(
        [
            "| | original | here |",
            "|---|---:|---:|",
            f"| {which}, MB | {facts.base_table / MB:.2f} | {facts.table / MB:.2f} |",
            f"| bits per weight of the {which} | {before} | {bits} |",
            f"| all weights, MB | {facts.base_weights / MB:.2f} | {weights / MB:.2f} |",
            f"| stored as | | {facts.dtype}{f'; body {facts.body}' if facts.body else ''} |",
        ]
    )


def _loading(facts: Facts, folder: Path) -> str:
    if facts.form == ONNX:
        return onnx_card.loading(facts, folder)
    place, alone = "path/or/repository", facts.library != "transformers"
    classes = ["SentenceTransformer"] if alone else sorted({facts.preparing, facts.auto_class})
    lines = [f"from {facts.library.replace('-', '_')} import {', '.join(classes)}", "", f"model = {facts.load(place)}"]
    if not alone:
        lines += [f"{'processor' if facts.processor else 'tokenizer'} = {facts.tokenizer(place)}"]
    text = "## Loading it\n\n```python\n" + "\n".join(lines) + "\n```"
    if facts.needs:
        text += f"\n\nThe body is quantized ({facts.body}): loading it needs `pip install {' '.join(facts.needs)}`."
    if THEIRS in (facts.code, facts.tokenizer_code):
        files = ", ".join(f"`{path.name}`" for path in sorted(folder.glob("*.py")))
        text += f"\n\nThis runs code of the model's own repository, not of orientc's: {files}. Read it before you do."
    if facts.code == OURS:
        text += (
            f"\n\n`{compact_code.FILE}` is the code this needs. It reads nothing but this folder, "
            f"and was written with transformers {transformers.__version__}."
        )
    return text + (f"\n\n{_residency(facts)}" if facts.resident else "")


def _residency(facts: Facts) -> str:
    """What the head holds while the model runs, and what it may hold instead."""
    forms = {
        "int8": "holds one byte more for each code and takes no longer for a token than a dense head",
        "dense": "holds the table decoded, which is as large as before",
    }
    told = "; ".join(f'`{compact_code.RESIDENT}="{name}"` {forms[name]}' for name in facts.resident)
    return (
        "The output projection decodes its codes anew for each product. That is the default because it takes the least "
        f"memory and is what was measured; generating text is faster with another form in `from_pretrained`: {told}. "
        "What is saved is the same."
    )


def _cost(found: Subject, name: str, fingerprint: str) -> str:
    """What artifacts cost, from the records beside them."""
    if not found.path:
        return ""
    compared = collect.of_artifacts([*zip(found.paths, found.artifacts, strict=True)], fingerprint)
    grids = [grid(replace(compared, model=name))] if compared else []
    return f"## What it cost\n\n{markdown(grids)}".rstrip() if grids else ""


def _measured(finetuned: Finetuned) -> str:
    """The figures of a fine-tuned model."""
    rows = [f"| {escaped(name)} | {value:.4f} |" for name, value in finetuned.record.figures.items()]
    return "\n".join(["## What was measured", "", "| figure | |", "|---|---:|", *rows])


def _fit(found: Subject) -> str:
    if not found.artifacts:
        return ""
    return "\n\n".join(["## How it was fitted", *(_settings(each.description) for each in found.artifacts)])


def _settings(described: Description) -> str:
    told = ", ".join(f"{name} {value}" for name, value in described.settings.items())
    table = "Base table" if described.base.table == INPUT else f"Base table `{escaped(described.base.table)}`"
    return f"Settings: {escaped(told)}.\n\n{table}: sha256 {escaped(described.base.sha256)}."
