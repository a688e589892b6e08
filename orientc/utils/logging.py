"""Silence transformers, and packages it loads: what the user needs to know, orientc says."""

from __future__ import annotations

import contextlib
import logging as python_logging
from collections.abc import Iterator

from transformers.utils import logging

# what they say while they are imported, of kernels that are not there, and while a model is made; not errors
_OTHERS = ("torchao", "bitsandbytes", "compressed_tensors", "torch.utils._pytree")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Within the context (or the function it decorates) transformers shows no bars and no notices."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    others = [python_logging.getLogger(name) for name in _OTHERS]
    levels = [other.level for other in others]
    for other in others:
        other.setLevel(python_logging.ERROR)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        for other, level in zip(others, levels, strict=True):
            other.setLevel(level)
        if bars:
            logging.enable_progress_bar()
