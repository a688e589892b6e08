"""Callbacks for the progress of long work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Callbacks for progress; each does nothing unless given.

    Attributes:
        stage: Called with a name and a number of steps when a stage begins.
        advance: Called with the number of steps done since the last call.
        warn: Called with a message for the user.
        status: Called with a text that says how good a stage's result is so far.
        done: Called with a line when one of many parts of the work is done.
    """

    stage: Callable[[str, int], None] = lambda _name, _total: None
    advance: Callable[[int], None] = lambda _count: None
    warn: Callable[[str], None] = lambda _message: None
    status: Callable[[str], None] = lambda _text: None
    done: Callable[[str], None] = lambda _line: None
