"""Latents as codes: how rows of them are read.

Codes of b bits lie one behind the other, the lowest bit of the first one in the lowest bit of the first byte; every
group's codes start on a byte. This module imports nothing but torch and `layout`: it is part of the code that goes
along with an exported model.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from orientc.layout import CODEBOOK, COLUMNS, TIERED, Layout, packed_bytes


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Codes `[..., count]` from bytes `[..., packed_bytes(count, bits)]`, as whole numbers of some type."""
    if bits == 8:
        return packed
    if 8 % bits == 0:
        shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.uint8)
        few: Tensor = ((packed.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(-2)[..., :count]
        return few
    padded = torch.nn.functional.pad(packed, (0, -packed.shape[-1] % bits))
    words = padded.unflatten(-1, (-1, bits)).to(torch.int64 if bits > 3 else torch.int32)  # 8 codes each
    shifts = torch.arange(bits, device=packed.device, dtype=words.dtype) * 8
    size = 4 if bits == 7 else bits  # ONNX Runtime adds whole numbers up as floats, which hold 53 bits: 6 bytes, not 7
    parts = [part.sum(-1, keepdim=True, dtype=words.dtype) for part in (words << shifts).split(size, dim=-1)]
    whole = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    shifts = torch.arange(8, device=packed.device, dtype=words.dtype) * bits
    codes: Tensor = ((whole >> shifts) & ((1 << bits) - 1)).flatten(-2)[..., :count]
    return codes


def rows_of_latents(layout: Layout, tensors: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """Latents `[n, rank]` of rows `ids [n]`, counted among those that have latents."""
    if layout.codec == CODEBOOK:
        codes, scales = (tensors[f"latents.{name}"].index_select(0, ids) for name in ("codes", "scales"))
        return _entries(layout, tensors, codes, scales)
    if layout.codec not in TIERED:
        return torch.nn.functional.embedding(ids, tensors["latents"])
    if len(layout.tier_rows) == 1:  # index_select refuses ids below 0, as an embedding does
        return _of_tier(layout, tensors, 0, ids)
    at = _behind_each_other(layout, tensors).index_select(0, ids)
    return (_of_all_tiers if torch.compiler.is_compiling() else _of_own_tiers)(layout, tensors, at)


def _of_own_tiers(layout: Layout, tensors: Mapping[str, Tensor], at: Tensor) -> Tensor:
    """Latents `[n, rank]` of the rows that are at `at [n]` when tiers lie one behind the other."""
    parts, order = [], []
    for tier, start, end in _spans(layout):
        found = ((at >= start) & (at < end)).nonzero().squeeze(-1)
        place = at[found] - start
        parts.append(_of_tier(layout, tensors, tier, place))
        order.append(found)
    return torch.cat(parts)[torch.cat(order).argsort()]


def _of_all_tiers(layout: Layout, tensors: Mapping[str, Tensor], at: Tensor) -> Tensor:
    """The same as a graph can hold it, whose shapes may not depend on the rows asked for: every tier is asked for all.

    Where a row is not its own it gives its first one.
    """
    found: Tensor | None = None
    for tier, start, end in _spans(layout):
        inside = (at >= start) & (at < end)
        place = torch.where(inside, at - start, 0)
        own = _of_tier(layout, tensors, tier, place)
        found = own if found is None else torch.where(inside.unsqueeze(1), own, found)
    assert found is not None
    return found


def blocks_of_latents(layout: Layout, size: int) -> list[tuple[int, int]]:
    """Where to cut latents into blocks of at most `size` rows of one tier each, as (tier, first row in it)."""
    counts = layout.tier_rows or (layout.rows,)
    return [(tier, start) for tier, rows in enumerate(counts) for start in range(0, rows, size)]


def block_of_latents(layout: Layout, tensors: Mapping[str, Tensor], tier: int, start: int, size: int) -> Tensor:
    """One such block, `[at most size, rank]`."""
    part = slice(start, start + size)
    if layout.codec == CODEBOOK:
        return _entries(layout, tensors, tensors["latents.codes"][part], tensors["latents.scales"][part])
    if layout.codec in TIERED:
        return _of_tier(layout, tensors, tier, part)
    return tensors["latents"][part]


def places(layout: Layout, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Where each row of the table is `[vocab]` when blocks lie one behind the other, kept rows last; None: in order.

    The blocks are those of `blocks_of_latents`.
    """
    tiered = layout.codec in TIERED and len(layout.tier_rows) > 1
    if not layout.rows or (not tiered and not layout.kept):
        return None
    found = _behind_each_other(layout, tensors) if tiered else None
    if not layout.kept:
        return found
    kept, others = parted(layout, tensors)
    behind = layout.rows + kept.long().cumsum(0) - 1
    return torch.where(kept, behind, others if found is None else found[others])


def _behind_each_other(layout: Layout, tensors: Mapping[str, Tensor]) -> Tensor:
    """Where each row with latents is `[rows]` when tiers lie one behind the other."""
    tiers = tensors["latents.tiers"]
    found = torch.zeros(layout.rows, dtype=torch.long, device=tiers.device)
    for tier, start, _ in _spans(layout):
        inside = tiers == tier
        found = torch.where(inside, inside.cumsum(0, dtype=torch.long) + (start - 1), found)
    return found


def _spans(layout: Layout) -> list[tuple[int, int, int]]:
    """Each tier that has rows, and where it starts and ends when they lie one behind the other."""
    spans, start = [], 0
    for tier, rows in enumerate(layout.tier_rows):
        if rows:
            spans.append((tier, start, start + rows))
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
    others = ("decoder.weight", "kept.rows", "latents.norms")
    return next((tensors[name].dtype for name in others if name in tensors), scales.dtype)


def _of_tier(layout: Layout, tensors: Mapping[str, Tensor], tier: int, rows: Tensor | slice) -> Tensor:
    """Latents `[n, rank]` of some of a tier's rows: `code · scale + offset`, and 0 where a group has no bits."""

    def taken(part: Tensor) -> Tensor:
        return part[rows] if isinstance(rows, slice) else part.index_select(0, rows)

    codes, scales, offsets = (tensors[f"latents.{tier}.{name}"] for name in ("codes", "scales", "offsets"))
    codes, shared = taken(codes), layout.codec == COLUMNS
    dtype = _float_type(tensors, scales)
    scales, offsets = ((part if shared else taken(part)).to(dtype) for part in (scales, offsets))
    parts, column = [], 0
    for run in layout.runs(tier):
        if run.start > column:
            parts.append(scales.new_zeros(codes.shape[0], run.start - column))
        size = packed_bytes(run.width, run.bits)
        packed = codes[:, run.byte : run.byte + run.nbytes].unflatten(1, (run.groups, size))
        numbers = unpack(packed, run.bits, run.width).to(dtype)
        if shared:
            own = slice(run.scale, run.scale + run.columns)
            parts.append(torch.addcmul(offsets[own], numbers.flatten(1), scales[own]))
        else:
            own = slice(run.scale, run.scale + run.groups)
            parts.append((numbers * scales[:, own, None] + offsets[:, own, None]).flatten(1))
        column = run.start + run.columns
    if column < layout.rank:
        parts.append(scales.new_zeros(codes.shape[0], layout.rank - column))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _entries(layout: Layout, tensors: Mapping[str, Tensor], codes: Tensor, scales: Tensor) -> Tensor:
    """Latents `[n, rank]` put together from the codebooks' entries."""
    codebook = tensors["latents.codebook"]
    chosen = unpack(codes, layout.bits[0][0], layout.groups).long()
    columns = codebook[torch.arange(layout.groups, device=codes.device), chosen].flatten(1)[:, : layout.rank]
    dtype = _float_type(tensors, scales)
    return columns.to(dtype) * scales.to(dtype).unsqueeze(1)
