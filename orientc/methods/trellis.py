"""Trellis codes for the rows of a table, row group by row group: scales, offsets and streams of bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orientc.methods.bit_rates import STEP, UNIT, gaussian_errors, gaussian_levels, widths
from orientc.methods.row_groups import row_group_numbers, spread_sample
from orientc.methods.table_rows import TableRows
from orientc.methods.trellis_search import nearest_streams
from orientc.modeling.factors import Factors
from orientc.modeling.layout import TRELLIS, Layout

_BLOCK = 4096  # rows coded together
_SAMPLE = 512  # rows of a row group that scales are fitted on before it is coded
_TINY, _HUGE = 2.0**-24, 65504.0  # float16's smallest and largest numbers


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
        for rows in self.row_groups[row_group].split(_BLOCK):
            yield rows, self.latents(rows), self.weights[rows]

    def moments(self) -> Moments:
        """Weights, weighted means and weighted squared deviations of each row group."""
        totals, means, deviations = [], [], []
        for number in range(len(self.row_groups)):
            total = self.weights.new_zeros(())
            first = second = self.weights.new_zeros(self.encoder.shape[1])
            shift = None
            for _, latents, weights in self.blocks(number):
                wide = latents.double()
                shift = wide[0] if shift is None else shift
                wide = wide - shift
                total, first, second = total + weights.sum(), first + weights @ wide, second + weights @ wide.square()
            assert shift is not None
            mean = first / total
            totals.append(total)
            means.append(mean + shift)
            deviations.append((second - total * mean.square()).clamp_min(0))
        return Moments(torch.stack(totals), torch.stack(means), torch.stack(deviations))


@dataclass(frozen=True)
class Moments:
    """Weights `[row groups]`, weighted means and squared deviations `[row groups, columns]`, float64."""

    totals: Tensor
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
        costs: Weighted squared error of each row, float64 `[rows]`.
    """

    widths: list[int]
    streams: Tensor
    scales: Tensor
    offsets: Tensor
    costs: Tensor


def code_row_group(source: Source, number: int, moments: Moments, rates: Tensor, window: int) -> Coded:
    """Code the rows of a row group; its scales and offsets are fitted to a sample, and to all its rows once coded.

    Args:
        source: The rows.
        number: Which row group.
        moments: Of the row groups.
        rates: Bits of each column, whole or not, `[columns]`.
        window: Bits of the code's window.
    """
    levels, own = gaussian_levels(window).to(rates.device), widths(rates)
    variance = moments.deviations[number] / moments.totals[number]
    share = gaussian_errors(window).to(rates.device)[(rates / STEP).round().long().clamp(0, round(8 / STEP))]
    scale = ((variance * (1 - share)).sqrt() / UNIT).float()
    offset = moments.means[number].float()
    scale, live = scale.clamp_min(_TINY), rates > 0

    def search(latents: Tensor) -> tuple[Tensor, Tensor]:
        step = torch.where(live, scale, 1)
        values = torch.where(live, (latents - offset) / step, 0)
        weights = torch.where(live, scale.square() / scale.square().mean().clamp_min(1e-38), 0)
        return nearest_streams(values, own, weights, levels)

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
        slope, _ = fitted(_sums(latents, search(latents)[1], weights))
        low, high = 0.5 * scale, 2 * scale
        scale = torch.where(slope > 0, ((slope.float() + scale) / 2).clamp(low, high), scale)
    streams, found, sums = [], [], None
    for _, latents, weights in source.blocks(number):
        stream, level = search(latents)
        streams.append(stream)
        found.append(level)
        own_sums = _sums(latents, level, weights)
        sums = own_sums if sums is None else sums + own_sums
    assert sums is not None
    slope, base = fitted(sums)
    scales, offsets = slope.clamp(-_HUGE, _HUGE).half(), base.clamp(-_HUGE, _HUGE).half()
    costs = [
        weights * (latents - offsets.float() - level.float() * scales.float()).square().sum(1).double()
        for (_, latents, weights), level in zip(source.blocks(number), found, strict=True)
    ]
    return Coded(own, torch.cat(streams), scales, offsets, torch.cat(costs))


def _sums(latents: Tensor, levels: Tensor, weights: Tensor) -> Tensor:
    wide, values = levels.double(), latents.double()
    return torch.stack(
        [weights.sum().expand(latents.shape[1]), weights @ wide, weights @ wide.square(), weights @ values,
         weights @ (wide * values)]
    )  # fmt: skip


def assembled(plain: Layout, source: Source, coded: list[Coded], window: int) -> Factors:
    """The compressed table of rows in codes, without its decoder.

    Args:
        plain: The layout but for the codes.
        source: The rows.
        coded: Each row group's.
        window: Bits of the code's window.
    """
    layout = replace(
        plain, codec=TRELLIS, group_size=1, window=window,
        bits=tuple(tuple(part.widths) for part in coded),
        row_group_sizes=tuple(len(rows) for rows in source.row_groups),
    )  # fmt: skip
    tensors = {
        "latents.codes": torch.cat([part.streams.flatten() for part in coded]),
        "latents.scales": torch.stack([part.scales for part in coded]),
        "latents.offsets": torch.stack([part.offsets for part in coded]),
        "latents.levels": gaussian_levels(window).to(source.table.device),
    }
    if len(coded) > 1:
        numbers = row_group_numbers(source.row_groups, len(source.table))
        tensors["latents.row_groups"] = numbers[torch.cat(source.row_groups).sort().values]
    return Factors(layout, tensors)
