"""Latents as codes: how rows of them are read.

Codes of b bits lie one behind the other, the lowest bit of the first one in the lowest bit of the first byte; every
group's codes start on a byte. This module imports nothing but torch and `layout`: it is part of the code that goes
along with an exported model.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from orientc.modeling.layout import PER_CHANNEL, PLAIN, Layout, packed_bytes


class _Span(NamedTuple):
    """Neighbouring columns that have codes, from `start` to `end`, each `width` of them with a scale, `scale` first."""

    start: int
    end: int
    width: int
    scale: int


class _Where(NamedTuple):
    """Where a row group's columns are in a row of its codes.

    A code of at most 8 bits lies in a byte `low [columns]`, and where it reaches beyond it in the next one, `high`. It
    is `low >> right | high << left`, of which `mask` tells its bits (uint8, `[columns, 1]`). `high` is None where no
    code does; elsewhere `left` is 8 and leaves nothing of it. Columns without bits have code 0. `whole` says that
    codes are nothing but the bytes, in order.
    """

    spans: list[_Span]
    whole: bool
    low: Tensor
    high: Tensor | None
    right: Tensor
    left: Tensor
    mask: Tensor


@functools.lru_cache(256)
@torch.inference_mode(False)
def _find(layout: Layout, row_group: int, device: torch.device) -> _Where:
    """Where the codes of a row group are; found once for each layout and device."""
    found = [(0, 0, 8, 0)] * layout.rank
    spans: list[_Span] = []
    for run in layout.runs(row_group):
        span = _Span(run.start, run.start + run.columns, 1 if layout.codec == PER_CHANNEL else run.width, run.scale)
        if spans and (spans[-1].end, spans[-1].width) == (span.start, span.width):
            span = spans.pop()._replace(end=span.end)
        spans.append(span)
        for place in range(run.columns):
            group, column = divmod(place, run.width)
            byte, before = divmod(column * run.bits, 8)
            byte += run.byte + group * packed_bytes(run.width, run.bits)
            reach = 8 - before if before + run.bits > 8 else 8
            found[run.start + place] = byte, before, reach, (1 << run.bits) - 1
    low, right, left, mask = zip(*found, strict=True)
    high = [byte + (own < 8) for byte, own in zip(low, left, strict=True)]

    def of_each(numbers: tuple[int, ...]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.uint8, device=device).unsqueeze(1)

    return _Where(
        spans=spans,
        whole=min(mask) == 255 and list(low) == list(range(len(low))),
        low=torch.tensor(low, device=device),
        high=torch.tensor(high, device=device) if min(left) < 8 else None,
        right=of_each(right),
        left=of_each(left),
        mask=of_each(mask),
    )


def _where(layout: Layout, row_group: int, device: torch.device) -> _Where:
    return (_find.__wrapped__ if torch.compiler.is_compiling() else _find)(layout, row_group, device)


def _codes(packed: Tensor, where: _Where) -> Tensor:
    """Codes `[columns, n]` (uint8) of rows of them `[n, bytes]`: columns first, so that each step passes over rows."""
    if where.whole:
        return packed.T
    stacked = packed.new_empty(packed.shape[1], packed.shape[0])
    stacked.T.copy_(packed)  # a third of the time of `packed.T.contiguous()`
    codes = stacked.index_select(0, where.low) >> where.right
    if where.high is not None:
        codes = codes | (stacked.index_select(0, where.high) << where.left)
    return codes & where.mask


def rows_of_latents(layout: Layout, tensors: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """Latents `[n, rank]` of rows `ids [n]`, counted among those that have latents."""
    if layout.codec == PLAIN:
        return torch.nn.functional.embedding(ids, tensors["latents"])
    if len(layout.row_group_sizes) == 1:  # index_select refuses ids below 0, as an embedding does
        return _of_row_group(layout, tensors, 0, ids).contiguous()
    at = _behind_each_other(layout, tensors).index_select(0, ids)
    return (_of_all_row_groups if torch.compiler.is_compiling() else _of_own_row_groups)(layout, tensors, at)


def _of_own_row_groups(layout: Layout, tensors: Mapping[str, Tensor], at: Tensor) -> Tensor:
    """Latents `[n, rank]` of the rows that are at `at [n]` when row groups lie one behind the other."""
    parts: list[Tensor] = []
    order: list[Tensor] = []
    for row_group, start, end in _row_group_spans(layout):
        found = ((at >= start) & (at < end)).nonzero().squeeze(-1)
        if len(found) or not parts:  # no ids at all are no rows all the same
            parts.append(_of_row_group(layout, tensors, row_group, at[found] - start))
            order.append(found)
    return torch.cat(parts)[inverse(torch.cat(order))]


def _of_all_row_groups(layout: Layout, tensors: Mapping[str, Tensor], at: Tensor) -> Tensor:
    """The same as a graph can hold it, whose shapes may not depend on the rows asked for: every row group is asked for all.

    Where a row is not its own it gives its first one.
    """
    found: Tensor | None = None
    for row_group, start, end in _row_group_spans(layout):
        inside = (at >= start) & (at < end)
        place = torch.where(inside, at - start, 0)
        own = _of_row_group(layout, tensors, row_group, place)
        found = own if found is None else torch.where(inside.unsqueeze(1), own, found)
    assert found is not None
    return found


def blocks_of_latents(layout: Layout, size: int) -> list[tuple[int, int]]:
    """Where to cut latents into blocks of at most `size` rows of one row group each, as (row group, first row in it)."""
    counts = layout.row_group_sizes or (layout.rows,)
    return [(row_group, start) for row_group, rows in enumerate(counts) for start in range(0, rows, size)]


def block_of_latents(layout: Layout, tensors: Mapping[str, Tensor], row_group: int, start: int, size: int) -> Tensor:
    """One such block, `[at most size, rank]`."""
    part = slice(start, start + size)
    if layout.codec == PLAIN:
        return tensors["latents"][part]
    return _of_row_group(layout, tensors, row_group, part)


def places(layout: Layout, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Where each row of the table is `[vocab]` when blocks lie one behind the other, kept rows last; None: in order.

    The blocks are those of `blocks_of_latents`.
    """
    tiered = len(layout.row_group_sizes) > 1
    if not layout.rows or (not tiered and not layout.kept):
        return None
    found = _behind_each_other(layout, tensors) if tiered else None
    if not layout.kept:
        return found
    kept, others = parted(layout, tensors)
    behind = layout.rows + kept.long().cumsum(0) - 1
    return torch.where(kept, behind, others if found is None else found[others])


