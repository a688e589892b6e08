"""The ONNX form: the graph that runs from the factors, checked against torch before it is handed out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orientc.errors import ExportError

FILE = "model.onnx"


def require() -> None:
    """Raise `ExportError` where the packages of the extra are missing."""
    if not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        raise ExportError("the onnx form needs the extra: pip install 'orientc[onnx]'")


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write `model.onnx` and the configuration into `folder`."""
    raise NotImplementedError
