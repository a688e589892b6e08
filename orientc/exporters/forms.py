"""What a model can be exported as, by name: forms, head policies of a tied one, bodies. Imports no torch."""

from __future__ import annotations

from orientc.storage.sizes import BOTH, HEAD_ONLY, INPUT_ONLY, TIED

FORMS = COMPACT, DENSE, ONNX, GGUF = "compact", "dense", "onnx", "gguf"
HEADS = (TIED, INPUT_ONLY, BOTH, HEAD_ONLY)
BODIES = NONE, INT8, INT4 = "none", "int8", "int4"  # what the weights of linear layers are quantized to
