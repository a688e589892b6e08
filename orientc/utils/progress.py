"""Whom an evaluation tells how it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """`stage(name, steps)` begins a stage, `advance(steps)` goes on with it, `warn(message)` is for the user to read.

    `status(text)` says how good a stage's result is so far. All of them do nothing unless given.
    """

    stage: Callable[[str, int], None] = lambda _name, _total: None
    advance: Callable[[int], None] = lambda _count: None
    warn: Callable[[str], None] = lambda _message: None
    status: Callable[[str], None] = lambda _text: None
