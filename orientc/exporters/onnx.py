"""The ONNX form: a graph that runs from the factors, checked against torch before it is handed out."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orientc.errors import ExportError
from orientc.exporters.onnx_graph import Examples, Graph, translated
from orientc.models import compact
from orientc.utils.logging import quietly
from orientc.utils.messages import first_line

if TYPE_CHECKING:
    from onnxscript import ir

FILE = "model.onnx"
EXTERNAL = "model.onnx_data"  # the weights of a model that is too large for one file
LIMIT = 2_000_000_000  # bytes of weights; the format allows a file 2 GiB, the graph included
TOLERANCE = 1e-4
CHECKED = ((3, 12), (2, 33), (1, 1))  # batches and lengths that the graph is checked on


def require() -> None:
    """Raise `ExportError` where the packages of the extra are missing."""
    if not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        raise ExportError("the onnx form needs the extra: pip install 'orientc[onnx]'")


def check(model: PreTrainedModel) -> None:
    """Raise `ExportError` for a kind of model that has no ONNX form; a model without numbers will do."""
    if model.config.is_encoder_decoder:
        raise ExportError(
            f"{type(model).__name__} has an encoder and a decoder, which are not one graph: "
            "export it in the compact or the dense form"
        )


@torch.no_grad()
def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a float32 model in evaluation mode into `folder`, as a graph with the architecture's plain configuration.

    Inputs are `input_ids`, `attention_mask` and `token_type_ids` as far as the model takes and the tokenizer gives
    them, `[batch_size, sequence_length]`; outputs are the model's own tensors under their names. Nothing is cached
    between calls. Raises `ExportError` where torch can't make a graph of this model, and where the graph's outputs
    differ from the model's by more than `TOLERANCE`, or by more than that part of the largest of them.
    """
    check(model)
    name, path = type(model).__name__, folder / FILE
    with _silence():
        try:
            examples = Examples.of(model, tokenizer)
            graph = Graph(model, examples)
            _write(translated(graph, examples), path)
            difference = _difference(graph, examples, path)
        except OSError:  # the disk's
            raise
        except Exception as error:  # an architecture can be beyond the exporter in as many ways as it has operators
            # the exporter's own first line says only at which step it failed
            raise ExportError(f"{name} can't be made a graph: {first_line(error.__cause__ or error)}") from error
    if difference > TOLERANCE:
        raise ExportError(
            f"the graph of {name} does not compute what {name} does: it is {difference:.1e} off, "
            f"{TOLERANCE:g} is allowed"
        )
    _write_configuration(model, folder)


def _write(model: ir.Model, path: Path) -> None:
    from onnxscript import ir

    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    large = sum(tensor.nbytes for tensor in tensors if tensor is not None) > LIMIT
    ir.save(model, path, external_data=EXTERNAL if large else None)


def _difference(graph: Graph, examples: Examples, path: Path) -> float:
    """How far any output of the file is from the model's, padding left out; see `_distance`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for shape in CHECKED:
        batch = examples.batch(*shape)
        found = session.run(list(graph.outputs), {name: value.numpy() for name, value in batch.items()})
        for expected, actual in zip(graph(*batch.values()), map(torch.from_numpy, found), strict=True):
            worst = max(worst, _distance(expected, actual, batch.get("attention_mask")))
    return worst


def _distance(expected: Tensor, actual: Tensor, mask: Tensor | None) -> float:
    """The largest difference, as a part of the largest expected number where that is above 1; infinite for NaN.

    Of outputs `[batch, length, …]` where the mask `[batch, length]` is not 0.
    """
    if expected.shape != actual.shape:
        return float("inf")
    if mask is not None and expected.shape[:2] == mask.shape:
        expected, actual = expected[mask != 0], actual[mask != 0]
    largest = (expected - actual).abs().max() / expected.abs().max().clamp(min=1)
    return float(largest.nan_to_num(nan=torch.inf))


def _write_configuration(model: PreTrainedModel, folder: Path) -> None:
    """The architecture's own, for runtimes that read ids and labels there; no code belongs to a graph."""
    config = compact.plain_config(model)
    config.architectures, config.dtype = [type(model).__name__], "float32"
    with quietly():
        config.save_pretrained(folder)
        if model.can_generate():
            model.generation_config.save_pretrained(folder)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Within it nothing reaches the terminal: the exporter logs, warns, and prints whole programs when it fails."""
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(disabled)
