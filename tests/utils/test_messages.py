"""Parts of messages: texts that are safe where they are shown."""

from __future__ import annotations

import ast

import pytest

from orientc.utils.messages import literal, printable

NAMES = [
    "plain",
    'a "quoted" one',
    r"back\\slash\n",
    "two\nlines",
    "größe 表 😀",
    "\x1b[2J\x7f\x85\u2028",
    "caf\udce9",
    "'",
]


@pytest.mark.parametrize("text", NAMES)
def test_a_literal_is_pythons_also_once_a_terminal_has_it(text: str) -> None:
    assert ast.literal_eval(printable(literal(text))) == text


@pytest.mark.parametrize("text", NAMES)
def test_what_is_printable_is_on_one_line_and_can_be_written_anywhere(text: str) -> None:
    assert printable(text).isprintable()
    printable(text).encode()
    assert printable(text, kept="\n").count("\n") == text.count("\n")
