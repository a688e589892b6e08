"""Words on screen, and whether they are explained there."""

from __future__ import annotations

import re

from orientc.utils.words import WORDS


def unexplained(screen: str) -> list[str]:
    """The words on a screen that may not be known, and that no line of it explains."""
    told = {name for line in screen.splitlines() if (name := _explained_by(line))}
    shown = " ".join(facts(screen))
    names = [name for name, word in WORDS.items() if not word.familiar and name not in told]
    return [name for name in names if re.search(rf"(?:^|[\s(,|]){name}(?:$|[\s),|;])", shown)]


def facts(screen: str) -> list[str]:
    """The lines of a screen but for those that explain a word."""
    return [line for line in screen.splitlines() if not _explained_by(line)]


def _explained_by(line: str) -> str | None:
    """The word that a line explains, if it does nothing else."""
    name, _, meaning = line.strip().partition(": ")
    return name if name in WORDS and meaning == WORDS[name].meaning else None
