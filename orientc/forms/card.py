"""The model card of an exported model: what it is, how small, at what cost, and how to load it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers import PreTrainedModel

from orientc import comparison, records
from orientc._version import __version__
from orientc.arguments import Subject
from orientc.errors import RecordError
from orientc.forms import code, compact
from orientc.forms.sentences import LIST
from orientc.provenance import TableInfo
from orientc.report import formats
from orientc.report.grid import grid
from orientc.report.numbers import figure
from orientc.sizes import MB, bits_per_weight

FILE = "README.md"


@dataclass(frozen=True)
class Facts:
    """About an exported model; `auto_class` is the class of transformers' that gives it as it was exported.

    `table` and `base_table` are the table's bytes now and before, `base_weights` those of all tensors before;
    `method` is None for a model that came in the compact form.
    """

    base: str
    form: str
    head: str
    dtype: str
    auto_class: str
    method: str | None
    rank: int
    table: int
    base_table: int
    base_weights: int
    vocab: int
    dim: int

    @classmethod
    def of(cls, model: PreTrainedModel, found: Subject, info: TableInfo, *, form: str, head: str, dtype: str) -> Facts:
        """The facts of a model with stand-ins."""
        held = compact.stand_in(model)
        factors = held.factors
        if found.artifact:
            base_table, base_weights = info.nbytes, info.model_bytes
        else:  # it never was dense; as it would be
            base_table = info.vocab * info.dim * held.latents.element_size()
            base_weights = info.model_bytes - info.nbytes + base_table
        kind = {name: auto for auto, name in code.classes(type(model.config)).items()}.get(type(model).__name__, "")
        return cls(
            base=found.source.id,
            form=form,
            head=head,
            dtype=dtype,
            auto_class=kind,
            method=found.artifact.description.method if found.artifact else None,
            rank=factors.rank,
            table=factors.nbytes,
            base_table=base_table,
            base_weights=base_weights,
            vocab=info.vocab,
            dim=info.dim,
        )


def write(folder: Path, facts: Facts, found: Subject, *, weights: int) -> None:
    """Write the card into `folder`; `weights` are the bytes of the weight files there."""
    local = found.source.local is not None
    library = "sentence-transformers" if (folder / LIST).exists() else "transformers"
    data = ModelCardData(
        base_model=None if local else facts.base,
        library_name=library,
        tags=["orientc", "embedding-compression"],
    )
    name = Path(facts.base).name if local else facts.base
    parts = [f"---\n{data.to_yaml()}\n---", f"# {name}, with a compressed token-embedding table"]
    parts += [_what(facts, name), _sizes(facts, weights), _loading(facts, library), _cost(found), _fit(found)]
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
    if facts.form == "dense":
        text += " In this folder the table is rebuilt: it is as large as before, with what compression cost it."
    return text


def _sizes(facts: Facts, weights: int) -> str:
    bits = figure(bits_per_weight(facts.vocab, facts.dim, facts.table))
    before = figure(bits_per_weight(facts.vocab, facts.dim, facts.base_table))
    now = facts.base_table if facts.form == "dense" else facts.table
    return "\n".join(
        [
            "| | original | here |",
            "|---|---:|---:|",
            f"| table, MB | {facts.base_table / MB:.2f} | {now / MB:.2f} |",
            f"| bits per weight of the table | {before} | {before if facts.form == 'dense' else bits} |",
            f"| all weights, MB | {facts.base_weights / MB:.2f} | {weights / MB:.2f} |",
            f"| stored as | | {facts.dtype} |",
        ]
    )


def _loading(facts: Facts, library: str) -> str:
    if facts.form == "onnx":
        return "`model.onnx` is the graph, for ONNX Runtime and others; the tokenizer's files lie beside it."
    trust = ", trust_remote_code=True" if facts.form == "compact" else ""
    if library == "sentence-transformers":
        lines = ["from sentence_transformers import SentenceTransformer", ""]
        lines += [f'model = SentenceTransformer("path/or/repository"{trust})']
    else:
        name = facts.auto_class or "AutoModel"
        lines = [f"from transformers import AutoTokenizer, {name}", ""]
        lines += [f'model = {name}.from_pretrained("path/or/repository"{trust})']
        lines += ['tokenizer = AutoTokenizer.from_pretrained("path/or/repository")']
    code_block = "```python\n" + "\n".join(lines) + "\n```"
    why = f"\n\n`{code.FILE}` is the code this needs; it reads nothing but this folder." if trust else ""
    return f"## Loading it\n\n{code_block}{why}"


def _cost(found: Subject) -> str:
    """What was measured of it, from the records beside the artifact or the folder."""
    if found.path:
        compared = comparison.of_artifact(found.path)
        return f"## What it cost\n\n{formats.markdown([grid(compared)])}".rstrip() if compared else ""
    folder = found.source.local
    try:
        record = records.read(folder.with_name(f"{folder.name}.json")) if folder else None
    except RecordError:
        return ""
    if record is None:
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
