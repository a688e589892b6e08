"""How a graph stores its weights: the body in 8 or 4 bits by ONNX Runtime's own quantizers, floats in 16 bits.

What belongs to the token table, and the output projection, is left as it is by the quantizers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from orientc.exporters.forms import INT4, INT8, NONE
from orientc.exporters.onnx_graph import Graph
from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedTable

if TYPE_CHECKING:
    from onnxscript import ir

INTEGERS, BLOCKS, FLOATS = "MatMulInteger", "MatMulNBits", "MatMul"  # operators that multiply with a body's matrices
BITS = {INT8: 8, INT4: 4}
TOGETHER = {8: 64, 4: 32}  # numbers that share a scale in `BLOCKS`, by their bits
IN_INTEGERS = 4  # the level of accuracy at which a runtime may have states in 8 bits, numbers of a block by one scale
LOGITS = "logits"
SMALLEST = 256  # numbers; fewer are not worth an operator that widens them


def product(model: PreTrainedModel, body: str, *, codes: bool) -> str:
    """The operator that multiplies with the matrices of a model's body.

    `INTEGERS` takes states in 8 bits, by one scale for all of a batch: it is fast, and any ONNX runtime has it. In a
    model that generates text a few channels are so much larger than the others that these would be lost.

    Args:
        model: The model.
        body: How its body is stored: "none", "int8" or "int4".
        codes: Whether matrices in 8 bits are multiplied as they are rather than as floats.
    """
    if body == NONE:
        return FLOATS
    if body == INT8 and not model.can_generate():
        return INTEGERS
    return BLOCKS if codes or body == INT4 else FLOATS


def outside_body(graph: Graph, made: ir.Model) -> set[str]:
    """Names in a graph of what belongs to a model's compressed table, and to its output projection."""
    head = graph.model.get_output_embeddings()
    modules = graph.named_modules(remove_duplicate=False)
    named = {
        name
        for prefix, part in modules
        if isinstance(part, CompressedTable) or part is head
        for name, _ in _tensors(part, prefix)
    }
    return named if head is None else named | {*_multiplied_last(made)}


def _multiplied_last(made: ir.Model) -> Iterator[str]:
    """Names of what logits are products with: a matrix that was transposed before it was stored has none of torch's."""
    values, seen = [value for value in made.graph.outputs if value.name == LOGITS], set[int]()
    while values:
        node = values.pop().producer()
        if node is None or id(node) in seen or node.op_type == "Shape":
            continue
        seen.add(id(node))
        given = [value for value in node.inputs if value is not None]
        if node.op_type in ("MatMul", "Gemm", BLOCKS):
            yield from (value.name for value in given[1:] if value.name)
        else:
            values += given


def _tensors(part: nn.Module, prefix: str) -> Iterator[tuple[str, Any]]:
    yield from part.named_parameters(prefix, recurse=False)
    yield from part.named_buffers(prefix, recurse=False)


def as_products(model: ir.Model, outside: Collection[str]) -> None:
    """Write each linear layer of the body as a product with a stored matrix, the one form that quantizers look for.

    torch's exporter leaves a matrix that is transposed each time, or an operator that multiplies, transposes and adds.

    Args:
        model: The graph; it is changed.
        outside: Names of tensors that are none of the body's.
    """
    for node in list(model.graph):
        if node.op_type == "Gemm":
            _split(model.graph, node, outside)
    for weight in list(model.graph.initializers.values()):
        users = {use.node for use in weight.uses()}
        if weight.name not in outside and users and all(map(_transposes, users)):
            _store_transposed(weight)


def _split(graph: ir.Graph, node: ir.Node, outside: Collection[str]) -> None:
    """Put a product and a sum in the place of an operator that does both."""
    from onnxscript import ir

    values = {name: attribute.value for name, attribute in node.attributes.items()}
    weight, added = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    plain = not values.get("transA") and values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0
    if not plain or weight is None or not weight.is_initializer() or weight.name in outside:
        return
    new = []
    if values.get("transB"):
        new.append(ir.node("Transpose", [weight], {"perm": [1, 0]}, name=f"{node.name}_transposed"))
        weight = new[-1].outputs[0]
    new.append(ir.node("MatMul", [node.inputs[0], weight], name=f"{node.name}_product"))
    if added is not None:
        new.append(ir.node("Add", [new[-1].outputs[0], added], name=f"{node.name}_sum"))
    for made in new:
        made.outputs[0].name = made.name
        made.outputs[0].type = node.outputs[0].type
    ir.convenience.replace_nodes_and_values(graph, node, [node], new, node.outputs, new[-1].outputs)


def _transposes(node: ir.Node) -> bool:
    return node.op_type == "Transpose" and list(node.attributes["perm"].value) == [1, 0]


def _store_transposed(weight: ir.Value) -> None:
    """Store a matrix as the operators make it that all its users are, and do without them."""
    from onnxscript import ir

    assert weight.const_value is not None
    weight.const_value = ir.tensor(np.ascontiguousarray(weight.const_value.numpy().T), name=weight.name)
    weight.shape = ir.Shape(weight.const_value.numpy().shape)
    for node in {use.node for use in weight.uses()}:
        ir.convenience.replace_all_uses_with(node.outputs[0], weight)
        assert node.graph is not None
        node.graph.remove(node, safe=True)


