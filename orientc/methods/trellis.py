"""Trellis codes for the rows of a table, row group by row group: scales, offsets and streams of bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orientc.methods.bit_rates import STEP, UNIT, gaussian_errors, gaussian_levels, widths
from orientc.methods.row_groups import row_group_numbers, spread_sample
from orientc.methods.table_rows import TableRows
from orientc.methods.trellis_search import nearest_streams
from orientc.modeling.decoding import latent_block
from orientc.modeling.factors import Factors
from orientc.modeling.layout import TRELLIS, Layout

_BLOCK = 1024  # rows coded together
_NUMBERS = 1 << 22  # at most of them
_SAMPLE = 512  # rows of a row group that scales are fitted on before it is coded
_TINY = 2.0**-24  # float16's smallest number


@dataclass(frozen=True)
class Source:
    """Rows as latents, a block at a time, so that all of them are never held.

    Attributes:
        table: `[vocab, dim]` of any float type.
        encoder: Float32 `[dim, rank]`, the columns in the order of a stream.
        weights: Weights of all rows, float64 `[vocab]`.
        row_groups: The ids of the rows of each row group, ascending.
    """

    table: TableRows
    encoder: Tensor
    weights: Tensor
    row_groups: list[Tensor]

    def latents(self, rows: Tensor) -> Tensor:
        """Latents of some rows, float32 `[n, rank]`."""
        return self.table[rows].float() @ self.encoder

    def blocks(self, row_group: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Ids, latents and weights of a row group's rows, a block at a time."""
        size = max(1, min(_BLOCK, _NUMBERS // self.table.shape[1]))
        for rows in self.row_groups[row_group].split(size):
            yield rows, self.latents(rows), self.weights[rows]

    def moments(self, row_group: int) -> Moments:
        """The weight of a row group, and its weighted means and squared deviations.

        They are allocated first: made between larger temporaries they would leave gaps in memory.
        """
        columns = self.encoder.shape[1]
        total, means, deviations = (self.weights.new_zeros(shape) for shape in ((), columns, columns))
        shift = self.latents(self.row_groups[row_group][:1])[0].double()
        for _, latents, weights in self.blocks(row_group):
            wide = latents.double().sub_(shift)
            total += weights.sum()
            means += weights @ wide
            deviations += weights @ wide.square_()
        means /= total
        deviations.sub_(total * means.square()).clamp_min_(0)
        means += shift
        return Moments(total, means, deviations)


@dataclass(frozen=True)
class Moments:
    """The weight of a row group, `[]`, and its weighted means and squared deviations, `[columns]`; float64."""

    total: Tensor
    means: Tensor
    deviations: Tensor


@dataclass(frozen=True)
class Coded:
    """A row group in codes.

    Attributes:
        widths: What each column adds to a stream.
        streams: uint8 `[rows, bytes]`.
        scales: float16 `[columns]`, of the levels.
        offsets: float16 `[columns]`.
    """

    widths: list[int]
    streams: Tensor
    scales: Tensor
    offsets: Tensor


def code_row_group(source: Source, number: int, moments: Moments, rates: Tensor, window: int) -> Coded:
    """Code the rows of a row group; its scales and offsets are fitted to a sample, and to all its rows once coded.

    Args:
        source: The rows.
        number: Which row group.
        moments: Of that row group.
        rates: Bits of each column, whole or not, `[columns]`.
        window: Bits of the code's window.
    """
    levels, own = gaussian_levels(window).to(rates.device), widths(rates)
    variance = moments.deviations / moments.total
    share = gaussian_errors(window).to(rates.device)[(rates / STEP).round().long().clamp(0, round(8 / STEP))]
    scale = ((variance * (1 - share)).sqrt() / UNIT).float()
    offset = moments.means.float()
    live = rates > 0
    scale = torch.where(live, scale.clamp_min(_TINY), 0)

    def fitted(sums: Tensor) -> tuple[Tensor, Tensor]:
        """Least squares of values by levels, from weighted sums of 1, level, level², value, value · level."""
        total, level, square, value, both = sums
        spread = square - level.square() / total
        slope = torch.where(spread > 0, (both - level * value / total) / spread.clamp_min(1e-300), 0)
        slope = torch.where(live, slope, 0)
        return slope, (value - slope * level) / total

    if bool(live.any()):
        rows = spread_sample(source.row_groups[number], _SAMPLE)
        latents, weights = source.latents(rows), source.weights[rows]
        slope, _ = fitted(_sums(latents, nearest_codes(latents, own, scale, offset, levels)[1], weights))
        low, high = 0.5 * scale, 2 * scale
        scale = torch.where(slope > 0, ((slope.float() + scale) / 2).clamp(low, high), scale)
    streams = torch.empty(
        len(source.row_groups[number]), -(-sum(own) // 8), dtype=torch.uint8, device=source.table.device
    )
    start, sums = 0, torch.zeros(5, len(own), dtype=torch.float64, device=source.table.device)
    for rows, latents, weights in source.blocks(number):
        streams[start : start + len(rows)], level = nearest_codes(latents, own, scale, offset, levels)
        sums += _sums(latents, level, weights)
        start += len(rows)
    slope, base = fitted(sums)
    return Coded(own, streams, slope.half(), base.half())


def nearest_codes(
    latents: Tensor, bits: Sequence[int], scales: Tensor, offsets: Tensor, levels: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the streams whose latents `level · scale + offset` are nearest to given ones.

    Args:
        latents: `[rows, columns]`.
        bits: What each column adds to a stream.
        scales: `[columns]`, 0 where a column is the offset alone.
        offsets: `[columns]`.
        levels: As `nearest_streams` takes them.

    Returns:
        Streams and levels, as `nearest_streams` gives them.
    """
    live, squares = scales != 0, scales.square()
    values = torch.where(live, (latents - offsets) / torch.where(live, scales, 1), 0)
    return nearest_streams(values, bits, squares / squares.mean().clamp_min(1e-38), levels)


def costs_of_rows(source: Source, number: int, coded: Coded, window: int) -> Tensor:
    """The weighted squared error of each row of a row group in codes, float64 `[rows]`; arguments as above."""
    count, rank = len(coded.streams), len(coded.widths)
    layout = Layout(
        count, rank, rank, decoder=False, codec=TRELLIS, group_size=1, window=window, bits=(tuple(coded.widths),),
        row_group_sizes=(count,),
    )  # fmt: skip
    tensors = {
        "latents.codes": coded.streams.flatten(),
        "latents.scales": coded.scales.float().unsqueeze(0),
        "latents.offsets": coded.offsets.float().unsqueeze(0),
        "latents.levels": gaussian_levels(window).to(source.table.device),
    }
    start, costs = 0, torch.empty(count, dtype=torch.float64, device=source.table.device)
    for rows, latents, weights in source.blocks(number):
        decoded = latent_block(layout, tensors, 0, start, len(rows))
        costs[start : start + len(rows)] = weights * (latents - decoded).square().sum(1).double()
        start += len(rows)
    return costs


def _sums(latents: Tensor, levels: Tensor, weights: Tensor) -> Tensor:
    wide, values = levels.double(), latents.double()
    return torch.stack(
        [weights.sum().expand(latents.shape[1]), weights @ wide, weights @ wide.square(), weights @ values,
         weights @ (wide * values)]
    )  # fmt: skip


def code_rows(plain: Layout, source: Source, moments: Sequence[Moments], rates: Tensor, window: int) -> Factors:
    """The compressed table of rows in codes, without its decoder.

    Args:
        plain: The layout but for the codes.
        source: The rows.
        moments: Of each row group.
        rates: Bits of each column of each row group, whole or not, `[row groups, columns]`.
        window: Bits of the code's window.
    """
    layout = replace(
        plain, codec=TRELLIS, group_size=1, window=window,
        bits=tuple(tuple(widths(own)) for own in rates),
        row_group_sizes=tuple(len(rows) for rows in source.row_groups),
    )  # fmt: skip
    codes = torch.empty(layout.streams[-1].end, dtype=torch.uint8, device=source.table.device)
    scales, offsets = (torch.empty(rates.shape, dtype=torch.float16, device=source.table.device) for _ in range(2))
    for number, place in enumerate(layout.streams):
        coded = code_row_group(source, number, moments[number], rates[number], window)
        codes[place.start : place.end] = coded.streams.flatten()
        scales[number], offsets[number] = coded.scales, coded.offsets
    tensors = {
        "latents.codes": codes,
        "latents.scales": scales,
        "latents.offsets": offsets,
        "latents.levels": gaussian_levels(window).to(source.table.device),
    }
    if len(scales) > 1:
        numbers = row_group_numbers(source.row_groups, len(source.table))
        tensors["latents.row_groups"] = numbers[torch.cat(source.row_groups).sort().values]
    return Factors(layout, tensors)
