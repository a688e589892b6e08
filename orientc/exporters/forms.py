"""The forms a model can be exported in, those of its body, and the head policies of a tied one, by name.

Imports no torch.
"""

from __future__ import annotations

from orientc.storage.sizes import INPUT_ONLY, TIED

FORMS = COMPACT, DENSE, ONNX = "compact", "dense", "onnx"
BODIES = NONE, INT8, INT4 = "none", "int8", "int4"
HEADS = (TIED, INPUT_ONLY)
