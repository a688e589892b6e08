"""The ONNX form: the graph that runs from the factors, checked against torch before it is handed out."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orientc.errors import ExportError
from orientc.models import compact
from orientc.models.source import usable_positions
from orientc.utils.logging import quietly
from orientc.utils.messages import first_line

if TYPE_CHECKING:
    from onnxscript import ir

FILE = "model.onnx"
EXTERNAL = "model.onnx_data"  # the weights of a model that is too large for one file
LIMIT = 2_000_000_000  # bytes of weights; the format allows a file 2 GiB, the graph included
OPSET = 18  # what torch translates to; for any later one it converts, and older runtimes can't read it
FOLDED = 64  # numbers; what is computed from larger constants stays computed, or a table would be back as a constant
TOLERANCE = 1e-4
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
AXES = {0: "batch_size", 1: "sequence_length"}
TRACED = (2, 7)  # batch and length of the example the graph is made from
CHECKED = ((3, 12), (2, 33), (1, 1))  # and of those that it is checked on
TEXT = (  # tokens drawn at random can take a model to where float32 itself is that uncertain
    "The quick brown fox jumps over the lazy dog, while everybody else in the village is still asleep. "
    "Paris is the capital of France, and its largest city. In 1969 two men walked on the Moon."
)


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

    Inputs are those of `INPUTS` that the model takes and the tokenizer gives, `[batch_size, sequence_length]`; outputs
    are the model's own tensors under their names. Nothing is cached between calls. Raises `ExportError` where torch
    can't make a graph of this model, and where the graph's outputs differ from the model's by more than `TOLERANCE`,
    or by more than that part of the largest of them.
    """
    check(model)
    name, path = type(model).__name__, folder / FILE
    with _silence():
        try:
            examples = _Examples.of(model, tokenizer)
            graph = _Graph(model, examples)
            _write(_translated(graph, examples), path)
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


@dataclass(frozen=True)
class _Examples:
    """Inputs of a model, by the names in `inputs`: pieces of a text, `text`, as token ids.

    `longest` is the model's limit, `padding` the id of the padding token, `types` the number of token types.
    """

    inputs: tuple[str, ...]
    text: Tensor
    longest: int | None
    padding: int
    types: int

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> _Examples:
        """Token types are fed only where the tokenizer tells them apart and the model has rows for them."""
        config, vocab = model.config, model.get_input_embeddings().num_embeddings
        types = getattr(config, "type_vocab_size", 2)
        taken = _parameters(model)
        if not types or "token_type_ids" not in tokenizer.model_input_names:
            taken -= {"token_type_ids"}
        return cls(
            inputs=tuple(name for name in INPUTS if name in taken),
            text=torch.tensor(tokenizer(TEXT)["input_ids"]) % vocab,
            longest=usable_positions(model),
            padding=(getattr(config, "pad_token_id", None) or 0) % vocab,
            types=min(2, types),
        )

    def batch(self, size: int, length: int) -> dict[str, Tensor]:
        """Tensors `[size, length]`, shorter where the model has no positions for so many.

        The first row is padded at its end, the second at its start.
        """
        length = min(length, self.longest or length)
        starts, places = torch.arange(size).unsqueeze(-1) * length, torch.arange(length).expand(size, length)
        mask, padding = torch.ones(size, length, dtype=torch.long), length // 3
        mask[:1, length - padding :] = 0
        mask[1:2, :padding] = 0
        ids = self.text[(starts + places) % len(self.text)].where(mask == 1, self.padding)
        types = (places >= length // 2).long() % max(1, self.types)
        values = dict(zip(INPUTS, (ids, mask, types), strict=True))
        return {name: values[name] for name in self.inputs}


class _Graph(nn.Module):
    """A model as a function of tensors alone, by position; `inputs` and `outputs` are their names."""

    def __init__(self, model: PreTrainedModel, examples: _Examples) -> None:
        super().__init__()
        self.model, self.inputs = model, examples.inputs
        self.options = {"use_cache": False} if "use_cache" in _parameters(model) else {}
        self.outputs = self._names(*examples.batch(*TRACED).values())

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        found = self._run(*given)
        return tuple(found[name] for name in self.outputs)

    def _run(self, *given: Tensor) -> Any:
        named = dict(zip(self.inputs, given, strict=True))
        return self.model(**named, **self.options, return_dict=True)

    def _names(self, *given: Tensor) -> tuple[str, ...]:
        """All the model gives, but for a pooler's beside the states it is made from: few checkpoints trained it."""
        names = [name for name, value in self._run(*given).items() if isinstance(value, Tensor)]
        return tuple(name for name in names if name != "pooler_output" or "last_hidden_state" not in names)


def _parameters(model: PreTrainedModel) -> set[str]:
    return {*inspect.signature(model.forward).parameters}


def _searchsorted(stored: Any, ids: Any, **_: Any) -> Any:
    """Where ids `[n]` belong among ascending ones: how many of these are below each. ONNX has no such operator."""
    from onnxscript import opset18

    op: Any = opset18
    below = op.Less(op.Unsqueeze(stored, [0]), op.Unsqueeze(ids, [1]))
    return op.ReduceSum(op.Cast(below, to=7), [1], keepdims=0)  # 7 is int64


def _shifted(numbers: Any, by: Any, *, direction: str) -> Any:
    """Whole numbers shifted by some bits; ONNX shifts unsigned ones alone, and ours are never below 0."""
    from onnxscript import opset18

    op: Any = opset18
    unsigned = 13  # uint64
    shifted = op.BitShift(op.Cast(numbers, to=unsigned), op.Cast(by, to=unsigned), direction=direction)
    return op.CastLike(shifted, numbers)


def _translated(graph: _Graph, examples: _Examples) -> ir.Model:
    """The model in ONNX's terms."""
    from onnxscript import optimizer

    example = examples.batch(*TRACED)
    program = torch.onnx.export(
        graph,
        (*example.values(),),
        dynamo=True,
        input_names=graph.inputs,
        output_names=graph.outputs,
        dynamic_shapes={"given": (AXES,) * len(example)},
        opset_version=OPSET,
        custom_translation_table={
            torch.ops.aten.searchsorted.Tensor: _searchsorted,
            torch.ops.aten.__lshift__.Tensor: partial(_shifted, direction="LEFT"),
            torch.ops.aten.__rshift__.Tensor: partial(_shifted, direction="RIGHT"),
        },
        optimize=False,  # it would take minutes for what runtimes do anyway, and fold more
        verbose=False,
    )
    assert program is not None
    model: ir.Model = program.model
    optimizer.inline(model)
    optimizer.fold_constants(model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    optimizer.remove_unused_nodes(model)
    _forget_origins(model)
    return model


def _forget_origins(model: ir.Model) -> None:
    """Drop what the exporter notes of where things come from: lines of code, in files of this machine."""
    model.metadata_props.clear()
    for graph in model.graphs():
        values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
        for noted in (graph, *graph, *values):
            noted.doc_string = None
            noted.metadata_props.clear()


def _write(model: ir.Model, path: Path) -> None:
    from onnxscript import ir

    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    large = sum(tensor.nbytes for tensor in tensors if tensor is not None) > LIMIT
    ir.save(model, path, external_data=EXTERNAL if large else None)


def _difference(graph: _Graph, examples: _Examples, path: Path) -> float:
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
    vars(config).pop("auto_map", None)
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
