"""JSON documents, held against their schemas."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import orientc


def valid(document: Any) -> Any:
    """A document; an `AssertionError` tells where it is not what the schema that it names says."""
    wrong = _validator(document["format"]).iter_errors(document)
    told = [f"{error.json_path}: {error.message:.300}" for error in wrong]
    assert not told, "\n".join([document["format"], *told])
    return document


def read(path: str | Path) -> Any:
    """The document in a file, held against its schema."""
    return valid(json.loads(Path(path).read_text(encoding="utf-8")))


@cache
def _validator(mark: str) -> Any:
    from jsonschema import Draft202012Validator  # what starts the workers needs none

    found = orientc.schema(mark.removeprefix("orientc-"))
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)
