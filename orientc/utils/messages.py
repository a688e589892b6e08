"""Parts of messages."""

from __future__ import annotations

import json
import re


def first_line(error: BaseException) -> str:
    """What a library's error says first, in one line."""
    lines = re.sub(r":\s*\n\s*", ": ", str(error).strip()).splitlines()
    return lines[0] if lines else type(error).__name__


def literal(text: str) -> str:
    """Text as a string literal of Python's, in double quotes."""
    return json.dumps(text, ensure_ascii=False)  # all its escapes are Python's too


def printable(text: str, *, kept: str = "") -> str:
    """Text that can do nothing to a terminal, a line or a drawing: what is not printable is escaped, but for `kept`."""
    return "".join(
        sign if sign.isprintable() or sign in kept else sign.encode("unicode_escape").decode() for sign in text
    )
