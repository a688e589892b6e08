"""A model as an ONNX graph: its inputs and outputs by name, and torch's exporter told what ONNX lacks."""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orientc.exporters.onnx_cache import PAST, PRESENT, CacheShape, empty, made_of, names, shapes_of, tensors_of
from orientc.exporters.onnx_head import as_codes
from orientc.models.lengths import usable_positions

if TYPE_CHECKING:
    from onnxscript import ir

OPSET = 18  # what torch translates to; for any later one it converts, and older runtimes can't read it
FOLDED = 64  # numbers; what is computed from larger constants stays computed, or a table would be back as a constant
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
POSITIONS = "position_ids"  # of graphs with a cache
BATCH, LENGTH = "batch_size", "sequence_length"
PAST_LENGTH, WHOLE_LENGTH = "past_sequence_length", "total_sequence_length"
TRACED = (2, 7)  # batch and length of the example the graph is made from
CACHED = 5  # length of its cache
TEXT = (  # tokens drawn at random can take a model to where float32 itself is that uncertain
    "The quick brown fox jumps over the lazy dog, while everybody else in the village is still asleep. "
    "Paris is the capital of France, and its largest city. In 1969 two men walked on the Moon."
)


@dataclass(frozen=True)
class Examples:
    """Inputs of a model, by the names in `inputs`: pieces of a text, `text`, as token ids.

    `longest` is the model's limit, `padding` the id of the padding token, `types` the number of token types; `cache`
    has the shape of each layer's cache, and is empty for a model that is run without one.
    """

    inputs: tuple[str, ...]
    text: Tensor
    longest: int | None
    padding: int
    types: int
    cache: tuple[CacheShape, ...] = ()

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Examples:
        """Token types are left out where the tokenizer does not tell them apart or the model has no rows for them."""
        config, vocab = model.config, model.get_input_embeddings().num_embeddings
        types = getattr(config, "type_vocab_size", 2)
        taken, shapes = _parameters(model), shapes_of(model)
        if not types or shapes or "token_type_ids" not in tokenizer.model_input_names:
            taken -= {"token_type_ids"}
        return cls(
            inputs=tuple(name for name in (*INPUTS, POSITIONS)[: 4 if shapes else 3] if name in taken),
            text=torch.tensor(tokenizer(TEXT)["input_ids"]) % vocab,
            longest=usable_positions(model),
            padding=(getattr(config, "pad_token_id", None) or 0) % vocab,
            types=min(2, types),
            cache=shapes,
        )

    def batch(self, size: int, length: int) -> dict[str, Tensor]:
        """Tensors `[size, length]`, shorter where the model has no positions for so many; no cache.

        The first row is padded at its end, the second at its start.
        """
        length = min(length, self.longest or length)
        starts, places = torch.arange(size).unsqueeze(-1) * length, torch.arange(length).expand(size, length)
        mask, padding = torch.ones(size, length, dtype=torch.long), length // 3
        mask[:1, length - padding :] = 0
        mask[1:2, :padding] = 0
        ids = self.text[(starts + places) % len(self.text)].where(mask == 1, self.padding)
        types = (places >= length // 2).long() % max(1, self.types)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        values = dict(zip((*INPUTS, POSITIONS), (ids, mask, types, positions), strict=True))
        return {name: values[name] for name in self.inputs}

    def part(self, batch: dict[str, Tensor], start: int, end: int) -> dict[str, Tensor]:
        """What a graph with a cache of the first `start` tokens is given for those up to `end`, but for the cache."""
        begins = {"attention_mask": 0}
        return {name: value[:, begins.get(name, start) : end].contiguous() for name, value in batch.items()}


class Graph(nn.Module):
    """A model as a function of tensors alone, by position; `inputs` and `outputs` are their names.

    A model with a cache takes each layer's keys and values after its other inputs, and gives them after its other
    outputs, longer by the tokens given.
    """

    def __init__(self, model: PreTrainedModel, examples: Examples) -> None:
        super().__init__()
        self.model, self.examples = model, examples
        layers = len(examples.cache)
        self.inputs = (*examples.inputs, *names(PAST, layers))
        self.options = {"use_cache": bool(layers)} if "use_cache" in _parameters(model) else {}
        self.own = self._names(examples.batch(*TRACED))
        self.outputs = (*self.own, *names(PRESENT, layers))

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of their names."""
        count = len(self.examples.inputs)
        named, past = dict(zip(self.examples.inputs, given[:count], strict=True)), given[count:]
        if not past:
            found = self.plain(named)
            return tuple(found[name] for name in self.own)
        cache = made_of(past)
        found = self.model(**named, **self.options, past_key_values=cache, return_dict=True)
        return (*(found[name] for name in self.own), *tensors_of(cache))

    def plain(self, named: dict[str, Tensor]) -> Any:
        """All that the model itself gives for its inputs, without a cache."""
        options = dict.fromkeys(self.options, False)
        return self.model(**named, **options, return_dict=True)

    def example(self) -> tuple[Tensor, ...]:
        """The inputs that the graph is made from."""
        if not self.examples.cache:
            return (*self.examples.batch(*TRACED).values(),)
        size, length = TRACED
        batch = self.examples.batch(size, CACHED + length)
        start = min(CACHED, batch["input_ids"].shape[1] // 2)
        given = self.examples.part(batch, 0, start)
        past = self(*given.values(), *empty(self.examples.cache, size))[len(self.own) :]
        return (*self.examples.part(batch, start, CACHED + length).values(), *past)

    def axes(self) -> tuple[dict[int, str], ...]:
        """Names of the inputs' dimensions that are of any length."""
        if not self.examples.cache:
            return ({0: BATCH, 1: LENGTH},) * len(self.inputs)
        own = {"attention_mask": {0: BATCH, 1: WHOLE_LENGTH}}
        others, past = {0: BATCH, 1: LENGTH}, {0: BATCH, 2: PAST_LENGTH}
        return tuple(own.get(name, past if name.startswith(PAST) else others) for name in self.inputs)

    def _names(self, named: dict[str, Tensor]) -> tuple[str, ...]:
        """All the model gives, but for a pooler's beside the states it is made from: few checkpoints trained it."""
        found = [name for name, value in self.plain(named).items() if isinstance(value, Tensor)]
        return tuple(name for name in found if name != "pooler_output" or "last_hidden_state" not in found)


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
    if numbers.dtype == 2:  # uint8
        return op.BitShift(numbers, op.Cast(by, to=2), direction=direction)
    unsigned = 12 if numbers.dtype == 6 else 13  # uint32 for int32, uint64 for int64
    shifted = op.BitShift(op.Cast(numbers, to=unsigned), op.Cast(by, to=unsigned), direction=direction)
    return op.CastLike(shifted, numbers)


def translated(graph: Graph, *, head: bool = False) -> ir.Model:
    """The graph in ONNX's operators; with a head that multiplies codes, by an operator of ONNX Runtime's, if wanted."""
    from onnxscript import optimizer

    example = graph.example()
    with as_codes(graph.model) if head else contextlib.nullcontext():
        program = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            input_names=graph.inputs,
            output_names=graph.outputs,
            dynamic_shapes={"given": graph.axes()},
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
    _name_whole_length(model)
    return model


def _name_whole_length(model: ir.Model) -> None:
    """Give what has the length of cache and tokens together one name, in the place of a sum of two."""
    from onnxscript import ir

    for value in model.graph.outputs:
        if (value.name or "").startswith(f"{PRESENT}.") and value.shape is not None:
            value.shape = ir.Shape([value.shape[0], value.shape[1], WHOLE_LENGTH, value.shape[3]])


def _forget_origins(model: ir.Model) -> None:
    """Drop what the exporter notes of where things come from: lines of code, in files of this machine."""
    model.metadata_props.clear()
    for graph in model.graphs():
        values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
        for noted in (graph, *graph, *values):
            noted.doc_string = None
            noted.metadata_props.clear()
