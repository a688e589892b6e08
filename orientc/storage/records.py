"""What an evaluation leaves behind: one JSON file per figure set, readable without torch.

A record names the model (with the hash of its table), the artifact if one was put in, the head policy, the text or
data, the settings the figures depend on, and the figures. Keys it does not know are kept when a record is read.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from orientc.errors import RecordError
from orientc.storage.table_info import TableInfo
from orientc.utils.files import short_hash, write_json

FORMAT = "orientc-record"
VERSION = 1
ORIGINAL = "original"
MODEL_CONFIG = "config.json"  # what a folder with a model in it has


@dataclass(frozen=True)
class Record:
    """One evaluation of one model or artifact.

    `model {id, revision, table_sha256, weights_sha256, table}`, the last being
    a `TableInfo`'s values; `artifact {path, sha256, method, rank,
    bits_per_weight}` or None for the uncompressed model; `head` is the head policy, and for the uncompressed model
    "tied" or "untied" as it is. `text {name, sha256}` for perplexity. GLUE figures are 0–1, SQuAD's 0–100.
    """

    kind: str
    model: dict[str, Any]
    artifact: dict[str, Any] | None
    head: str
    settings: dict[str, Any]
    metrics: dict[str, Any]
    seconds: float
    versions: dict[str, str]
    text: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the record."""
        values = asdict(self)
        extra: dict[str, Any] = values.pop("extra")
        return {"format": FORMAT, "version": VERSION} | extra | values

    @property
    def table(self) -> TableInfo:
        """What the record says of the base table."""
        values = self.model["table"]
        return TableInfo(**{entry.name: values[entry.name] for entry in fields(TableInfo)})

    @property
    def perplexity(self) -> float:
        """The perplexity measured; JSON has no word for infinity and keeps null."""
        value = self.metrics["perplexity"]
        return math.inf if value is None else float(value)

    @property
    def figures(self) -> dict[str, float]:
        """The figures tables are compared by, under names that are clear without the record: "sst2.accuracy"."""
        if self.kind == "perplexity":
            return {f"perplexity.{self.head}": self.perplexity} if "perplexity" in self.metrics else {}
        subject = (self.data or {}).get("task") or self.kind
        figures = {name: value for name, value in self.metrics.items() if value is not None and name != "sentences"}
        return {f"{subject}.{name}": float(value) for name, value in figures.items()}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything the figures depend on: equal identities should give equal figures."""
        model = {key: self.model.get(key) for key in ("table_sha256", "weights_sha256", "revision")}
        artifact = self.artifact and self.artifact["sha256"]
        return {
            "kind": self.kind,
            "model": model,
            "artifact": artifact,
            "head": self.head,
            "text": self.text and self.text["sha256"],
            "data": self.data,
            "settings": self.settings,
        }

    @property
    def file_name(self) -> str:
        """`<artifact or "original">.<kind>[-<task>]-<head>-<8 hex digits of the identity>.json`."""
        stem = Path(self.artifact["path"]).name.removesuffix(".safetensors") if self.artifact else ORIGINAL
        task = f"-{self.data['task']}" if self.data and self.data.get("task") else ""
        return f"{stem}.{self.kind}{task}-{self.head}-{short_hash(self.identity)}.json"


def write(record: Record, folder: Path) -> Path:
    """Write a record into `folder`, atomically; the same evaluation again replaces it. Raises `OutputError`."""
    path = folder / record.file_name
    write_json(path, record.as_dict())
    return path


def read(path: Path) -> Record:
    """Read a record. Raises `RecordError` where the file is damaged, foreign or too new."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path} can't be read as a record: {error!s:.200}") from None
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise RecordError(f"{path} is not a record")
    version = values.pop("version", None)
    if not isinstance(version, int):
        raise RecordError(f"{path} is damaged: its version is missing")
    if version > VERSION:
        raise RecordError(f"{path} has record version {version!s:.20}, newer than {VERSION}: update orientc")
    names = [entry.name for entry in fields(Record) if entry.name != "extra"]
    complete: dict[str, Any] = {"text": None, "data": None} | values
    try:
        known = {name: complete[name] for name in names}
        record = Record(**known, extra={key: value for key, value in values.items() if key not in names})
        _check(record)
    except KeyError as error:
        raise RecordError(f"{path} is damaged: {error.args[0]} is missing") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {error!s:.200}") from None
    return record


def reusable(record: Record, folder: Path) -> Record | None:
    """A record in `folder` of the same evaluation by the same versions, if there is one."""
    path = folder / record.file_name
    try:
        found = read(path)
    except RecordError:
        return None
    return found if found.identity == record.identity and found.versions == record.versions else None


def files_under(paths: Iterable[Path], suffix: str) -> Iterator[Path]:
    """Files with a suffix: each path itself where it is one, what lies below it where it is a folder; sorted.

    Not below: folders with models and checkpoints, and what else an evaluation leaves in a folder named as its record.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            below: list[Path] = []
            for place, folders, names in os.walk(path):
                if MODEL_CONFIG in names and Path(place) != path:
                    folders.clear()
                    continue
                folders[:] = [name for name in folders if f"{name}.json" not in names]
                below += (Path(place, name) for name in names if name.endswith(suffix))
            found.update(dict.fromkeys(sorted(below)))
        elif path.name.endswith(suffix):
            found[path] = None
    yield from found


def _check(record: Record) -> None:
    """Raise where an entry that others go by is missing or of the wrong type."""
    mappings = (record.model, record.settings, record.metrics, record.versions)
    if not all(isinstance(value, dict) for value in mappings):
        raise ValueError("model, settings, metrics and versions must be JSON objects")
    for value in (record.artifact, record.text, record.data):
        if value is not None and not isinstance(value, dict):
            raise ValueError("artifact, text and data must be JSON objects or null")
    names = [record.kind, record.head, record.model["id"], record.model["table_sha256"], record.file_name]
    names += [record.artifact["path"], record.artifact["sha256"]] if record.artifact else []
    names += [record.text["name"], record.text["sha256"]] if record.text else []
    if not all(isinstance(name, str) for name in names):
        raise ValueError("kind, head, names and hashes must be strings")
    table = record.table
    sizes = (table.vocab, table.dim, table.nbytes, table.model_parameters, table.model_bytes)
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError("the sizes of its table must be whole numbers above 0")
    for figure in record.metrics.values():
        if not isinstance(figure, int | float | None):
            raise ValueError("metrics must be numbers, or null where they are not finite")
        float(figure or 0)  # whole numbers can be too large
