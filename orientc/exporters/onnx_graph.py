"""A model as an ONNX graph: its inputs and outputs by name, and torch's exporter told what ONNX lacks."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orientc.models.source import usable_positions

if TYPE_CHECKING:
    from onnxscript import ir

OPSET = 18  # what torch translates to; for any later one it converts, and older runtimes can't read it
FOLDED = 64  # numbers; what is computed from larger constants stays computed, or a table would be back as a constant
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
AXES = {0: "batch_size", 1: "sequence_length"}
TRACED = (2, 7)  # batch and length of the example the graph is made from
TEXT = (  # tokens drawn at random can take a model to where float32 itself is that uncertain
    "The quick brown fox jumps over the lazy dog, while everybody else in the village is still asleep. "
    "Paris is the capital of France, and its largest city. In 1969 two men walked on the Moon."
)


@dataclass(frozen=True)
class Examples:
    """Inputs of a model, by the names in `inputs`: pieces of a text, `text`, as token ids.

    `longest` is the model's limit, `padding` the id of the padding token, `types` the number of token types.
    """

    inputs: tuple[str, ...]
    text: Tensor
    longest: int | None
    padding: int
    types: int

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Examples:
        """Token types are left out where the tokenizer does not tell them apart or the model has no rows for them."""
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


class Graph(nn.Module):
    """A model as a function of tensors alone, by position; `inputs` and `outputs` are their names."""

    def __init__(self, model: PreTrainedModel, examples: Examples) -> None:
        super().__init__()
        self.model, self.inputs = model, examples.inputs
        self.options = {"use_cache": False} if "use_cache" in _parameters(model) else {}
        self.outputs = self._names(*examples.batch(*TRACED).values())

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of their names."""
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


def translated(graph: Graph, examples: Examples) -> ir.Model:
    """The graph in ONNX's operators."""
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
