"""Versions of the software that figures depend on, for records and histories."""

from __future__ import annotations

import platform
from importlib.metadata import version

from orientc._version import __version__


def versions() -> dict[str, str]:
    """Versions of orientc, Python, torch and transformers; imports neither torch nor transformers."""
    return {
        "orientc": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
