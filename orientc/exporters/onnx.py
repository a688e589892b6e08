"""The ONNX form: a graph that runs from the factors, checked against torch before it is handed out.

The graph lies in `onnx/`, under each name that clients look for: `model.onnx` (ONNX Runtime's tools, transformers.js in
node), `model_quantized.onnx` (transformers.js in browsers), and the one that says what it is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import math
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orientc.errors import ExportError
from orientc.exporters.bodies import nothing_quantized
from orientc.exporters.forms import INT4, INT8, NONE
from orientc.exporters.onnx_cache import empty
from orientc.exporters.onnx_graph import Examples, Graph, translated
from orientc.exporters.onnx_head import heads
from orientc.exporters.onnx_weights import (
    BITS,
    FLOATS,
    as_products,
    in_columns,
    in_few_bits,
    narrowed,
    outside_body,
    product,
)
from orientc.models import compact
from orientc.utils.logging import quietly
from orientc.utils.messages import first_line
from orientc.utils.progress import Progress

if TYPE_CHECKING:
    from onnxscript import ir

FOLDER = "onnx"
FILE, BROWSERS = "model.onnx", "model_quantized.onnx"
NAMES = {  # by body and type of the weights, as Optimum and transformers.js have them
    (NONE, "float32"): FILE,
    (NONE, "float16"): "model_fp16.onnx",
    (INT8, "float32"): BROWSERS,
    (INT8, "float16"): BROWSERS,
    (INT4, "float32"): "model_q4.onnx",
    (INT4, "float16"): "model_q4f16.onnx",
}
DTYPES = ("float32", "float16")
DATA = "_data"  # the end of a second file's name, with the weights of a model that is too large for one
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


def files(body: str = NONE, dtype: str = "float32") -> list[str]:
    """Names of the files that hold the graph, the first of which says most."""
    return [*dict.fromkeys((NAMES[body, dtype], FILE, BROWSERS))]


def nbytes(folder: Path) -> int:
    """What a graph in a folder weighs, its other names not counted; 0 where there is none."""
    return sum(path.stat().st_size for path in (folder / FOLDER).glob(FILE + "*"))


@torch.no_grad()
def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    body: str = NONE,
    dtype: str = "float32",
    progress: Progress | None = None,
) -> None:
    """Write a float32 model in evaluation mode into `folder`, as a graph with the architecture's plain configuration.

    Inputs are `input_ids`, `attention_mask` and `token_type_ids` as far as the model takes and the tokenizer gives
    them, `[batch_size, sequence_length]`; outputs are the model's own tensors under their names. A model that generates
    text also takes `position_ids` and the keys and values of all tokens so far, and gives them; see `onnx_cache`.

    Args:
        model: The model. It computes in float32, whatever its weights are stored as.
        tokenizer: Its tokenizer.
        folder: Where the graph's folder and the configuration are written.
        body: How all but the token table and the output projection are stored: "none", "int8" or "int4".
        dtype: What floats are stored as: "float32", or "float16" where all the model's numbers are of that type.
        progress: Told of a model that generates text without a cache.

    Raises:
        ExportError: torch can't make a graph of this model, or its outputs, before the body is quantized, differ from
            the model's by more than `TOLERANCE`, and by more than that part of the largest of them; or the body has
            nothing that can be quantized.
    """
    check(model)
    kind = type(model).__name__
    (folder / FOLDER).mkdir()
    with _silence(), tempfile.TemporaryDirectory(dir=folder) as scratch:
        graph = _graph_of(model, tokenizer)
        paths = [folder / FOLDER / name for name in files(body, dtype)]
        written: dict[bool, Path] = {}
        held = heads(model) or product(model, body, codes=True) != product(model, body, codes=False)
        for path in paths:
            codes = bool(held) and path.name != BROWSERS
            if codes in written:
                _repeat(written[codes], path)
                continue
            written[codes] = path
            _save_one(graph, path, body, dtype, codes=codes, scratch=Path(scratch))
    if progress and model.can_generate() and not graph.examples.cache:
        progress.warn(f"{kind} keeps no keys and values that a graph could take: it is run anew for each token")
    _write_configuration(model, folder, dtype, large=paths[0].with_name(paths[0].name + DATA).exists())


def _graph_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Graph:
    with _refused(model, "can't be made a graph"):
        return Graph(model, Examples.of(model, tokenizer))


def _save_one(graph: Graph, path: Path, body: str, dtype: str, *, codes: bool, scratch: Path) -> None:
    """Write a graph into one file; it multiplies codes as they are, or a runtime makes them floats as it starts."""
    kind = type(graph.model).__name__
    plain = path if body == NONE else scratch / path.name
    with _refused(graph.model, "can't be made a graph"):
        made = translated(graph, head=codes)
        outside = outside_body(graph, made)
        narrow = None if dtype == "float16" else outside
        if body == NONE:
            narrowed(made, narrow)
        else:
            as_products(made, outside)
        _write(made, plain)
        difference = _difference(graph, plain)
    if difference > TOLERANCE:
        raise ExportError(
            f"the graph of {kind} does not compute what {kind} does: it is {difference:.1e} off, "
            f"{TOLERANCE:g} is allowed"
        )
    if body != NONE:
        _quantize(graph, plain, path, body, outside, narrow, codes=codes)


@contextlib.contextmanager
def _refused(model: PreTrainedModel, what: str) -> Iterator[None]:
    """Within it what fails is an `ExportError`, but for the disk's failures.

    An architecture can be beyond exporters and quantizers in as many ways as it has operators.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # the exporter's own first line says only at which step it failed
        raise ExportError(f"{type(model).__name__} {what}: {first_line(error.__cause__ or error)}") from error


