"""Read latents out of a compressed table's tensors: any rows by their ids, or all of them block by block.

Rows of a table fall into *kept* rows, which are stored as they are, and rows with latents. Latents in codes are stored
row group by row group; within one, rows are in the order of their ids.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from orientc.modeling.layout import PER_CHANNEL, PLAIN, Layout, packed_bytes
from orientc.modeling.packing import CodePositions, code_positions, unpack


def latents_of_rows(layout: Layout, tensors: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """Latents of some rows.

    Args:
        layout: How the tensors are laid out.
        tensors: The tensors by name.
        ids: `[n]`, numbers of rows counted among those that have latents, 0 to `layout.rows - 1`.

    Returns:
        `[n, rank]`, in the float type of the decoder, else of the scales.
    """
    if layout.codec == PLAIN:
        return torch.nn.functional.embedding(ids, tensors["latents"])
    if len(layout.row_group_sizes) == 1:  # index_select refuses ids below 0, as an embedding does
        return _latents_of_row_group(layout, tensors, 0, ids).contiguous()
    positions = _stored_positions(layout, tensors).index_select(0, ids)
    decode = _decode_by_row_group if not torch.compiler.is_compiling() else _decode_traceable
    return decode(layout, tensors, positions)


def latent_blocks(layout: Layout, size: int) -> list[tuple[int, int]]:
    """Cut the latents into blocks of at most `size` rows, each within one row group: (row group, first row in it)."""
    counts = layout.row_group_sizes or (layout.rows,)
    return [(row_group, start) for row_group, rows in enumerate(counts) for start in range(0, rows, size)]


def latent_block(layout: Layout, tensors: Mapping[str, Tensor], row_group: int, start: int, size: int) -> Tensor:
    """Latents `[at most size, rank]` of one block of `latent_blocks`."""
    part = slice(start, start + size)
    if layout.codec == PLAIN:
        return tensors["latents"][part]
    return _latents_of_row_group(layout, tensors, row_group, part)


class WholeNumbers(NamedTuple):
    """The codes of a row group as whole numbers: a latent is `(number + middle) · scale + offset` by its column.

    Attributes:
        numbers: Codes less the middle, int8 `[rows, columns]`.
        columns: The columns that have codes, int64; None where all have. Latents are 0 in the others.
        middles: For each column half of how many codes there are, float32 `[columns]`.
    """

    numbers: Tensor
    columns: Tensor | None
    middles: Tensor


def whole_numbers(layout: Layout, tensors: Mapping[str, Tensor], row_group: int, size: int) -> WholeNumbers:
    """Unpack the codes of a row group, `size` rows at a time."""
    codes, runs = tensors[f"latents.{row_group}.codes"], layout.runs(row_group)
    coding = _row_group_coding(layout, row_group, codes.device)
    columns = torch.tensor([run.start + place for run in runs for place in range(run.columns)], device=codes.device)
    middles = torch.tensor([1 << run.bits - 1 for run in runs for _ in range(run.columns)], device=codes.device)
    numbers = torch.empty(len(codes), len(columns), device=codes.device, dtype=torch.int8)
    for packed, place in zip(codes.split(size), numbers.split(size), strict=True):
        place.T.copy_(unpack(packed, coding.positions).index_select(0, columns) - middles.unsqueeze(1))
    return WholeNumbers(numbers, None if len(columns) == layout.rank else columns, middles.float())


def block_positions(layout: Layout, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Where each row of the table is when all blocks of `latent_blocks` are concatenated, and kept rows after them.

    Returns:
        `[vocab]`, int64; None where that order is the order of the ids.
    """
    grouped = len(layout.row_group_sizes) > 1
    if not layout.rows or (not grouped and not layout.kept):
        return None
    stored = _stored_positions(layout, tensors) if grouped else None
    if not layout.kept:
        return stored
    kept, others = _split_kept(layout, tensors)
    behind = layout.rows + kept.long().cumsum(0) - 1
    return torch.where(kept, behind, others if stored is None else stored[others])


def inverse_permutation(order: Tensor) -> Tensor:
    """The inverse of a permutation `[n]` of 0 … n − 1: where each number stands in it."""
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


class _ScaledColumns(NamedTuple):
    """Columns `start` to `end` with codes; each `width` of them share a scale and an offset, from number `scale` on."""

    start: int
    end: int
    width: int
    scale: int


class _RowGroupCoding(NamedTuple):
    """How to decode a row of a row group: where its codes are, and which columns share scales."""

    positions: CodePositions
    scaled: list[_ScaledColumns]


@functools.lru_cache(256)
@torch.inference_mode(False)
def _row_group_coding(layout: Layout, row_group: int, device: torch.device) -> _RowGroupCoding:
    """The coding of a row group; cached for each layout and device."""
    offsets, bits = [0] * layout.rank, [0] * layout.rank
    scaled: list[_ScaledColumns] = []
    for run in layout.runs(row_group):
        width = 1 if layout.codec == PER_CHANNEL else run.width
        columns = _ScaledColumns(run.start, run.start + run.columns, width, run.scale)
        if scaled and (scaled[-1].end, scaled[-1].width) == (columns.start, columns.width):
            columns = scaled.pop()._replace(end=columns.end)
        scaled.append(columns)
        for place in range(run.columns):
            group, column = divmod(place, run.width)
            byte = run.byte + group * packed_bytes(run.width, run.bits)
            offsets[run.start + place] = 8 * byte + column * run.bits
            bits[run.start + place] = run.bits
    return _RowGroupCoding(code_positions(offsets, bits, device), scaled)


