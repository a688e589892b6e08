"""Artifacts, records and comparisons to look at, made without measuring anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from orientc.comparison.compare import compare
from orientc.comparison.rows import Column, Comparison, Figure, Row
from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.models.table import Table, table_sha256
from orientc.storage import artifact as artifacts
from orientc.storage.records import Record
from orientc.storage.table_info import TableInfo
from orientc.utils.files import file_sha256

VOCAB, DIM, MODEL_BYTES = 50, 8, 10_000
TABLE_BYTES = VOCAB * DIM * 4
TEXT = {"name": "text.txt", "sha256": "a" * 64}
TUNED = {"epochs": 3.0, "learning_rate": 2e-5}
MASKED = {"protocol": "masked", "limit": None, "seed": 0}


def table(seed: int = 0, *, tied: bool = True) -> Table:
    weight = torch.randn(VOCAB, DIM, generator=torch.Generator().manual_seed(seed))
    info = TableInfo(
        id=f"model-{seed}", revision=None, sha256=table_sha256(weight), vocab=VOCAB, dim=DIM, dtype="float32",
        nbytes=TABLE_BYTES, padding_idx=None, embed_scale=1.0, tied=tied, model_parameters=2500,
        model_bytes=MODEL_BYTES,
    )  # fmt: skip
    return Table(weight, info)


def put(folder: Path, rank: int, of: Table | None = None, dtype: str = "float32", name: str = "") -> Path:
    """An artifact in a folder."""
    path = folder / f"{name or f'svd-r{rank}-{dtype}'}.safetensors"
    artifacts.save(fit_table(of or table(), SvdConfig(rank=rank, dtype=dtype), device="cpu"), path)
    return path


def record(
    perplexity: float, artifact: Path | None = None, head: str = "tied", of: Table | None = None, **other: Any
) -> Record:
    """A record of perplexity; the uncompressed model's without an artifact."""
    info = (of or table()).info
    made = Record(
        kind="perplexity",
        model={
            "id": info.id,
            "revision": None,
            "table_sha256": info.sha256,
            "fingerprint": "f" * 64,
            "table": asdict(info),
        },
        artifact={"path": str(artifact), "sha256": file_sha256(artifact)} if artifact else None,
        head=head,
        settings=MASKED,
        metrics={"perplexity": perplexity, "loss": 1.0, "tokens": 10},
        seconds=1.0,
        environment={},
        versions={},
        text=TEXT,
    )
    changed = replace(made, **other)
    if "chosen" in other:
        return changed
    return replace(changed, chosen=_chosen(changed))


def _chosen(of: Record) -> dict[str, Any]:
    """What is chosen where `MASKED`, `TUNED` and `TEXT` are the defaults."""
    text = {"text": of.text["name"]} if of.text and of.text != TEXT else {}
    cut = {name: value for name, value in (of.data or {}).items() if name.startswith("limit_") and value is not None}
    default = TUNED if of.data else MASKED
    return (
        text | cut | {name: v for name, v in of.settings.items() if name != "seed" or of.text if v != default.get(name)}
    )


def tuned(
    metrics: Mapping[str, float], artifact: Path | None = None, seed: int = 0, task: str = "mrpc", **other: Any
) -> Record:
    """A fine-tuning's record; SQuAD's where that is the task."""
    settings = TUNED | {"seed": seed} | other.pop("settings", {})
    glue = {"task": task, "name": "glue", "sha256": f"{task}-data", "limit_train": None}
    data = ({"name": "squad", "sha256": "s" * 64} if task == "squad" else glue) | other.pop("data", {})
    kind = "squad" if task == "squad" else "glue"
    return record(
        0.0, artifact, "input-only", kind=kind, text=None, metrics=dict(metrics), settings=settings, data=data, **other
    )


def only(folder: Path) -> Comparison:
    """The one comparison of a folder where everything is usable."""
    findings = compare([folder])
    assert findings.problems == ()
    assert len(findings.comparisons) == 1
    return findings.comparisons[0]


def column(name: str, **chosen: Any) -> Column:
    return Column(name, chosen, {"on": "text.txt", "seed": 0, **chosen, "sha256": "a" * 8})


def row(name: str = "original", rank: int = DIM, figures: Mapping[str, float | Figure] | None = None, **o: Any) -> Row:
    """A row; `figures` are by column key. Of its facts the size follows from the rank."""
    size = o.pop("table_mb", rank / 10)
    plain = {
        key: figure if isinstance(figure, Figure) else Figure(figure, 1.5, 0.25, None, (0,))
        for key, figure in (figures or {}).items()
    }
    facts: dict[str, Any] = {
        "method": "original" if name == "original" else "svd", "settings": "", "dtype": "float32", "rank": rank,
        "path": None if name == "original" else f"runs/{name}.safetensors", "parameter_ratio": DIM / rank,
        "byte_ratio": DIM / rank, "bits_per_weight": 4.0 * rank, "table_mb": size,
        "model_mb": {"input-only": 5 + size, "tied": 4 + size}, "cosine": 0.5 / rank, "rmse": 0.25 / rank,
        "seconds": None,
    }  # fmt: skip
    return Row(name=name, figures=plain, **facts | o)


def comparison(columns: Sequence[Column], *rows: Row, model: str = "model") -> Comparison:
    return Comparison(model, tuple(columns), tuple(rows))
