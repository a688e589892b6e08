"""Vectors of 16 numbers for compiled loops: numba has none, LLVM has them on every processor.

A loop over states that works on 16 rows at a time needs no cleverness of a compiler: each operation is one of these.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

WIDTH = 16
_FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
_INTS = ir.VectorType(ir.IntType(32), WIDTH)
_BYTES = ir.VectorType(ir.IntType(8), WIDTH)


class _Floats(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Floats16")


class _Ints(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Ints16")


_floats, _ints = _Floats(), _Ints()


@register_model(_Floats)
class _FloatsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


@register_model(_Ints)
class _IntsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _INTS)


def _address(context: Any, builder: Any, signature: Any, args: Any, kind: ir.Type) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer())


def _splat(builder: Any, number: Any, kind: ir.Type) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(_INTS, [0] * WIDTH))


@intrinsic
def load(typing: Any, array: Any, start: Any) -> Any:
    """The 16 float32 of an array from `start` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = builder.load(_address(context, builder, signature, args, _FLOATS))
        found.align = 4
        return found

    return _floats(array, types.int64), generate


@intrinsic
def store(typing: Any, array: Any, start: Any, numbers: Any) -> Any:
    """Write 16 float32 into an array from `start` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, signature, args, _FLOATS)).align = 4
        return context.get_dummy_value()

    return types.none(array, types.int64, _floats), generate


@intrinsic
def store_bytes(typing: Any, array: Any, start: Any, numbers: Any) -> Any:
    """Write 16 whole numbers into an array of bytes from `start` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        narrow = builder.trunc(args[2], _BYTES)
        builder.store(narrow, _address(context, builder, signature, args, _BYTES)).align = 1
        return context.get_dummy_value()

    return types.none(array, types.int64, _ints), generate


@intrinsic
def all_floats(typing: Any, number: Any) -> Any:
    """16 times the same float32."""
    return _floats(types.float32), lambda context, builder, signature, args: _splat(builder, args[0], _FLOATS)


@intrinsic
def all_ints(typing: Any, number: Any) -> Any:
    """16 times the same whole number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, builder.trunc(args[0], ir.IntType(32)), _INTS)

    return _ints(types.int64), generate


@intrinsic
def added_error(typing: Any, costs: Any, values: Any, level: Any, weight: Any) -> Any:
    """`costs + (values - level)² · weight`, rounded after each operation, so that other code can find the same."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        error = builder.fsub(args[1], _splat(builder, args[2], _FLOATS))
        return builder.fadd(args[0], builder.fmul(builder.fmul(error, error), args[3]))

    return _floats(_floats, _floats, types.float32, _floats), generate


@intrinsic
def smaller(typing: Any, one: Any, other: Any) -> Any:
    """The smaller of two numbers, 16 times."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[0], args[1])

    return _floats(_floats, _floats), generate


@intrinsic
def where_less(typing: Any, one: Any, other: Any, then: Any, otherwise: Any) -> Any:
    """`then` where `one` is less than `other`, else `otherwise`, 16 times."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return _ints(_floats, _floats, _ints, _ints), generate
