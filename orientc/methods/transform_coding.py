"""Transform coding: rows in the eigenbasis of the importance matrix, as trellis codes, bits by reverse water-filling.

The coordinates are those of `svd.truncated_svd` at full rank under the importance matrix: uncorrelated, and errors in
them add up. Each row group and column has a rate by its share of the cost: reverse water-filling (Cover and Thomas,
Elements of Information Theory, 10.3.3). Columns that get no bits in any row group are left out: the rank is smaller by
them. Rows that would cost more in codes than the bytes they take are kept as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orientc.methods.bit_rates import rates_within
from orientc.methods.effort import FAST, WIDEST
from orientc.methods.importance import Importance
from orientc.methods.linear_algebra import STRIP, cholesky, mirror, norms
from orientc.methods.per_group import error_feedback
from orientc.methods.row_groups import row_groups_of
from orientc.methods.svd import principal_basis
from orientc.methods.table_rows import TableRows
from orientc.methods.trellis import Moments, Source, code_row_group, code_rows, costs_of_rows
from orientc.modeling.factors import Factors
from orientc.modeling.layout import WINDOWS, Layout

_TRIAL = 10  # the window by which rows to keep are found
_LEVELS_SHARE = 1 / 128  # of all bytes, for the table of levels at most
_MOST_KEPT = 1 / 16  # of the rows
_ID_BYTES = 4
_OUTLIER = 3.0  # times the mean
_ROWS = 128  # of a decoder, rounded before the rows behind them are changed
_SMALLEST = 32  # rows of a row group: the most frequent tokens differ most in how frequent they are


@dataclass(frozen=True)
class _Decoder:
    """A decoder's weight in whole numbers, int8 `[dim, rank]`, times scales, float16 `[rank]`."""

    numbers: Tensor
    scales: Tensor

    def columns(self, strip: slice) -> Tensor:
        """Some columns of the weight, float64 `[dim, n]`."""
        return self.numbers[:, strip].double() * self.scales[strip].double()

    def encoder(self, importance: Importance) -> Tensor:
        """What gives the latents of least cost, `AW (WᵀAW)⁻¹`, float32 `[dim, rank]`.

        The latents' own matrix WᵀAW is close to a multiple of the identity, so that AW may be held in float32; beside
        it there is one matrix in float64.
        """
        dim, rank = self.numbers.shape
        strips = [slice(start, min(start + STRIP, rank)) for start in range(0, rank, STRIP)]
        found = torch.empty(dim, rank, dtype=torch.float32, device=self.numbers.device)  # AW, and then the encoder
        inner = torch.empty(rank, rank, dtype=torch.float64, device=self.numbers.device)
        for number, strip in enumerate(strips):
            found[:, strip] = turned = importance.product(self.columns(strip))
            for above in strips[: number + 1]:
                inner[above, strip] = self.columns(above).T @ turned
        factor = cholesky(mirror(inner))
        for rows in found.split(STRIP):
            solved = torch.linalg.solve_triangular(factor, rows.double().T, upper=False)
            rows.copy_(torch.linalg.solve_triangular(factor.T, solved, upper=True).T)
        return found


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
    row_groups = row_groups_of(importance.weights, _SMALLEST)

    def budget(rank: int, groups: int, kept: int) -> int:
        """Bytes that are left for streams."""
        about_rows = vocab - kept if groups > 1 else 0
        taken = dim * rank + 2 * rank + 4 * groups * rank + about_rows + (2 << window)
        return nbytes - taken - kept * (dim * dtype.itemsize + _ID_BYTES)

    # ranks at which there is a bit for each row
    rank = max((rank for rank in range(1, dim + 1) if 8 * budget(rank, len(row_groups), 0) >= vocab), default=0)
    if not rank:
        return None
    basis = principal_basis(table, importance=importance)
    encoder, weight = basis.encoder.float(), basis.decoder
    del basis  # whose encoder is in float64
    whole = Source(table, encoder, importance.weights, row_groups)
    moments = [whole.moments(number) for number in range(len(row_groups))]
    while True:
        rates = _rates([own.deviations[:rank] for own in moments], row_groups, budget(rank, len(row_groups), 0), window)
        if not bool(rates.any()):
            return None
        used = int(rates.any(0).nonzero().max()) + 1
        if used == rank:
            break
        rank = used
    del encoder, whole
    weight = weight[:, :rank].flip(1)  # the last column first, as in a stream
    decoder = _rounded(weight, importance.given)
    del weight
    source = Source(table, decoder.encoder(importance), importance.weights, row_groups)
    moments = [source.moments(number) for number in range(len(row_groups))]
    kept = _rows_to_keep(source, moments, rates.flip(1), dtype, outliers=not importance.known)
    marks = torch.zeros(vocab, dtype=torch.bool, device=table.device)
    marks[kept] = True
    others = [(rows[~marks[rows]], len(rows), own) for rows, own in zip(row_groups, moments, strict=True)]
    others = [group for group in others if len(group[0])]
    row_groups = [rows for rows, _, _ in others]
    source = replace(source, row_groups=row_groups)
    moments = [
        own if len(rows) == before else source.moments(number) for number, (rows, before, own) in enumerate(others)
    ]
    left = budget(rank, len(row_groups), len(kept))
    rates = _rates([own.deviations for own in moments], row_groups, left, window)
    factors = code_rows(Layout(vocab - len(kept), dim, rank, rounded=True), source, moments, rates, window)
    with_decoder = {"decoder.weight": decoder.numbers, "decoder.scales": decoder.scales}
    factors = factors.with_tensors({**factors.tensors, **with_decoder})
    return factors.with_kept(kept, table[kept].float()) if len(kept) else factors