def _latents_of_row_group(
    layout: Layout, tensors: Mapping[str, Tensor], row_group: int, rows: Tensor | slice
) -> Tensor:
    """Latents of some rows of a row group: `code · scale + offset`, and 0 where a group of columns has no bits.

    Args:
        layout: How the tensors are laid out.
        tensors: The tensors by name.
        row_group: Number of the row group.
        rows: Rows counted within the row group, `[n]` or a slice.

    Returns:
        `[n, rank]`, a view of a contiguous `[rank, n]`.
    """

    def chosen(part: Tensor) -> Tensor:
        return part[rows] if isinstance(rows, slice) else part.index_select(0, rows)

    codes, scales, offsets = (tensors[f"latents.{row_group}.{name}"] for name in ("codes", "scales", "offsets"))
    find = _row_group_coding.__wrapped__ if torch.compiler.is_compiling() else _row_group_coding
    coding, dtype = find(layout, row_group, codes.device), _float_type(tensors, scales)
    scales, offsets = (
        (part.unsqueeze(1) if layout.codec == PER_CHANNEL else chosen(part).T).to(dtype).unsqueeze(1)
        for part in (scales, offsets)
    )
    numbers = unpack(chosen(codes), coding.positions).to(dtype)
    parts, column = [], 0
    for start, end, width, scale in coding.scaled:
        if start > column:
            parts.append(numbers[column:start])  # columns without bits, which are 0
        own = slice(scale, scale + (end - start) // width)
        parts.append(
            torch.addcmul(offsets[own], numbers[start:end].unflatten(0, (-1, width)), scales[own]).flatten(0, 1)
        )
        column = end
    if column < layout.rank:
        parts.append(numbers[column:])
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).T


def _float_type(tensors: Mapping[str, Tensor], scales: Tensor) -> torch.dtype:
    """The type latents are computed in: that of the other floats where there are any, else of the scales."""
    others = ("decoder.weight", "kept.rows")
    return next((tensors[name].dtype for name in others if name in tensors), scales.dtype)


def _decode_by_row_group(layout: Layout, tensors: Mapping[str, Tensor], positions: Tensor) -> Tensor:
    """Latents `[n, rank]` of rows at `positions [n]` in stored order: each row group decodes its own rows."""
    parts: list[Tensor] = []
    order: list[Tensor] = []
    for row_group, start, end in _row_group_spans(layout):
        found = ((positions >= start) & (positions < end)).nonzero().squeeze(-1)
        if len(found) or not parts:  # so that no ids give no rows, of the right type
            parts.append(_latents_of_row_group(layout, tensors, row_group, positions[found] - start))
            order.append(found)
    return torch.cat(parts)[inverse_permutation(torch.cat(order))]


def _decode_traceable(layout: Layout, tensors: Mapping[str, Tensor], positions: Tensor) -> Tensor:
    """Traceable variant: decode all ids in all row groups, select with `torch.where`.

    Shapes in a graph must not depend on the values of ids. For rows of other row groups row 0 is decoded and dropped.
    """
    latents: Tensor | None = None
    for row_group, start, end in _row_group_spans(layout):
        inside = (positions >= start) & (positions < end)
        own = _latents_of_row_group(layout, tensors, row_group, torch.where(inside, positions - start, 0))
        latents = own if latents is None else torch.where(inside.unsqueeze(1), own, latents)
    assert latents is not None
    return latents


def _stored_positions(layout: Layout, tensors: Mapping[str, Tensor]) -> Tensor:
    """Where each row with latents is, `[rows]`, when the row groups are concatenated."""
    row_groups = tensors["latents.row_groups"]
    if not torch.compiler.is_compiling():
        return inverse_permutation(row_groups.argsort(stable=True))
    found = torch.zeros(layout.rows, dtype=torch.long, device=row_groups.device)
    for row_group, start, _ in _row_group_spans(layout):  # a graph has no stable sort
        inside = row_groups == row_group
        found = torch.where(inside, inside.cumsum(0, dtype=torch.long) + (start - 1), found)
    return found


def _row_group_spans(layout: Layout) -> list[tuple[int, int, int]]:
    """Each row group that has rows, and where it starts and ends when row groups are concatenated."""
    spans, start = [], 0
    for row_group, rows in enumerate(layout.row_group_sizes):
        if rows:
            spans.append((row_group, start, start + rows))
        start += rows
    return spans


def _split_kept(layout: Layout, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Whether each row of the table is kept, bool `[vocab]`, and where not its number among those with latents."""
    ids = tensors["kept.ids"].long()
    marks = torch.zeros(layout.vocab, dtype=torch.long, device=ids.device).scatter(0, ids, torch.ones_like(ids))
    kept = marks > 0
    return kept, torch.where(kept, 0, torch.arange(layout.vocab, device=ids.device) - marks.cumsum(0))
