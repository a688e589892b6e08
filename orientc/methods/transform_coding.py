"""Transform coding: rows in the eigenbasis of the importance matrix, as trellis codes, bits by reverse water-filling.

The coordinates are those of `svd.truncated_svd` at full rank under the importance matrix: uncorrelated, and errors in
them add up. Each row group and column has a rate by its share of the cost: reverse water-filling (Cover and Thomas,
Elements of Information Theory, 10.3.3). Columns that get no bits in any row group are left out: the rank is smaller by
them. Rows that would cost more in codes than the bytes they take are kept as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from orientc.methods.bit_rates import rates_within
from orientc.methods.effort import FAST, WIDEST
from orientc.methods.importance import Importance
from orientc.methods.per_group import error_feedback
from orientc.methods.row_groups import row_groups_of
from orientc.methods.svd import principal_basis
from orientc.methods.table_rows import TableRows
from orientc.methods.trellis import Moments, Source, assembled, code_row_group
from orientc.modeling.factors import Factors
from orientc.modeling.layout import WINDOWS, Layout

_TRIAL = 10  # the window by which rows to keep are found
_LEVELS_SHARE = 1 / 128  # of all bytes, for the table of levels at most
_MOST_KEPT = 1 / 16  # of the rows
_ID_BYTES = 4
_SMALLEST = 32  # rows of a row group: the most frequent tokens differ most in how frequent they are


@dataclass(frozen=True)
class _Decoder:
    """A decoder's weight in whole numbers, int8 `[dim, rank]`, times scales, float16 `[rank]`."""

    numbers: Tensor
    scales: Tensor

    def encoder(self, rank: int, matrix: Tensor) -> Tensor:
        """What gives the latents of least cost for the first columns, the last of them first; float32 `[dim, rank]`."""
        weight = (self.numbers.double() * self.scales.double())[:, :rank].flip(1)
        taken = matrix @ weight
        found: Tensor = torch.linalg.solve(weight.T @ taken, taken.T).T
        return found.float().contiguous()


@torch.no_grad()
def transform_code(
    table: TableRows, nbytes: int, importance: Importance, *, dtype: torch.dtype, effort: str = FAST
) -> Factors | None:
    """Compress a table to a number of bytes by transform coding.

    Args:
        table: `[vocab, dim]` of any float type.
        nbytes: Bytes that the tensors may take.
        importance: What a change of a row costs.
        dtype: Type that kept rows will be stored in.
        effort: "fast" or "best": how far the search for codes looks back.

    Returns:
        The compressed table; None where `nbytes` is too small for a decoder and codes.
    """
    vocab, dim = table.shape
    window = max((own for own in WINDOWS if 2 << own <= nbytes * _LEVELS_SHARE), default=WINDOWS[0])
    window = min(window, WIDEST[effort])
    basis = principal_basis(table, importance=importance)
    encoder, weight = basis.encoder, basis.decoder.double()
    decoder = _rounded(weight, importance.matrix)
    row_groups = row_groups_of(importance.weights, _SMALLEST)
    whole = Source(table, encoder.float(), importance.weights, row_groups)
    moments = whole.moments()

    def budget(rank: int, groups: int, kept: int) -> int:
        """Bytes that are left for streams."""
        about_rows = vocab - kept if groups > 1 else 0
        taken = dim * rank + 2 * rank + 4 * groups * rank + about_rows + (2 << window)
        return nbytes - taken - kept * (dim * dtype.itemsize + _ID_BYTES)

    rank = dim
    while True:
        left = budget(rank, len(row_groups), 0)
        if left * 8 < vocab:  # not a bit for a row
            return None
        rates = _rates(moments.deviations[:, :rank], whole, left, window)
        if not bool(rates.any()):
            return None
        used = int(rates.any(0).nonzero().max()) + 1
        if used == rank:
            break
        rank = used
    own = decoder.encoder(rank, importance.matrix)
    kept = _rows_to_keep(Source(table, own, importance.weights, row_groups), rates.flip(1), dtype)
    marks = torch.zeros(vocab, dtype=torch.bool, device=table.device)
    marks[kept] = True
    groups = [rows[~marks[rows]] for rows in row_groups]
    source = Source(table, own, importance.weights, [rows for rows in groups if len(rows)])
    left = budget(rank, len(source.row_groups), len(kept))
    final = source.moments()
    rates = _rates(final.deviations, source, left, window)
    coded = [code_row_group(source, number, final, rates[number], window) for number in range(len(source.row_groups))]
    factors = assembled(Layout(vocab - len(kept), dim, rank, rounded=True), source, coded, window)
    with_decoder = {
        "decoder.weight": decoder.numbers[:, :rank].flip(1).contiguous(),
        "decoder.scales": decoder.scales[:rank].flip(0).contiguous(),
    }
    factors = factors.with_tensors({**factors.tensors, **with_decoder})
    return factors.with_kept(kept, table[kept].float()) if len(kept) else factors


def _rates(deviations: Tensor, source: Source, nbytes: int, window: int) -> Tensor:
    """Rates by which the streams fill whole bytes, and take `nbytes` at most; `[row groups, columns]`."""
    counts = torch.tensor([len(rows) for rows in source.row_groups], dtype=torch.float64, device=deviations.device)
    rates = rates_within(deviations, counts, 8 * nbytes, window)
    bits = rates.sum(1)
    sizes = (bits / 8).floor()
    left = nbytes - float((sizes * counts).sum())
    for number in (bits / 8 - sizes).argsort(descending=True).tolist():
        if bits[number] > 8 * sizes[number] and counts[number] <= left:
            sizes[number] += 1
            left -= float(counts[number])
    return rates * (8 * sizes / bits.clamp_min(1e-9)).unsqueeze(1)


def _rows_to_keep(source: Source, rates: Tensor, dtype: torch.dtype) -> Tensor:
    """Ids, ascending, of the rows whose cost in codes is above what their bytes would save as codes of other rows."""
    moments: Moments = source.moments()
    costs = torch.zeros_like(source.weights)
    sizes = torch.zeros_like(source.weights)
    for number, rows in enumerate(source.row_groups):
        coded = code_row_group(source, number, moments, rates[number], _TRIAL)
        costs[rows], sizes[rows] = coded.costs, float(coded.streams.shape[1])
    counts = torch.tensor([len(rows) for rows in source.row_groups], device=rates.device)
    numbers = float(((rates > 0).sum(1) * counts).sum())
    worth = 2 * math.log(2) * 8 / numbers * float(costs.sum())  # of a byte: six decibels a bit, for all numbers
    price = (source.table.shape[1] * dtype.itemsize + _ID_BYTES - sizes) * worth
    count = min(int((costs > price).sum()), int(len(costs) * _MOST_KEPT))
    gains: Tensor = (costs - price).argsort(descending=True, stable=True)[:count]
    return gains.sort().values


def _rounded(weight: Tensor, matrix: Tensor) -> _Decoder:
    """A decoder in 8 bits, rounded row by row with the error fed back to the rows to come, as the metric allows."""
    scales = (weight.abs().amax(0) / 127).clamp_min(2.0**-24).half()
    left, upper = (weight / scales.double()).float(), error_feedback(matrix)
    numbers = torch.empty_like(left)
    for row in range(len(left)):
        numbers[row] = left[row].round().clamp(-127, 127)
        if upper is not None and row + 1 < len(left):
            error = (left[row] - numbers[row]) / upper[row, row]
            left[row + 1 :] -= upper[row, row + 1 :].unsqueeze(1) * error
    return _Decoder(numbers.to(torch.int8), scales)
