"""Words on screen, and whether they are explained there."""

from __future__ import annotations

import re

from orientc.utils.words import WORDS


def unexplained(screen: str) -> list[str]:
    """The words on a screen that may not be known, and that no line of it explains."""
    lines = [line.strip().partition(": ") for line in screen.splitlines()]
    told = {name for name, _, meaning in lines if name in WORDS and meaning == WORDS[name].meaning}
    shown = " ".join("".join(line) for line in lines if line[0] not in told)
    names = [name for name, word in WORDS.items() if not word.familiar and name not in told]
    return [name for name in names if re.search(rf"(?:^|[\s(,|]){name}(?:$|[\s),|;])", shown)]