def _quantize(
    graph: Graph,
    plain: Path,
    target: Path,
    body: str,
    outside: set[str],
    narrow: Collection[str] | None,
    *,
    codes: bool,
) -> None:
    """Quantize the body of a graph, narrow what floats are left, and see that it runs.

    In that order: quantizers look for matrices that are stored as they are multiplied, and a graph widens narrow ones.
    """
    kind, few = type(graph.model).__name__, plain.with_name(f"few_{plain.name}")
    operator = product(graph.model, body, codes=codes)
    with _refused(graph.model, f"can't have its body in {body}"):
        if operator == FLOATS:
            made = _read(plain)
            count = in_columns(made, outside)
        else:
            count = in_few_bits(plain, few, operator, BITS[body], outside)
            made = _read(few)
    if not count:
        raise nothing_quantized(kind, "ONNX Runtime", body)
    with _refused(graph.model, f"can't have its body in {body}"):
        narrowed(made, narrow)
        _write(made, target)
        sound = math.isfinite(_difference(graph, target))
    if not sound:
        raise ExportError(f"{kind} computes no numbers any more with its body in {body}")


def _read(path: Path) -> ir.Model:
    from onnxscript import ir

    return ir.external_data.load_to_model(ir.load(path))


def _write(model: ir.Model, path: Path) -> None:
    from onnxscript import ir

    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    large = sum(tensor.nbytes for tensor in tensors if tensor is not None) > LIMIT
    ir.save(model, path, external_data=path.name + DATA if large else None)


def _repeat(path: Path, other: Path) -> None:
    """Give a graph a second name: no second copy where the disk can do without."""
    data = path.with_name(path.name + DATA)
    if not data.exists():
        _link(path, other)
        return
    import onnx

    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = other.name + DATA
    onnx.save(model, other)
    _link(data, other.with_name(other.name + DATA))


def _link(path: Path, other: Path) -> None:
    try:
        other.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, other)


def _difference(graph: Graph, path: Path) -> float:
    """How far any output of the file is from the model's, padding left out; see `_distance`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for shape in CHECKED:
        batch = graph.examples.batch(*shape)
        expected, mask = graph.plain(batch), batch.get("attention_mask")
        for start, end, found in _found(session, graph, batch):
            for name, actual in zip(graph.own, found, strict=False):
                wanted = expected[name]
                if wanted.shape[:2] == batch["input_ids"].shape:
                    wanted = wanted[:, start:end]
                worst = max(worst, _distance(wanted, actual, None if mask is None else mask[:, start:end]))
    return worst


def _found(session: Any, graph: Graph, batch: dict[str, Tensor]) -> Iterator[tuple[int, int, list[Tensor]]]:
    """What a session gives for the tokens from one place to another; all at once, or, with a cache, piece by piece."""
    size, length = batch["input_ids"].shape
    cache = empty(graph.examples.cache, size)
    ends = sorted({*(max(1, length - back) for back in (3, 1)), length}) if cache else [length]
    for start, end in pairwise((0, *ends)):
        given = (*graph.examples.part(batch, start, end).values(), *cache)
        named = {name: value.numpy() for name, value in zip(graph.inputs, given, strict=True)}
        found = [torch.from_numpy(value) for value in session.run(list(graph.outputs), named)]
        cache = found[len(graph.own) :]
        yield start, end, found


def _distance(expected: Tensor, actual: Tensor, mask: Tensor | None) -> float:
    """The largest difference, as a part of the largest expected number where that is above 1; infinite for NaN.

    Of outputs `[batch, length, …]` where the mask `[batch, length]` is not 0.
    """
    if expected.shape != actual.shape:
        return float("inf")
    if mask is not None and expected.shape[:2] == mask.shape:
        expected, actual = expected[mask != 0], actual[mask != 0]
    if not expected.numel():
        return 0.0
    largest = (expected - actual).abs().max() / expected.abs().max().clamp(min=1)
    return float(largest.nan_to_num(nan=torch.inf))


def _write_configuration(model: PreTrainedModel, folder: Path, dtype: str, *, large: bool) -> None:
    """The architecture's own, for runtimes that read ids and labels there; no code belongs to a graph."""
    config = compact.plain_config(model)
    config.architectures, config.dtype = [type(model).__name__], dtype
    if large:
        setattr(config, "transformers.js_config", {"use_external_data_format": True})
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
