"""How an export stores a model's body, which is all but the table and heads: as floats, or in 8 or 4 bits.

Bodies are quantized by packages that transformers knows, with their own modules, while the model is loaded: to int8 by
torchao, a scale for each row of a weight; to four bits by bitsandbytes (NF4: 64 numbers share a scale, which is stored
in 8 bits). torchao has nothing in four bits that runs on a CPU and can be saved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from orientc.errors import ExportError, ModelError, UsageError
from orientc.exporters import sentence_transformers
from orientc.exporters.forms import BODIES, COMPACT, DENSE, INT4, INT8, NONE, ONNX
from orientc.modeling.modules import CompressedTable, table_of
from orientc.modeling.swap import users_of
from orientc.modeling.table_names import INPUT
from orientc.models import quantized
from orientc.models.source import ModelSource
from orientc.utils.files import copy_files
from orientc.utils.logging import quietly

METHODS = {INT8: "torchao", INT4: "bitsandbytes"}  # of `quantized.PACKAGES`
SAVED = {"bitsandbytes", "torchao", "compressed-tensors"}  # methods whose bodies are written as they were loaded
_GROUP, _GROUPS = 64, 256  # of NF4: numbers that share a scale, and scales that share one
_EACH = 1400  # bytes of NF4's own tables for each weight
_LAYERS = {INT8: (torch.nn.Linear,), INT4: (torch.nn.Linear, Conv1D)}  # what the packages quantize


def method(body: str, form: str) -> str | None:
    """What quantizes a body of a form; None for one that is left as it is."""
    if body == NONE:
        return None
    return "onnxruntime" if form == ONNX else METHODS[body]


def check_request(body: str, form: str) -> None:
    """Raise `UsageError` for a body there is not, `ExportError` where its package is not installed."""
    if body not in BODIES:
        raise UsageError(f"`body` must be one of {', '.join(BODIES)}, not {body!r}")
    if body == NONE or form == ONNX:  # a graph's is quantized by the packages that write it
        return
    if lacking := quantized.missing(METHODS[body]):
        raise ExportError(f"a body in {body} needs {lacking[0]}: pip install 'orientc[body]'")


def check(source: ModelSource, form: str, body: str, *, artifact: bool) -> None:
    """Raise `ExportError`, before all weights are read, for a body that a form can't have.

    Args:
        source: The model.
        form: The form.
        body: What the body is to be quantized to as it is loaded.
        artifact: Whether the model's own table is dense, and an artifact is put in.
    """
    kept = source.kept_quantized
    if body != NONE and (stored := kept or source.dequantized_from):
        raise ExportError(f"{source.id} has a body that is quantized ({stored}) already: export it without `body`")
    if form == COMPACT or (kept is None and body == NONE):
        return
    if form == DENSE and not artifact:
        raise ExportError(
            f"{source.id} is in the compact form: with a quantized body it can be written dense from the artifact alone"
        )
    if kept is not None and (form == ONNX or kept not in SAVED):
        forms = "the compact and the dense form keep" if kept in SAVED else "only the compact form keeps"
        raise ExportError(f"{source.id} has a body that is quantized ({kept}), which {forms}: export it in another one")


def quantization(source: ModelSource, body: str) -> Any | None:
    """The configuration that `ModelSource.load` quantizes a model's body by; None where it is left as it is."""
    if body == NONE:
        return None
    if body == INT8:
        with quietly():
            from torchao.quantization import Int8WeightOnlyConfig

        return transformers.TorchAoConfig(Int8WeightOnlyConfig(set_inductor_config=False))
    left = [*get_keys_to_not_convert(source.outline), *(name for name, _ in _narrow(source.outline))]
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, llm_int8_skip_modules=left
    )


def check_quantized(id: str, model: PreTrainedModel, body: str) -> None:
    """Raise `ExportError` where nothing of a model that was loaded with `quantization` was quantized.

    torchao knows `nn.Linear` alone: GPT-2's projections are modules of another kind. NF4 wants rows of whole groups.
    """
    if body != NONE and not any(_is_quantized(parameter) for parameter in model.parameters()):
        raise nothing_quantized(id, METHODS[body], body)


def nothing_quantized(id: str, package: str, body: str) -> ExportError:
    """What to raise for a model of whose body a package quantized nothing."""
    return ExportError(f"{id} has no linear layers that {package} can quantize to {body}: export it without `body`")


def write(source: ModelSource, folder: Path, body: str, dtype: str) -> None:
    """Write a model with its table as it is and its body quantized, for what that costs alone.

    Args:
        source: The model.
        folder: The folder, which is made.
        body: What the body is quantized to.
        dtype: Type of all other weights.
    """
    model = source.load(None, dtype=getattr(torch, dtype), quantization=quantization(source, body))
    check_quantized(source.id, model, body)
    with quietly():
        model.save_pretrained(folder, save_original_format=False)
        source.tokenizer.save_pretrained(folder)
    copy_files(sentence_transformers.files_of(source), folder)


def stored_bytes(model: PreTrainedModel, body: str, itemsize: int, tables: Collection[str] = (INPUT,)) -> int:
    """Bytes that a body takes in a file, by an outline of its model.

    Args:
        model: The model, without numbers.
        body: What the body is quantized to.
        itemsize: Bytes of a number that stays a float.
        tables: Names of the tables that are no part of it.
    """
    users = (user for name in tables for user in users_of(model, name).values())
    table = {id(parameter) for user in users for parameter in _own_parameters(user)}
    left = [*get_keys_to_not_convert(model), *(model._keep_in_fp32_modules or ())]
    left += [name for name, _ in _narrow(model)] if body == INT4 else []
    coded, total = dict[int, int](), 0
    for name, module in model.named_modules():
        if body != NONE and isinstance(module, _LAYERS[body]) and should_convert_module(name, left):
            numbers, rows = module.weight.numel(), len(module.weight)
            groups = numbers / _GROUP
            nf4 = numbers / 2 + groups + 4 * groups / _GROUPS + _EACH
            coded[id(module.weight)] = numbers + 5 * rows if body == INT8 else int(nf4)
    for parameter in model.parameters():
        if id(parameter) not in table:
            total += coded.get(id(parameter), parameter.numel() * itemsize)
    return total


def check_loads(folder: Path, dtype: torch.dtype) -> None:
    """Raise `ExportError` where a folder with a quantized body does not load with all that is in it."""
    try:
        ModelSource.resolve(folder).load(None, dtype=dtype)
    except ModelError as error:
        raise ExportError(f"what was written can't be loaded again: {error}") from error


def _narrow(model: PreTrainedModel) -> Iterator[tuple[str, torch.nn.Module]]:
    """Linear layers with rows that are not of whole groups of NF4: bitsandbytes quantizes but can't run them."""
    for name, module in model.named_modules():
        if isinstance(module, _LAYERS[INT4]):
            width = module.nx if isinstance(module, Conv1D) else module.in_features
            if width % _GROUP:
                yield name, module


def _is_quantized(parameter: torch.nn.Parameter) -> bool:
    """Whether a parameter is a package's own kind of tensor."""
    kinds = (type(parameter), type(parameter.data))
    return any(kind.__module__.partition(".")[0] in ("torchao", "bitsandbytes") for kind in kinds)


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are the table in a module that uses it; a head's bias is none of them."""
    if not isinstance(module, CompressedTable):
        return [table_of(module)]
    return [tensor for name in module.tensor_names if isinstance(tensor := getattr(module, name), nn.Parameter)]
