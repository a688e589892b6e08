"""The library's messages in the command line's words: a field's name in backticks becomes the option of that name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_OPTIONS: dict[str, str] = {}  # of the running command, by the names of its parameters


def begin(parameters: Iterable[Any]) -> None:
    """Translate by these parameters of a command (typer's) from here on."""
    _OPTIONS.clear()
    for parameter in parameters:
        if parameter.param_type_name == "option":
            _OPTIONS[parameter.name] = max(parameter.opts, key=len)


def has(field: str) -> bool:
    """Whether the running command has an option of that name."""
    return field in _OPTIONS


def translated(message: str) -> str:
    """`message` with "`keep_rows`" as "--keep-rows" where the running command has that option, else as "keep_rows"."""
    return re.sub("`([^`]*)`", lambda found: _OPTIONS.get(found[1], found[1]), message)
