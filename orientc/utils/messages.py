"""Parts of messages."""

from __future__ import annotations

import re


def first_line(error: BaseException) -> str:
    """What a library's error says first, in one line."""
    lines = re.sub(r":\s*\n\s*", ": ", str(error).strip()).splitlines()
    return lines[0] if lines else type(error).__name__
