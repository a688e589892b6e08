"""The JSON documents that commands print and runs leave: the marks each begins with, and the schema of each.

`schemas/<name>.json` is the one place that says what a document holds, of which format and version; what several have
in common is in `schemas/parts/`. A file refers to others by their place, so that an editor can follow.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from orientc.errors import UsageError

_SCHEMAS = Path(__file__).parent / "schemas"


def document(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Values as the document of a name, its marks first."""
    return marks(name) | values


@cache
def marks(name: str) -> dict[str, Any]:
    """The `format` and `version` of a document, as its schema has them."""
    properties = _read(_SCHEMAS / f"{name}.json")["properties"]
    return {mark: properties[mark]["const"] for mark in ("format", "version")}


def titles() -> dict[str, str]:
    """The names of all documents, and what each of them is."""
    found = {path.stem: _read(path)["title"] for path in _SCHEMAS.glob("*.json")}
    return dict(sorted(found.items()))


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a document, with all that it refers to in its `$defs`.

    Args:
        name: The document: "artifact", "record", "perplexity" …; the part of its `format` after "orientc-".

    Raises:
        UsageError: There is no such document; the message lists those there are.
    """
    if name not in (known := titles()):
        raise UsageError(f"there is no document {name!r}; there are {', '.join(known)}")
    parts: dict[str, Any] = {}
    whole: dict[str, Any] = _gathered(_SCHEMAS / f"{name}.json", parts)
    return whole | {"$defs": dict(sorted(parts.items()))} if parts else whole


def _gathered(path: Path, parts: dict[str, Any]) -> Any:
    """A file whose references lead to `parts`, where all that it refers to is added."""

    def follow(value: Any) -> Any:
        if isinstance(value, list):
            return [follow(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        found = {key: follow(entry) for key, entry in value.items()}
        if "$ref" in found:
            target = path.parent / found["$ref"]
            if target.stem not in parts:
                parts[target.stem] = {}  # so that one that refers to itself ends
                part = _gathered(target, parts)
                parts[target.stem] = {key: entry for key, entry in part.items() if key != "$schema"}
            found["$ref"] = f"#/$defs/{target.stem}"
        return found

    return follow(_read(path))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
