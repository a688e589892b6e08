"""`orientc schema`"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from support.commands import Ended, one_line

import orientc as library
from orientc.utils import documents


def test_the_documents_are_listed_each_with_what_it_is(orientc: Callable[..., Ended]) -> None:
    ended = orientc("schema")
    assert (ended.code, ended.err) == (0, "")
    assert [line.split(maxsplit=1) for line in ended.out.splitlines()] == [*map(list, documents.titles().items())]


@pytest.mark.parametrize("name", documents.titles())
def test_a_schema_is_printed_as_json(orientc: Callable[..., Ended], name: str) -> None:
    ended = orientc("schema", name)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == library.schema(name)


def test_a_document_nobody_knows_is_a_wrong_request(orientc: Callable[..., Ended]) -> None:
    assert "there is no document 'frobnicate'; there are artifact, artifacts, calibration," in one_line(
        orientc("schema", "frobnicate"), 2
    )
