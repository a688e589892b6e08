"""Matrices in blocks of codes as floats: what a graph does where a runtime is slow at multiplying codes as they are.

The file holds the same codes and scales; a runtime computes floats from them once, as it starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orientc.exporters.onnx_weights import BLOCKS

if TYPE_CHECKING:
    from onnxscript import ir


def unpacked(model: ir.Model) -> None:
    """Have each matrix in blocks multiplied as the floats it stands for, which a runtime computes once, as it starts.

    Args:
        model: The graph; it is changed.
    """
    for node in list(model.graph):
        if node.op_type == BLOCKS:
            _unpack(model.graph, node)


def _unpack(graph: ir.Graph, node: ir.Node) -> None:
    """Put `MatMul` in the place of `MatMulNBits`, and before it what makes a matrix `[K, N]` of codes and scales."""
    from onnxscript import ir

    width, rows, bits, block = (node.attributes[name].value for name in ("K", "N", "bits", "block_size"))
    states, codes, scales = node.inputs[:3]
    new: list[ir.Node] = []

    def op(kind: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        new.append(ir.node(kind, inputs, attributes, name=f"{node.name}_{len(new)}"))
        new[-1].outputs[0].name = new[-1].name
        return new[-1].outputs[0]

    def constant(numbers: Any, kind: type[np.generic] = np.int64) -> ir.Value:
        return op("Constant", value=ir.tensor(np.array(numbers, kind)))

    blocks = -(-width // block)
    _reshape(scales, rows, blocks, 1)
    if bits < 8:
        _reshape(codes, rows, blocks, block // 2, 1)
        lower = op("BitwiseAnd", codes, constant(15, np.uint8))
        upper = op("BitShift", codes, constant(4, np.uint8), direction="RIGHT")
        codes = op("Reshape", op("Concat", lower, upper, axis=-1), constant([rows, blocks, block]))
    zero = constant(1 << (bits - 1), np.float32)
    numbers = op("Mul", op("Sub", op("Cast", codes, to=ir.DataType.FLOAT), zero), scales)
    matrix = op("Reshape", numbers, constant([rows, blocks * block]))
    if width < blocks * block:
        matrix = op("Slice", matrix, constant([0]), constant([width]), constant([1]))
    op("MatMul", states, op("Transpose", matrix, perm=[1, 0]))
    new[-1].outputs[0].type = node.outputs[0].type
    ir.convenience.replace_nodes_and_values(graph, node, [node], new, node.outputs, new[-1].outputs)


def _reshape(stored: ir.Value | None, *shape: int) -> None:
    from onnxscript import ir

    assert stored is not None
    assert stored.const_value is not None
    stored.const_value = ir.tensor(stored.const_value.numpy().reshape(shape), name=stored.name)
    stored.shape = ir.Shape(shape)
