"""JSON documents and their schemas: what is said of each, and that it would be seen where one is not kept."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.documents import valid
from support.readme import ROOT

import orientc
from orientc.errors import UsageError
from orientc.utils import documents

PACKAGE = Path(orientc.__file__).parent
NAMES = [*documents.titles()]


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """All JSON objects in a value, itself the first."""
    if isinstance(value, dict):
        yield value
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(entry)


def test_a_document_that_is_made_has_a_schema_and_every_schema_has_its_document() -> None:
    made = {name for path in PACKAGE.rglob("*.py") for name in re.findall(r'\bdocument\("([a-z-]+)"', path.read_text())}
    assert made == {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_stands_by_itself_and_says_what_everything_means(name: str) -> None:
    from jsonschema import Draft202012Validator

    found = orientc.schema(name)
    Draft202012Validator.check_schema(found)
    assert list(found)[:3] == ["$schema", "title", "description"]
    parts = found.get("$defs", {})
    assert {each["$ref"] for each in objects(found) if "$ref" in each} == {f"#/$defs/{part}" for part in parts}
    for each in objects(found):
        for key, entry in each.get("properties", {}).items() if each.get("type") == "object" else ():
            assert entry.keys() & {"description", "$ref"}, (name, key)


@pytest.mark.parametrize("name", NAMES)
def test_what_orientc_alone_writes_has_no_room_for_other_keys(name: str) -> None:
    assert orientc.schema(name).get("additionalProperties", True) is (name == "record")  # there they are kept


def test_the_marks_come_first() -> None:
    made = documents.document("files", {"files": {}})
    assert list(made.items()) == [("format", "orientc-files"), ("version", 1), ("files", {})]


@pytest.mark.parametrize("values", [{}, {"files": {}, "more": 1}, {"files": {"a": "b"}}, {"files": []}])
def test_what_is_not_as_its_schema_says_is_seen(values: dict[str, Any]) -> None:
    valid(documents.document("files", {"files": {"a": "0" * 64}}))
    with pytest.raises(AssertionError, match="orientc-files"):
        valid(documents.document("files", values))


def test_a_document_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"'recrod'; there are artifact, .*, record, "):
        orientc.schema("recrod")


def test_schemas_go_with_the_package() -> None:
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["orientc"]
    found = {path for pattern in packed for path in PACKAGE.glob(pattern)}
    assert {*(PACKAGE / "utils" / "schemas").rglob("*.json")} <= found