def _behind_each_other(layout: Layout, tensors: Mapping[str, Tensor]) -> Tensor:
    """Where each row with latents is `[rows]` when row groups lie one behind the other; a graph has no stable sort."""
    row_groups = tensors["latents.row_groups"]
    if not torch.compiler.is_compiling():
        return inverse(row_groups.argsort(stable=True))
    found = torch.zeros(layout.rows, dtype=torch.long, device=row_groups.device)
    for row_group, start, _ in _row_group_spans(layout):
        inside = row_groups == row_group
        found = torch.where(inside, inside.cumsum(0, dtype=torch.long) + (start - 1), found)
    return found


def inverse(order: Tensor) -> Tensor:
    """Where each of the numbers 0 … n − 1 stands in an order of them `[n]`."""
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def _row_group_spans(layout: Layout) -> list[tuple[int, int, int]]:
    """Each row group that has rows, and where it starts and ends when they lie one behind the other."""
    spans, start = [], 0
    for row_group, rows in enumerate(layout.row_group_sizes):
        if rows:
            spans.append((row_group, start, start + rows))
        start += rows
    return spans


def parted(layout: Layout, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Which rows of a table are kept, `[vocab]`, and where each other row is among those with latents, `[vocab]`."""
    ids = tensors["kept.ids"].long()
    marks = torch.zeros(layout.vocab, dtype=torch.long, device=ids.device).scatter(0, ids, torch.ones_like(ids))
    kept = marks > 0
    return kept, torch.where(kept, 0, torch.arange(layout.vocab, device=ids.device) - marks.cumsum(0))


def _float_type(tensors: Mapping[str, Tensor], scales: Tensor) -> torch.dtype:
    """The type latents are computed in: that of the other floats, where there are any, else of the scales."""
    others = ("decoder.weight", "kept.rows")
    return next((tensors[name].dtype for name in others if name in tensors), scales.dtype)


def _of_row_group(layout: Layout, tensors: Mapping[str, Tensor], row_group: int, rows: Tensor | slice) -> Tensor:
    """Latents `[n, rank]` of some of a row group's rows: `code · scale + offset`, and 0 where a group has no bits.

    They are a view of `[rank, n]`.
    """

    def taken(part: Tensor) -> Tensor:
        return part[rows] if isinstance(rows, slice) else part.index_select(0, rows)

    codes, scales, offsets = (tensors[f"latents.{row_group}.{name}"] for name in ("codes", "scales", "offsets"))
    where, dtype = _where(layout, row_group, codes.device), _float_type(tensors, scales)
    scales, offsets = (
        (part.unsqueeze(1) if layout.codec == PER_CHANNEL else taken(part).T).to(dtype).unsqueeze(1)
        for part in (scales, offsets)
    )
    numbers = _codes(taken(codes), where).to(dtype)
    parts, column = [], 0
    for start, end, width, scale in where.spans:
        if start > column:
            parts.append(numbers[column:start])  # without bits, which is 0
        coded, own = numbers[start:end].unflatten(0, (-1, width)), slice(scale, scale + (end - start) // width)
        parts.append(torch.addcmul(offsets[own], coded, scales[own]).flatten(0, 1))
        column = end
    if column < layout.rank:
        parts.append(numbers[column:])
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).T
