"""Checkpoints whose body is quantized: what their configuration says of it, and what becomes of it on loading.

A body either stays as it is stored, in modules of the package that quantized it, or is dequantized: every GGUF file,
and those formats that transformers dequantizes or not by the devices and packages there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from orientc.errors import ModelError
from orientc.utils.messages import first_line

DEQUANTIZED = ("fp8", "mxfp8", "mxfp4")  # always, so that no figure depends on the machine
_FLOATS = ("F64", "F32", "F16", "BF16")  # types of a GGUF file's tensors that are not quantized


def method_of(config: PreTrainedConfig) -> str | None:
    """The name of the method that a checkpoint's body was quantized with; None where it says of none."""
    return next((_method(values) for _, values in _entries(config)), None)


def check(id: str, config: PreTrainedConfig) -> None:
    """Raise `ModelError` for a method that transformers does not know: it would take the codes for weights."""
    method = method_of(config)
    known = method is None or {method, f"{method}_4bit", f"{method}_8bit"} & {*AUTO_QUANTIZATION_CONFIG_MAPPING}
    if not known:
        raise ModelError(f"{id} is quantized ({method}), in a way that this version of transformers does not know")


def dequantize(config: PreTrainedConfig) -> None:
    """Have a body of one of the methods in `DEQUANTIZED` dequantized on loading; the configuration is changed."""
    for part, values in _entries(config):
        if _method(values) in DEQUANTIZED:
            part.quantization_config = {**values, "dequantize": True}


def gguf_types(path: Path) -> str | None:
    """The types of quantized tensors in a GGUF file, the one with most of them first; None where all are floats."""
    import gguf

    try:
        kinds = Counter(tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors)
    except (ValueError, IndexError, OSError, NotImplementedError) as error:
        raise ModelError(f"{path} is not a GGUF file that can be read: {first_line(error)}") from error
    found = [kind for kind, _ in kinds.most_common() if kind not in _FLOATS]
    return ", ".join(found) or None


def _entries(config: PreTrainedConfig) -> Iterator[tuple[PreTrainedConfig, dict[str, Any]]]:
    """The parts of a configuration that say how the body is quantized, and what they say."""
    parts = {id(part): part for part in (config, config.get_text_config(decoder=True))}
    for part in parts.values():
        values = getattr(part, "quantization_config", None)
        if values is not None:
            yield part, values if isinstance(values, dict) else {}


def _method(values: dict[str, Any]) -> str:
    if values.get("load_in_8bit") or values.get("load_in_4bit"):
        return "bitsandbytes"
    return str(values.get("quant_method") or "it is not said how")