def in_few_bits(source: Path, target: Path, operator: str, bits: int, outside: Collection[str]) -> int:
    """Quantize the body of a graph in a file, whose linear layers are as `as_products` leaves them.

    Args:
        source: The graph.
        target: Where the new one is written.
        operator: What is to multiply with the matrices: `INTEGERS`, with a scale for each column, or `BLOCKS`, with
            one for each block of `TOGETHER` rows of a column.
        bits: Of a number, 8 or 4; `INTEGERS` has 8.
        outside: Names of tensors to leave as they are.

    Returns:
        How many products have a quantized matrix now.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    nodes = onnx.load(source, load_external_data=False).graph.node
    left = [node.name for node in nodes if set(node.input) & set(outside)]
    left += [f"{name}_MatMul" for name in left]  # what `quantize_dynamic` makes of a Gemm before it asks for names
    if operator == BLOCKS:
        quantizer = MatMulNBitsQuantizer(
            str(source),
            bits=bits,
            block_size=TOGETHER[bits],
            is_symmetric=True,
            accuracy_level=IN_INTEGERS,
            nodes_to_exclude=left,
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(target), use_external_data_format=True)
    else:
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=left,
            use_external_data_format=True,
        )
    # a head's codes may be multiplied so already
    return _count(onnx.load(target, load_external_data=False).graph.node, operator) - _count(nodes, operator)


def _count(nodes: Iterable[Any], operator: str) -> int:
    return sum(node.op_type == operator for node in nodes)


def in_columns(model: ir.Model, outside: Collection[str]) -> int:
    """Store the body of a graph in 8 bits with a scale for each column; the graph makes floats of it.

    Runtimes do so once, as they start.

    Args:
        model: The graph, whose linear layers are as `as_products` leaves them; it is changed.
        outside: Names of tensors to leave as they are.

    Returns:
        How many products have a quantized matrix now.
    """
    from onnxscript import ir

    count, new = 0, list[ir.Node]()
    for name, value in model.graph.initializers.items():
        users = list(value.uses())
        if name in outside or not users or any(use.node.op_type != FLOATS or use.idx != 1 for use in users):
            continue
        assert value.const_value is not None
        numbers = value.const_value.numpy()
        if numbers.ndim == 2:
            scales = np.abs(numbers).max(0, keepdims=True) / np.float32(127)
            scales[scales == 0] = 1
            new += _widen(value, np.rint(numbers / scales).astype(np.int8), scales)
            count += len(users)
    if new:
        model.graph.insert_before(next(iter(model.graph)), new)
    return count


def narrowed(model: ir.Model, names: Collection[str] | None = None) -> None:
    """Store float32 tensors as float16 where that holds each of their numbers; the graph widens them again.

    Runtimes do so once, as they start, and compute in float32.

    Args:
        model: The graph; it is changed.
        names: Names of the tensors to look at; all of them unless given.
    """
    new = []
    for name, value in model.graph.initializers.items():
        if (names is None or name in names) and (narrow := _in_half(value)) is not None:
            new += _widen(value, narrow)
    if new:
        model.graph.insert_before(next(iter(model.graph)), new)


def _widen(value: ir.Value, narrow: NDArray[Any], scales: NDArray[np.float32] | None = None) -> list[ir.Node]:
    """Store a float32 tensor as narrower numbers; the nodes that make it of them, and of scales, for all its users."""
    from onnxscript import ir

    name, shape, users = value.name, value.shape, list(value.uses())
    value.const_value = ir.tensor(narrow, name=name)
    value.dtype = value.const_value.dtype
    nodes = [ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, name=f"{name}.widened")]
    if scales is not None:
        nodes.append(ir.node("Constant", [], {"value": ir.tensor(scales)}, name=f"{name}.scales"))
        nodes.append(ir.node("Mul", [node.outputs[0] for node in nodes], name=f"{name}.scaled"))
    for node in nodes:
        node.outputs[0].name = f"{node.name}.float32"
        node.outputs[0].dtype = ir.DataType.FLOAT
    wide = nodes[-1].outputs[0]
    wide.shape = shape
    for node, position in users:
        node.replace_input_with(position, wide)
    return nodes


def _in_half(value: ir.Value) -> NDArray[np.float16] | None:
    """A float32 tensor's numbers in float16; None where they don't fit, or are too few."""
    from onnxscript import ir

    tensor = value.const_value
    return _halved(tensor.numpy()) if tensor is not None and tensor.dtype == ir.DataType.FLOAT else None


def _halved(numbers: NDArray[np.float32]) -> NDArray[np.float16] | None:
    if numbers.size < SMALLEST:
        return None
    with np.errstate(over="ignore"):
        narrow = numbers.astype(np.float16)
    return narrow if np.array_equal(narrow.astype(np.float32), numbers) else None


def stored_bytes(factors: Factors) -> int:
    """Bytes that a compressed table takes in a graph, its floats narrowed."""
    return sum(
        tensor.nbytes if not tensor.is_floating_point() or _halved(tensor.float().numpy(force=True)) is None
        else 2 * tensor.numel()
        for tensor in factors.tensors.values()
    )  # fmt: skip
