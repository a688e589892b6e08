"""A text to shrink models on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support.data import SENTENCES

WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines long enough to be scored, none of them twice."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "village.txt"
    path.write_text("\n".join(" ".join(draw.choices(WORDS, k=24)) for _ in range(240)))
    return path
