"""Checkpoints whose body is quantized: what their configuration says of it, and what becomes of it on loading.

A body either stays as it is stored, in modules of the package that quantized it, or is dequantized: every GGUF file,
and those formats that transformers dequantizes or not by the devices and packages there are.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from orientc.errors import ModelError
from orientc.utils.messages import first_line

DEQUANTIZED = ("fp8", "mxfp8", "mxfp4")  # always, so that no figure depends on the machine
PACKAGES = {  # by method: what its modules come from, as pip knows it
    "bitsandbytes": ("bitsandbytes",),
    "torchao": ("torchao",),
    "compressed-tensors": ("compressed-tensors",),
    "gptq": ("optimum", "gptqmodel"),
    "awq": ("gptqmodel",),
    "hqq": ("hqq",),
    "quanto": ("optimum-quanto",),
    "auto-round": ("auto-round",),
    "aqlm": ("aqlm",),
    "vptq": ("vptq",),
    "eetq": ("eetq",),
    "spqr": ("spqr-quant",),
}
_IMPORTED = {
    "optimum-quanto": "optimum.quanto",
    "spqr-quant": "spqr_quant",
}  # under another name than "-" for "_" gives
_FLOATS = ("F64", "F32", "F16", "BF16")  # types of a GGUF file's tensors that are not quantized
_PLAIN = ("torch", "transformers", "orientc")  # packages whose modules hold floats that are no scales of codes


def method_of(config: PreTrainedConfig) -> str | None:
    """The name of the method that a checkpoint's body was quantized with; None where it says of none."""
    return next((_method(values) for _, values in _entries(config)), None)


def missing(method: str) -> tuple[str, ...]:
    """The packages that a method's modules come from and that are not installed, as pip knows them."""
    return tuple(package for package in PACKAGES.get(method, ()) if not _installed(package))


def check(id: str, config: PreTrainedConfig) -> None:
    """Raise `ModelError` for a method that can't be run.

    That is one that transformers does not know, which it would pass over, and take the codes for weights; or one whose
    package is not installed.
    """
    if (method := method_of(config)) is None:
        return
    if not {method, f"{method}_4bit", f"{method}_8bit"} & {*AUTO_QUANTIZATION_CONFIG_MAPPING}:
        raise ModelError(f"{id} is quantized ({method}), in a way that this version of transformers does not know")
    if lacking := missing(method):
        raise ModelError(
            f"{id}, which is quantized ({method}), can't be loaded: it needs {' and '.join(lacking)}: "
            f"pip install {' '.join(lacking)}"
        )


def check_all_used(id: str, model: PreTrainedModel, unexpected: Iterable[str]) -> None:
    """Raise `ModelError` where a model of codes has modules that use some of their tensors and not others.

    Args:
        id: The model argument.
        model: The model as it was loaded.
        unexpected: Keys of the checkpoint that it has no place for; those of whole modules that it lacks are no error.
    """
    modules = dict(model.named_modules())
    for key in sorted(unexpected):
        parts = key.split(".")
        prefixes = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
        holder = modules.get(next((prefix for prefix in prefixes if prefix in modules), ""))
        if holder is not None and next(holder.parameters(recurse=False), None) is not None:
            raise ModelError(f"{id} is quantized in a way that can't be loaded: {key} in its weights would be left out")


def unify(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give the floats that are no part of the codes the type that was asked for: transformers casts only some."""
    logging.getLogger("bitsandbytes.autograd").setLevel(logging.ERROR)  # a line for each product in another type
    kept = {*(model._keep_in_fp32_modules or ()), *(getattr(model, "_keep_in_fp32_modules_strict", None) or ())}
    for name, module in model.named_modules():
        if type(module).__module__.partition(".")[0] not in _PLAIN or hasattr(module, "quantization_scheme"):
            continue
        own = list(module.parameters(recurse=False))
        if any(type(parameter.data) is not Tensor for parameter in own) or {*name.split(".")} & kept:
            continue
        for parameter in own:
            if parameter.is_floating_point() and parameter.element_size() > 1:
                parameter.data = parameter.data.to(dtype)


@contextlib.contextmanager
def token_by_token(model: nn.Module) -> Iterator[None]:
    """Within it what a model computes of a token depends on no token that it does not see.

    LLM.int8 of bitsandbytes looks for outliers in all tokens of a batch at once, and computes their columns in floats.
    """
    states: list[Any] = [module.state for module in model.modules() if type(module).__name__ == "Linear8bitLt"]
    before = [state.threshold for state in states]
    try:
        for state in states:
            state.threshold = 0.0
        yield
    finally:
        for state, threshold in zip(states, before, strict=True):
            state.threshold = threshold


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


def _installed(package: str) -> bool:
    name = _IMPORTED.get(package, package.replace("-", "_"))
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of what it would be a part of
        return False


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
