"""Compress a table to a given size: make it in each form that fits, and keep the one that costs least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite

import torch
from torch import Tensor

from orientc.errors import FitError
from orientc.methods import per_group, transform_coding
from orientc.methods.bit_allocation import SCALE_BYTES, Cell, allocate
from orientc.methods.effort import FAST
from orientc.methods.ggml_fit import code_in_blocks
from orientc.methods.importance import Importance
from orientc.methods.rounding import squared_errors
from orientc.methods.row_groups import row_groups_of, spread_sample
from orientc.methods.table_rows import TableRows
from orientc.modeling.factors import Factors
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.modeling.layout import MOST_BITS, packed_bytes

_FINE = 5.0  # bits per weight from which rounded rows can be ahead; below they cost several times as much
_LARGE = 1 / 8  # of the bytes; where a decoder takes more, rows that need none can be ahead at any size
_SAMPLE = 1024  # rows of a row group that costs are estimated on
_GROUP_SIZES = (48, 64, 128, 256)  # columns; with few wide groups much of a budget can be left over


@dataclass(frozen=True)
class Choice:
    """The form chosen for a target size.

    Attributes:
        factors: The compressed table.
        form: "transform" or "groups"; or the name of a block type.
        costs: What each form that fits costs, as `Importance.cost` has it.
    """

    factors: Factors
    form: str
    costs: Mapping[str, float]


def fit_to_size(
    table: TableRows, nbytes: int, importance: Importance, *, dtype: torch.dtype, effort: str = FAST
) -> Choice:
    """Compress a table to a number of bytes in the form that costs least.

    Forms: "groups" quantizes the rows themselves, without a decoder; "transform" is transform coding. The first one
    serves tables of few rows, for which a decoder is too large, and from seven bits or so on, where levels of transform
    codes are too few; elsewhere it is not tried.

    Args:
        table: `[vocab, dim]` of any float type.
        nbytes: Bytes that the tensors may take.
        importance: What a change of a row costs.
        dtype: Type of the floats other than scales.
        effort: "fast" or "best": how far transform coding's search for codes looks back.

    Raises:
        FitError: No form is that small, or the table's numbers are out of range.
    """

    def made(factors: Factors | None) -> Factors | None:
        return None if factors is None else factors.to(dtype)

    forms: dict[str, Callable[[], Factors | None]] = {
        # "transform" is the heavier one on memory while there is none of the size
        "transform": lambda: made(
            transform_coding.transform_code(table, nbytes, importance, dtype=dtype, effort=effort)
        ),
        "groups": lambda: made(quantized_rows(table, nbytes, importance.weights)),
    }
    vocab, dim = table.shape
    if 8 * nbytes < _FINE * vocab * dim and dim * dim <= _LARGE * nbytes:
        del forms["groups"]
    found = _cheapest(forms, table, importance, f"{str(dtype).removeprefix('torch.')} or float16 scales")
    if found is None:
        raise FitError(f"the table can't be made as small as {nbytes} bytes: the target must leave it more")
    return found


def fit_blocks_to_size(table: TableRows, nbytes: int, importance: Importance) -> Choice:
    """Compress a table to a number of bytes in the one of ggml's block types that costs least.

    Types that take a bit per weight less than another one that fits are not tried. The form is the type's name.

    Args:
        table: `[vocab, dim]` of any float type.
        nbytes: Bytes that the tensors may take.
        importance: What a change of a row costs.

    Raises:
        FitError: No type is that small, or the table's numbers are out of range.
    """
    vocab, dim = table.shape
    allowed = 8 * nbytes / (vocab * dim)
    bits = {name: kind.bits_per_weight for name, kind in BLOCK_TYPES.items() if dim % kind.width == 0}
    fitting = {name: own for name, own in bits.items() if own <= allowed}
    forms = {
        name: partial(code_in_blocks, table, name, importance.given)
        for name, own in fitting.items()
        if own > max(fitting.values()) - 1
    }
    found = _cheapest(forms, table, importance, "float16 scales")
    if found is None:
        least = f"the smallest takes {min(bits.values()):g}" if bits else f"none goes into {dim} columns"
        raise FitError(f"no block type takes at most {allowed:.3g} bits per weight: {least}")
    return found


def _cheapest(
    forms: Mapping[str, Callable[[], Factors | None]], table: TableRows, importance: Importance, types: str
) -> Choice | None:
    """Make a table in each form, and keep the one that costs least.

    Args:
        forms: What makes each form, by name; it may give None.
        table: The original.
        importance: What a change of a row costs.
        types: Types of numbers that may be too narrow, in words.

    Returns:
        The cheapest; None where there is no form.

    Raises:
        FitError: No form holds the table's numbers.
    """
    best: Choice | None = None
    costs: dict[str, float] = {}
    any_made = False
    for form, make in forms.items():
        factors = make()
        if factors is not None:
            any_made = True
            cost = importance.cost(factors.map(lambda tensor: tensor.to(table.device)), table)
            if isfinite(cost):
                costs[form] = cost
                if best is None or cost < costs[best.form]:
                    best = Choice(factors, form, costs)
        del factors  # of two forms the one that costs more is let go before the next one is made
    if best is None and any_made:
        raise FitError(f"the table's numbers do not fit into {types}")
    return best


@torch.no_grad()
def quantized_rows(table: TableRows, nbytes: int, weights: Tensor) -> Factors | None:
    """Quantize the rows themselves, each row group and group of columns with bits of its own.

    Of several group sizes the one with the least estimated weighted squared error is taken.

    Args:
        table: `[vocab, dim]` of any float type.
        nbytes: Bytes that the tensors may take.
        weights: Weights of the rows, `[vocab]`.

    Returns:
        The compressed table; None where `nbytes` is too small.
    """
    vocab, dim = table.shape
    row_groups = row_groups_of(weights)
    left = nbytes - (vocab if len(row_groups) > 1 else 0)
    found: tuple[float, int, list[int]] | None = None
    for width in sorted({min(width, dim) for width in _GROUP_SIZES}):
        cells = [cell for rows in row_groups for cell in _cells(table, rows, weights, width)]
        if sum(cell.sizes[1] for cell in cells) > left:
            continue
        bits = allocate(cells, left, [1] * len(cells))
        cost = sum(cell.costs[own] for cell, own in zip(cells, bits, strict=True))
        if found is None or cost < found[0]:
            found = cost, width, bits
    if found is None:
        return None
    _, width, bits = found
    count = -(-dim // width)
    return per_group.quantize_table(
        table,
        [bits[start : start + count] for start in range(0, len(bits), count)],
        group_size=width,
        importance=None,
        row_groups=row_groups,
    )


def _cells(table: TableRows, rows: Tensor, weights: Tensor, width: int) -> list[Cell]:
    """The cells of a row group's rows in groups of `width` columns; costs are weighted squared errors on a sample."""
    sample = spread_sample(rows, _SAMPLE)
    numbers, own = table[sample].float(), weights[sample]
    share = float(weights[rows].sum() / own.sum())
    cells = []
    for columns in numbers.split(width, dim=1):
        sampled, count = columns.T.contiguous(), columns.shape[1]
        sizes, costs = [0], [float((own * sampled.square().sum(0)).sum()) * share]
        for bits in range(1, MOST_BITS + 1):
            scale, offset = (part.float() for part in per_group.scale_and_offset(sampled, bits))
            errors = squared_errors(sampled, scale, offset, bits)
            sizes.append(len(rows) * (packed_bytes(count, bits) + SCALE_BYTES))
            costs.append(float((own * errors.sum(0)).sum()) * share)
        cells.append(Cell(sizes, costs))
    return cells
