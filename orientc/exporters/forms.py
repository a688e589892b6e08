"""The forms a model can be exported in, and the head policies of a tied one, by name. Imports no torch."""

from __future__ import annotations

from orientc.storage.sizes import INPUT_ONLY, TIED

FORMS = COMPACT, DENSE, ONNX, GGUF = "compact", "dense", "onnx", "gguf"
HEADS = (TIED, INPUT_ONLY)
