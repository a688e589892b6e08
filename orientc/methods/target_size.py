"""Compress a table to a given size: make it in each form that fits, and keep the one that costs least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from orientc.errors import FitError
from orientc.methods import kept_rows, per_group, svd, transform_coding
from orientc.methods.bit_allocation import SCALE_BYTES, Cell, allocate
from orientc.methods.ggml_fit import code_in_blocks
from orientc.methods.importance import Importance
from orientc.methods.rounding import squared_errors
from orientc.methods.row_groups import row_groups_of, spread_sample
from orientc.methods.table_rows import TableRows
from orientc.modeling.factors import Factors
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.modeling.layout import MOST_BITS, packed_bytes

_SAMPLE = 1024  # rows of a row group that costs are estimated on
_GROUP_SIZES = (48, 64, 128, 256)  # columns; with few wide groups much of a budget can be left over


@dataclass(frozen=True)
class Choice:
    """The form chosen for a target size.

    Attributes:
        factors: The compressed table.
        form: "transform", "groups" or "rank"; or the name of a block type.
        costs: What each form that fits costs, as `Importance.cost` has it.
    """

    factors: Factors
    form: str
    costs: Mapping[str, float]


def fit_to_size(
    table: TableRows, nbytes: int, importance: Importance, *, dtype: torch.dtype, effort: str = "fast"
) -> Choice:
    """Compress a table to a number of bytes in the form that costs least.

    Forms: "groups" quantizes the rows themselves, without a decoder; "rank" is a truncated SVD with the heaviest rows
    kept as they are; "transform" is transform coding. The last one is tried only where importance was measured:
    otherwise the directions it drops may be the ones that matter.

    Args:
        table: `[vocab, dim]` of any float type.
        nbytes: Bytes that the tensors may take.
        importance: What a change of a row costs.
        dtype: Type of the floats other than scales.
        effort: "fast" or "best": how far transform coding's search for codes looks back.

    Raises:
        FitError: No form is that small, or the table's numbers are out of range.
    """
    # What is heaviest on memory comes first, while there is no other table of the size.
    plan = kept_rows.best(table, nbytes, importance, itemsize=dtype.itemsize)
    forms: dict[str, Callable[[], Factors | None]] = {
        "transform": lambda: transform_coding.transform_code(table, nbytes, importance, dtype=dtype, effort=effort),
        "rank": lambda: None if plan is None else low_rank(table, plan, importance, dtype=dtype),
        "groups": lambda: quantized_rows(table, nbytes, importance.weights),
    }
    if not importance.known:
        del forms["transform"]
    best: Choice | None = None
    costs: dict[str, float] = {}
    made = False
    for form, make in forms.items():
        factors = make()
        if factors is not None:
            made, factors = True, factors.to(dtype)
            cost = importance.cost(factors.map(lambda tensor: tensor.to(table.device)), table)
            if isfinite(cost):
                costs[form] = cost
                if best is None or cost < costs[best.form]:
                    best = Choice(factors, form, costs)
        del factors  # of two forms the one that costs more is let go before the next one is made
    if not made:
        raise FitError(f"the table can't be made as small as {nbytes} bytes: the target must leave it more")
    if best is None:
        raise FitError(f"the table's numbers do not fit into {str(dtype).removeprefix('torch.')} or float16 scales")
    return best


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
    if not fitting:
        least = f"the smallest takes {min(bits.values()):g}" if bits else f"none goes into {dim} columns"
        raise FitError(f"no block type takes at most {allowed:.3g} bits per weight: {least}")
    best: Choice | None = None
    costs: dict[str, float] = {}
    for form in (name for name, own in fitting.items() if own > max(fitting.values()) - 1):
        factors = code_in_blocks(table, form, importance.given)
        cost = importance.cost(factors, table)
        if isfinite(cost):
            costs[form] = cost
            if best is None or cost < costs[best.form]:
                best = Choice(factors, form, costs)
        del factors
    if best is None:
        raise FitError("the table's numbers do not fit into float16 scales")
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


@torch.no_grad()
def low_rank(table: TableRows, plan: kept_rows.Plan, importance: Importance, *, dtype: torch.dtype) -> Factors:
    """Truncated SVD with as many of the heaviest rows kept as is planned."""
    ids = kept_rows.weightiest(importance.weights, plan.count)

    def fit(rest: TableRows, own: Importance) -> Factors:
        return svd.truncated_svd(rest, plan.rank, importance=own, dtype=dtype, directions=plan.directions)

    return kept_rows.around(table, ids, importance, fit, dtype=dtype)