def _rates(deviations: Sequence[Tensor], row_groups: Sequence[Tensor], nbytes: int, window: int) -> Tensor:
    """Rates by which the streams fill whole bytes, and take `nbytes` at most; `[row groups, columns]`."""
    costs = torch.stack([*deviations])
    counts = torch.tensor([len(rows) for rows in row_groups], dtype=torch.float64, device=costs.device)
    rates = rates_within(costs, counts, 8 * nbytes, window)
    bits = rates.sum(1)
    sizes = (bits / 8).floor()
    left = nbytes - float((sizes * counts).sum())
    for number in (bits / 8 - sizes).argsort(descending=True).tolist():
        if bits[number] > 8 * sizes[number] and counts[number] <= left:
            sizes[number] += 1
            left -= float(counts[number])
    return rates * (8 * sizes / bits.clamp_min(1e-9)).unsqueeze(1)


def _rows_to_keep(
    source: Source, moments: Sequence[Moments], rates: Tensor, dtype: torch.dtype, *, outliers: bool
) -> Tensor:
    """Ids, ascending, of the rows whose cost in codes is above what their bytes would save as codes of other rows.

    With `outliers` also of those whose error, as a share of their squared length, is several times the mean: they are
    unlike the others of their row group, as the most frequent tokens are, of which nothing else is known.
    """
    costs = torch.zeros_like(source.weights)
    sizes = torch.zeros_like(source.weights)
    for number, rows in enumerate(source.row_groups):
        coded = code_row_group(source, number, moments[number], rates[number], _TRIAL)
        costs[rows], sizes[rows] = costs_of_rows(source, number, coded, _TRIAL), float(coded.streams.shape[1])
    counts = torch.tensor([len(rows) for rows in source.row_groups], device=rates.device)
    numbers = float(((rates > 0).sum(1) * counts).sum())
    worth = 2 * math.log(2) * 8 / numbers * float(costs.sum())  # of a byte: six decibels a bit, for all numbers
    price = (source.table.shape[1] * dtype.itemsize + _ID_BYTES - sizes) * worth
    urgent = costs / price.clamp_min(1e-300)
    if outliers:
        shares = costs / (source.weights * norms(source.table).double().square()).clamp_min(1e-300)
        urgent = torch.maximum(urgent, shares / (_OUTLIER * shares.mean()).clamp_min(1e-300))
    count = min(int((urgent > 1).sum()), int(len(costs) * _MOST_KEPT))
    first: Tensor = urgent.argsort(descending=True, stable=True)[:count]
    return first.sort().values


def _rounded(weight: Tensor, matrix: Tensor | None) -> _Decoder:
    """A decoder in 8 bits, rounded row by row with the error fed back to the rows to come, as the metric allows.

    Args:
        weight: Float32 `[dim, rank]`. Its numbers are lost.
        matrix: The importance matrix, `[dim, dim]`; None for the identity.
    """
    scales = (weight.abs().amax(0) / 127).clamp_min(2.0**-24).half()
    left, upper = weight.div_(scales.float()), error_feedback(matrix)
    numbers = torch.empty_like(left, dtype=torch.int8)
    for start in range(0, len(left), _ROWS):
        own, behind = left[start : start + _ROWS], slice(start + _ROWS, None)
        for row in range(len(own)):
            at = start + row
            numbers[at] = whole = own[row].round().clamp(-127, 127)
            if upper is not None:
                own[row] = (own[row] - whole) / upper[at, at]  # the error, where the number was
                own[row + 1 :] -= upper[at, at + 1 : start + len(own)].unsqueeze(1) * own[row]
        if upper is not None:
            left[behind].addmm_(upper[start : start + len(own), behind].T, own, alpha=-1)
    return _Decoder(numbers, scales)
