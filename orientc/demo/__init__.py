"""The packaged demo model: a small masked language model of our own, and the texts that go with it."""

from __future__ import annotations

from pathlib import Path

from orientc.demo.corpus import DIGEST_BYTES, calibration_paragraphs, evaluation_paragraphs

FOLDER = Path(__file__).parent / "model"


def evaluation_text() -> str:
    """Python's language reference, one paragraph a line, without paragraphs the model was trained on."""
    packed = (FOLDER / "seen.bin").read_bytes()
    seen = frozenset(packed[at : at + DIGEST_BYTES] for at in range(0, len(packed), DIGEST_BYTES))
    return "\n".join(evaluation_paragraphs(seen))


def calibration_text() -> str:
    """Docstrings of Python's standard library, one paragraph a line; nothing of what the model is scored on."""
    return "\n".join(calibration_paragraphs())
