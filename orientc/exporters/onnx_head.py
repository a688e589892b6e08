"""A head that multiplies codes as they are, by ONNX Runtime's product with matrices in 4 bits.

A runtime that starts unpacks all codes of a table once, to floats, which a head then reads for each token: 4 bytes a
number. Its own operator for codes of 4 bits reads half a byte. What it knows is `(code - 8) · scale`, with a scale for
each block of columns of a row; offsets and other widths come down to that:

- of codes above 15 the upper 4 bits are a product of their own, times 16;
- with `code · scale + offset` for each row and group, the sum of a group's states times `offset + 8 · scale` is added.

Of trellis codes a runtime makes the levels as it starts, whole numbers of 8 bits: they are two such products, exactly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from orientc.modeling.decoding import block_positions, level_blocks
from orientc.modeling.factors import Factors, concatenated, products_by_levels
from orientc.modeling.layout import PER_GROUP, TRELLIS, Layout
from orientc.modeling.modules import CompressedHead
from orientc.modeling.packing import code_positions, unpack

OPERATOR = "com.microsoft::MatMulNBits"
BITS = 4
ZERO = 8  # what the operator takes from each code
BLOCKS = (16, 32, 64, 128, 256)  # columns that can share a scale
LEVELS_BLOCK = 64  # columns of levels, which need no scale, that are given one


def heads(model: PreTrainedModel) -> list[CompressedHead]:
    """The heads of a model that can be written so."""
    found = [module for module in model.modules() if isinstance(module, CompressedHead)]
    return [head for head in found if fits(head.factors.layout)]


def fits(layout: Layout) -> bool:
    """Whether products with a table in this layout are products with codes."""
    if layout.activation or not layout.rows:
        return False
    return layout.codec == TRELLIS or (layout.codec == PER_GROUP and layout.group_size in BLOCKS)


@contextlib.contextmanager
def as_codes(model: PreTrainedModel) -> Iterator[None]:
    """Within it the heads of a model compute what can be exported so, and nothing that can be used."""
    changed = heads(model)
    for head in changed:
        head.forward = partial(_forward, head)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for head in changed:
            del head.forward


def _forward(head: CompressedHead, hidden: Tensor) -> Tensor:
    logits = products(head.factors, hidden)
    return logits if head.bias is None else logits + head.bias


def products(factors: Factors, states: Tensor) -> Tensor:
    """Products of states `[..., dim]` with every row, `[..., vocab]`; see `Factors.products`."""
    layout, weight, bias = factors.layout, factors.weight, factors.bias
    positions = block_positions(layout, factors.tensors)
    if layout.codec == TRELLIS:
        blocks = level_blocks(layout, factors.tensors, torch.int8, max(layout.row_group_sizes))
        return concatenated(products_by_levels(factors, states, blocks, _of_levels), layout.vocab, positions)
    narrow = states if weight is None else states @ weight
    found = [_of_row_group(factors, number, narrow) for number, rows in enumerate(layout.row_group_sizes) if rows]
    if bias is not None:
        added = (states @ bias).unsqueeze(-1)
        found = [part + added for part in found]
    if layout.kept:
        found.append(functional.linear(states, factors.tensors["kept.rows"]))
    return concatenated(iter(found), layout.vocab, positions)


def _of_levels(states: Tensor, levels: Tensor) -> Tensor:
    """Products of states `[..., rank]` with levels, int8 `[n, rank]`: `[..., n]`.

    A level is `16 · upper + lower - 128`, of which the operator takes `16 · (upper - 8) + (lower - 8)`: it is 8 more.
    """
    rows, filling = len(levels), -levels.shape[1] % LEVELS_BLOCK
    states, levels = functional.pad(states, (0, filling)), functional.pad(levels, (0, filling))
    pairs = _parts((levels.to(torch.int16) + 128).to(torch.uint8), levels.shape[1] // 2)
    first, second, left = pairs[..., 0], pairs[..., 1], torch.tensor(BITS, dtype=torch.uint8)
    lower, upper = (first & 15) | (second << left), (first >> left) | (second & 240)
    blocks = levels.shape[1] // LEVELS_BLOCK
    found = [
        _multiplied(states, _parts(packed, blocks), torch.full((rows, blocks), scale), LEVELS_BLOCK)
        for packed, scale in ((lower, 1.0), (upper, 16.0))
    ]
    return found[0] + found[1] + ZERO * states.sum(-1, keepdim=True)


class _Block(NamedTuple):
    """Columns that are multiplied together: which, and the bits of their codes; `scale` is their number of scales."""

    columns: list[int]
    offsets: list[int]  # the bit of a row that each column's code begins at
    bits: list[int]
    scale: int


def _blocks(layout: Layout, row_group: int) -> list[_Block]:
    """The groups of columns of a row group that have codes."""
    groups = []
    for run in layout.runs(row_group):
        for group in range(run.groups):
            start = 8 * (run.byte + group * ((run.width * run.bits + 7) // 8))
            own = [run.start + group * run.width + place for place in range(run.width)]
            begins = [start + place * run.bits for place in range(run.width)]
            groups.append(_Block(own, begins, [run.bits] * run.width, run.scale + group))
    return groups


def _of_row_group(factors: Factors, row_group: int, narrow: Tensor) -> Tensor:
    """Products with the rows of one row group, `[..., rows]`."""
    layout = factors.layout
    codes, scales, offsets = (factors.tensors[f"latents.{row_group}.{name}"] for name in ("codes", "scales", "offsets"))
    scales, offsets = scales.to(narrow.dtype), offsets.to(narrow.dtype)
    size, blocks = layout.group_size, _blocks(layout, row_group)
    added = _parts(_gathered(narrow, blocks, size), len(blocks)).sum(-1) @ offsets.T
    for shift, chosen in ((0, blocks), (BITS, [block for block in blocks if max(block.bits) > BITS])):
        if chosen:
            own = scales[:, [block.scale for block in chosen]]
            added = added + _of_four_bits(codes, narrow, chosen, size, own, shift)
    return added


def _of_four_bits(codes: Tensor, narrow: Tensor, blocks: list[_Block], size: int, scales: Tensor, shift: int) -> Tensor:
    """Products with four bits of each code, from bit `shift` on; of all rows, `[..., rows]`.

    `scales` are those of rows and blocks, `[rows, blocks]`.
    """
    factor, states = float(1 << shift), _gathered(narrow, blocks, size)
    found = _multiplied(states, _packed(codes, blocks, size, shift), scales * factor, size)
    sums = _parts(states, len(blocks)).sum(-1)
    return torch.add(found, sums @ (scales * (ZERO * factor)).T)


def _multiplied(states: Tensor, packed: Tensor, scales: Tensor, size: int) -> Tensor:
    """The operator: states times `(code - 8) · scale`, `[..., rows]`.

    Args:
        states: `[..., blocks · size]`.
        packed: Codes, two to a byte, `[rows, blocks, size / 2]`.
        scales: `[rows, blocks]`.
        size: Columns of a block.
    """
    rows, blocks = scales.shape
    return torch.onnx.ops.symbolic(
        OPERATOR,
        (states, packed, scales.flatten()),
        {"K": blocks * size, "N": rows, "bits": BITS, "block_size": size},
        dtype=states.dtype,
        shape=[*states.shape[:-1], rows],
        version=1,
    )


def _gathered(states: Tensor, blocks: list[_Block], size: int) -> Tensor:
    """States `[..., width]` in the order of the blocks' columns, short blocks filled up with zeros."""
    width = states.shape[-1]
    order = [column for block in blocks for column in (*block.columns, *[width] * (size - len(block.columns)))]
    if order == list(range(width)):
        return states
    return functional.pad(states, (0, 1)).index_select(-1, torch.tensor(order))


def _packed(codes: Tensor, blocks: list[_Block], size: int, shift: int) -> Tensor:
    """Four bits of each code, two to a byte, `[rows, blocks, size / 2]`."""
    offsets, bits = [], []
    for block in blocks:
        filling = [0] * (size - len(block.columns))
        offsets += [*(begin + shift for begin in block.offsets), *filling]
        bits += [*(min(BITS, max(0, own - shift)) for own in block.bits), *filling]
    if bits == [BITS] * len(bits) and offsets == [BITS * place for place in range(len(offsets))]:
        return _parts(codes, len(blocks))  # as they are stored
    pairs = _parts(unpack(codes, code_positions(offsets, bits, codes.device)).T, len(offsets) // 2)
    left = torch.tensor(BITS, dtype=torch.uint8)
    return _parts(pairs[..., 0] | (pairs[..., 1] << left), len(blocks))


def _parts(numbers: Tensor, count: int) -> Tensor:
    """Numbers `[..., n]` as `[..., count, n / count]`."""
    return numbers.reshape(*numbers.shape[:-1], count, numbers.shape[-1] // count)
