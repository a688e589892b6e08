"""The packaged demo model, a small masked language model, and its texts as plain strings."""

from __future__ import annotations

from pathlib import Path

from orientc.demo.corpus import DIGEST_BYTES, calibration_paragraphs, evaluation_paragraphs

NAME = "demo"  # as a model argument, whatever lies around
FOLDER = Path(__file__).parent / "model"


def evaluation_text() -> str:
    """Text for evaluation: Python's language reference, a paragraph per line, none that the model was trained on."""
    packed = (FOLDER / "seen.bin").read_bytes()
    seen = frozenset(packed[at : at + DIGEST_BYTES] for at in range(0, len(packed), DIGEST_BYTES))
    return "\n".join(evaluation_paragraphs(seen))


def calibration_text() -> str:
    """Text for calibration: docstrings of the standard library, a paragraph per line, without any of evaluation's."""
    return "\n".join(calibration_paragraphs())
