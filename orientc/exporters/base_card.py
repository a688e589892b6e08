"""What a model's own card says of it that its compressed form shares: licence, languages, tags and task."""

from __future__ import annotations

import re
from typing import Any

import yaml  # type: ignore[import-untyped]

from orientc.errors import OrientcError
from orientc.models.source import ModelSource
from orientc.utils.files import read_bytes

FILE = "README.md"
KEPT = ("license", "license_name", "license_link", "language", "tags", "pipeline_tag")
_LARGEST = 1_000_000  # bytes of a card
_MOST = 200  # entries of a list, and characters of each


def kept(source: ModelSource) -> dict[str, Any]:
    """The entries of the card that go along, by their names; none where there is no card that can be read."""
    try:
        path = source.file(FILE)
        text = "" if path is None else read_bytes(path, _LARGEST).decode()
        found = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*\n", text.replace("\r\n", "\n"), re.DOTALL)
        values = yaml.safe_load(found[1]) if found else {}
    except (OrientcError, OSError, ValueError, RecursionError, yaml.YAMLError):  # a card is no reason to stop
        return {}
    if not isinstance(values, dict):
        return {}
    return {name: value for name in KEPT if (value := _plain(values.get(name))) is not None}


def _plain(value: Any) -> str | list[str] | None:
    """A value that is text, or a list of texts; None for any other."""
    if isinstance(value, list):
        texts = [entry for entry in value[:_MOST] if _is_text(entry)]
        return texts or None
    return value if _is_text(value) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MOST and value.isprintable()
