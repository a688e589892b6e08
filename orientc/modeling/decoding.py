"""Read latents out of a compressed table's tensors: any rows by their ids, or all of them block by block.

Rows of a table fall into *kept* rows, which are stored as they are, and rows with latents. Latents in codes are stored
row group by row group; within one, rows are in the order of their ids.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from orientc.modeling.ggml_blocks import decode_blocks
from orientc.modeling.layout import GGML, PLAIN, TRELLIS, Layout, packed_bytes
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
    if layout.codec == GGML:
        return _latents_of_blocks(layout, tensors, ids)
    if layout.codec == TRELLIS:
        return _latents_of_streams(layout, tensors, ids)
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
    if layout.codec == GGML:
        return _latents_of_blocks(layout, tensors, part)
    if layout.codec == TRELLIS:
        scales, offsets = tensors["latents.scales"], tensors["latents.offsets"]
        levels = tensors["latents.levels"].to(dtype := float_type(tensors, scales))
        own = _levels_of_block(layout, tensors, levels, row_group, part)
        return torch.addcmul(offsets[row_group].unsqueeze(1).to(dtype), own, scales[row_group].unsqueeze(1).to(dtype)).T
    return _latents_of_row_group(layout, tensors, row_group, part)


def level_blocks(
    layout: Layout, tensors: Mapping[str, Tensor], dtype: torch.dtype, size: int
) -> Iterator[tuple[int, Tensor]]:
    """The levels of streams block by block.

    Args:
        layout: How the tensors are laid out: as streams.
        tensors: The tensors by name.
        dtype: Type of the levels, which are whole numbers of 8 bits.
        size: Rows of a block at most; all of them belong to one row group.

    Yields:
        The row group, and levels `[rows, rank]`, a view of a contiguous `[rank, rows]`.
    """
    levels = tensors["latents.levels"].to(dtype)
    for row_group, start in latent_blocks(layout, size) if layout.rows else ():
        yield row_group, _levels_of_block(layout, tensors, levels, row_group, slice(start, start + size)).T


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
        columns = _ScaledColumns(run.start, run.start + run.columns, run.width, run.scale)
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

    codes, scales, offsets = (tensors[f"latents.{row_group}.{name}"] for name in ("codes", "scales", "offsets"))
    find = _row_group_coding.__wrapped__ if torch.compiler.is_compiling() else _row_group_coding
    coding, dtype = find(layout, row_group, codes.device), float_type(tensors, scales)
    scales, offsets = (_chosen(part, rows).T.to(dtype).unsqueeze(1) for part in (scales, offsets))
    numbers = unpack(_chosen(codes, rows), coding.positions).to(dtype)
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


class _Windows(NamedTuple):
    """Which bits of a row say what the latent of each column is: `word >> right & mask`, plus `table`.

    The word is three bytes, of which the last is number `byte` of the row. All are `[row groups, rank]`.

    Attributes:
        byte: The byte with the column's last bit, int64.
        right: Bits behind that one, int32.
        mask: As many bits as there are, at most a window, int32.
        table: 0 for a column that adds no bits, else how many levels a table has, int32.
    """

    byte: Tensor
    right: Tensor
    mask: Tensor
    table: Tensor


@functools.lru_cache(64)
@torch.inference_mode(False)
def _windows(layout: Layout, device: torch.device) -> _Windows:
    """The windows of a layout; cached for each device."""
    found: list[list[tuple[int, int, int, int]]] = []
    for bits in layout.bits:
        end, own = 0, []
        for width in bits:
            end += width
            last = max(0, end - 1)
            mask = (1 << min(end, layout.window)) - 1
            own.append((last // 8, 7 - last % 8, mask, (1 << layout.window) if width else 0))
        found.append(own)
    whole = torch.tensor(found, device=device).permute(2, 0, 1)
    return _Windows(whole[0].contiguous(), *(part.to(torch.int32) for part in whole[1:]))


def _found_windows(layout: Layout, device: torch.device) -> _Windows:
    return (_windows.__wrapped__ if torch.compiler.is_compiling() else _windows)(layout, device)


def _latents_of_streams(layout: Layout, tensors: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """Latents `[n, rank]` of some rows, `[n]`, whose bits are streams."""
    codes, streams, scales = tensors["latents.codes"], layout.streams, tensors["latents.scales"]
    windows, dtype = _found_windows(layout, codes.device), float_type(tensors, scales)
    levels, scales, offsets = (tensors[f"latents.{name}"].to(dtype) for name in ("levels", "scales", "offsets"))
    if len(streams) == 1:
        word = _turned_words(codes.view(streams[0].rows, streams[0].size).index_select(0, ids))
        byte, right, mask, table = (part[0].unsqueeze(1) for part in windows)
        found = _looked_up(levels, word.index_select(0, byte.squeeze(1)), right, mask, table)
        return torch.addcmul(offsets, found.T.contiguous(), scales)
    own = tensors["latents.row_groups"].index_select(0, ids).long()
    first = torch.tensor([0, *(part.rows for part in streams[:-1])], device=codes.device).cumsum(0)
    begin, size = (
        torch.tensor([getattr(part, name) for part in streams], device=codes.device) for name in ("start", "size")
    )
    places = _stored_positions(layout, tensors).index_select(0, ids) - first.index_select(0, own)
    starts = begin.index_select(0, own) + places * size.index_select(0, own)
    # as many bytes as the longest stream has: those behind a shorter one are in no window of its columns
    width = max(part.size for part in streams)
    there = (starts.unsqueeze(1) + torch.arange(width, device=codes.device)).clamp(max=max(0, len(codes) - 1))
    taken = codes.index_select(0, there.flatten()).view_as(there)
    word = _words(torch.nn.functional.pad(taken, (2, 0 if width else 1)).to(torch.int32), 1)
    byte, right, mask, table = (part.index_select(0, own) for part in windows)
    found = _looked_up(levels, word.gather(1, byte), right, mask, table)
    return torch.addcmul(offsets.index_select(0, own), found, scales.index_select(0, own))


def _levels_of_block(
    layout: Layout, tensors: Mapping[str, Tensor], levels: Tensor, row_group: int, rows: slice
) -> Tensor:
    """The levels of some rows of a row group, `[rank, n]` in the type of `levels`, which are looked up."""
    streams, codes = layout.streams[row_group], tensors["latents.codes"]
    byte, right, mask, table = (part[row_group].unsqueeze(1) for part in _found_windows(layout, codes.device))
    word = _turned_words(codes[streams.start : streams.end].view(streams.rows, streams.size)[rows])
    return _looked_up(levels, word.index_select(0, byte.squeeze(1)), right, mask, table)


def _turned_words(streams: Tensor) -> Tensor:
    """Each byte of streams `[n, bytes]` with the two before it, int32 `[bytes, n]`; of no bytes one word that is 0.

    Columns come first, so that each step passes over all rows at once. Bytes are turned about before they are widened,
    which takes a third of the time.
    """
    rows, size = streams.shape
    turned = streams.new_zeros(2 + max(1, size), rows)  # two bytes of nothing come before a stream
    turned[2 : 2 + size].T.copy_(streams)
    return _words(turned.to(torch.int32), 0)


def _words(padded: Tensor, dim: int) -> Tensor:
    """Each byte but the first two, of int32, with the two before it along a dimension."""
    first, second, third = (padded.narrow(dim, start, padded.shape[dim] - 2) for start in range(3))
    return torch.add(third, torch.add(second, first, alpha=256), alpha=256)


def _looked_up(levels: Tensor, words: Tensor, right: Tensor, mask: Tensor, table: Tensor) -> Tensor:
    """Levels by the word that each column's window is in, of the same shape; words are used up. See `_Windows`."""
    words >>= right
    words &= mask
    words += table
    return levels.flatten().index_select(0, words.flatten()).view_as(words)


def _latents_of_blocks(layout: Layout, tensors: Mapping[str, Tensor], rows: Tensor | slice) -> Tensor:
    """Latents `[n, rank]` of some rows, `[n]` or a slice, that are held in ggml's blocks."""
    codes, scales = tensors["latents.codes"], tensors["latents.scales"]
    chosen = _chosen(scales, rows).to(float_type(tensors, scales))
    return decode_blocks(layout.block, _chosen(codes, rows), chosen)


def _chosen(part: Tensor, rows: Tensor | slice) -> Tensor:
    return part[rows] if isinstance(rows, slice) else part.index_select(0, rows)


def float_type(tensors: Mapping[str, Tensor], scales: Tensor) -> torch.dtype:
    """The type latents are computed in: that of the other floats where there are any, else of the scales."""
    others = (tensors.get(name) for name in ("decoder.weight", "decoder.bias", "kept.rows"))
    return next((part.dtype for part in others if part is not None and part.is_floating_point()), scales.dtype)


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
