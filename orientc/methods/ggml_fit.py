"""Code a table in ggml's blocks, by an importance matrix.

Columns are rounded one after the other, and the columns to come make up for the error of each as far as the importance
matrix allows (GPTQ, arXiv 2210.17323); a block's scales are searched when its first column is reached. Sweeps follow in
which each float16 scale is set by least squares, each whole-number scale and each code to the best one while all others
stay: neither raises the cost. Columns lead here: `[dim, rows]`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orientc.methods.ggml_packing import packed_codes
from orientc.methods.ggml_scales import BlockScales, divided, float16, nearest_levels, scale_range, search_scales
from orientc.methods.per_group import error_feedback
from orientc.methods.table_rows import TableRows
from orientc.modeling.factors import Factors
from orientc.modeling.ggml_types import BLOCK_TYPES, BlockType
from orientc.modeling.layout import GGML, Layout

_ROWS = 4096  # coded together: what caches hold
_NUMBERS = 1 << 23  # at most of them
_SWEEPS = 4
_TINY = 1e-30


@torch.no_grad()
def code_in_blocks(table: TableRows, block: str, importance: Tensor | None) -> Factors:
    """Code the rows of a table in blocks of one of ggml's types.

    Args:
        table: `[vocab, dim]` of any float type, `dim` a whole number of blocks.
        block: Name of the block type.
        importance: The importance matrix, `[dim, dim]`; None for the identity.
    """
    kind = BLOCK_TYPES[block]
    vocab, dim = table.shape
    layout = Layout(vocab, dim, dim, decoder=False, codec=GGML, block=block)
    shapes = {name: shape for name, (_, shape) in layout.shapes.items()}
    codes = torch.empty(shapes["latents.codes"], dtype=torch.uint8, device=table.device)
    scales = torch.empty(shapes["latents.scales"], dtype=torch.float16, device=table.device)
    metric = _Metric.of(importance, dim, table.device)
    size = max(1, min(_ROWS, _NUMBERS // dim))
    for start, rows in zip(range(0, vocab, size), table.split(size), strict=False):
        part = slice(start, start + size)
        codes[part], scales[part] = _coded(kind, rows.T.contiguous().float(), metric)
    return Factors(layout, {"latents.codes": codes, "latents.scales": scales})


@dataclass(frozen=True)
class _Metric:
    """An importance matrix made ready: itself, float32 with a mean of 1 on its diagonal, and GPTQ's feedback matrix.

    `feedback` is None where the matrix is a multiple of the identity: then no column's error bears on another one.
    """

    matrix: Tensor
    feedback: Tensor | None

    @classmethod
    def of(cls, importance: Tensor | None, dim: int, device: torch.device) -> _Metric:
        if importance is None:
            return cls(torch.eye(dim, device=device), None)
        scaled = importance / importance.diagonal().mean()
        return cls(scaled.float(), error_feedback(scaled))

    @property
    def weights(self) -> Tensor:
        """Weight of each column's error where the columns before it are settled and those behind make up for it."""
        if self.feedback is None:
            return self.matrix.diagonal()
        return self.feedback.diagonal().square().reciprocal()


def _coded(kind: BlockType, columns: Tensor, metric: _Metric) -> tuple[Tensor, Tensor]:
    """Codes `[rows, bytes]` and float16 scales `[rows, halves of all blocks]` of rows, given as `[dim, rows]`."""
    levels, blocks = _with_feedback(kind, columns, metric)
    levels, blocks = _refined(kind, columns, levels, blocks, metric)
    scales = minimums = None
    if kind.sub_blocks > 1:
        scales = torch.cat([own.scales for own in blocks]).T
        minimums = torch.cat([own.minimums for own in blocks]).T if kind.halves == 2 else None
    halves = torch.cat([own.halves for own in blocks])
    return packed_codes(kind, levels.T, scales, minimums), halves.T.contiguous().half()


def _with_feedback(kind: BlockType, columns: Tensor, metric: _Metric) -> tuple[Tensor, list[BlockScales]]:
    """Levels `[dim, rows]` and each block's scales, rounded column by column with feedback."""
    left, feedback, weights = columns.clone(), metric.feedback, metric.weights
    levels, blocks = torch.empty_like(left), []
    for start in range(0, len(left), kind.width):
        block = slice(start, start + kind.width)
        scales = search_scales(kind, left[block], weights[block])
        blocks.append(scales)
        steps, least = scales.steps(), scales.least()
        for number in range(kind.sub_blocks):
            first = start + number * kind.sub_block
            end = first + kind.sub_block
            own, step = left[first:end], steps[number]
            base = 0.0 if least is None else least[number]
            if feedback is None:
                levels[first:end] = nearest_levels(kind, divided(own - base, step))
                continue
            errors = torch.empty_like(own)
            for place in range(len(own)):
                at = first + place
                levels[at] = nearest_levels(kind, divided(own[place] - base, step))
                errors[place] = (own[place] - (levels[at] * step + base)) / feedback[at, at]
                own[place + 1 :] -= feedback[at, at + 1 : end].unsqueeze(1) * errors[place]
            left[end:] -= feedback[first:end, end:].T @ errors
    return levels, blocks


def _refined(
    kind: BlockType, columns: Tensor, levels: Tensor, blocks: list[BlockScales], metric: _Metric
) -> tuple[Tensor, list[BlockScales]]:
    """Levels and scales after sweeps of coordinate descent."""
    matrix = metric.matrix
    values = torch.cat([_values(kind, levels[start : start + kind.width], own) for start, own in _starts(kind, blocks)])
    gradient = matrix @ (values - columns)  # of half the cost, in the values
    found = list(blocks)
    for _ in range(_SWEEPS):
        for number, (start, own) in enumerate(_starts(kind, found)):
            part = slice(start, start + kind.width)
            block = _Block(kind, matrix[part, part], levels[part], values[part].clone(), gradient[part].clone(), own)
            found[number] = block.improved()
            change = block.values - values[part]
            values[part] = block.values
            if metric.feedback is None:
                gradient[part] += matrix.diagonal()[part].unsqueeze(1) * change
            else:
                gradient.addmm_(matrix[:, part], change)
    return levels, found


def _starts(kind: BlockType, blocks: list[BlockScales]) -> list[tuple[int, BlockScales]]:
    """Each block's first column, and its scales."""
    return [(number * kind.width, own) for number, own in enumerate(blocks)]


def _values(kind: BlockType, levels: Tensor, scales: BlockScales) -> Tensor:
    """The numbers of a block, `[width, rows]`."""
    values = levels.unflatten(0, (kind.sub_blocks, -1)) * scales.steps().unsqueeze(1)
    least = scales.least()
    found: Tensor = (values if least is None else values + least.unsqueeze(1)).flatten(0, 1)
    return found


@dataclass
class _Block:
    """One block of each row, while it is improved.

    Attributes:
        kind: The block type.
        matrix: Its part of the importance matrix.
        levels: `[width, rows]`; changed in place.
        values: The numbers they stand for, `[width, rows]`.
        gradient: Of half the cost in these, `[width, rows]`.
        scales: Its scales.
    """

    kind: BlockType
    matrix: Tensor
    levels: Tensor
    values: Tensor
    gradient: Tensor
    scales: BlockScales

    def improved(self) -> BlockScales:
        """Improve the float16 scales, then sub-block by sub-block its scale, its minimum and its codes."""
        for number in range(self.kind.halves):
            self._improve_half(number)
        for number in range(self.kind.sub_blocks):
            part = slice(number * self.kind.sub_block, (number + 1) * self.kind.sub_block)
            before = self.values[part].clone()
            inner, gradient = self.matrix[part, part], self.gradient[part].clone()
            if self.kind.sub_blocks > 1:
                self._improve_sub_scales(number, part, inner, gradient)
            self._improve_codes(number, part, inner, gradient)
            if self.kind.sub_blocks > 1:
                self.gradient.addmm_(self.matrix[:, part], self.values[part] - before)
        return self.scales

    def _improve_half(self, number: int) -> None:
        """Set a float16 scale by least squares."""
        sub = (self.kind.sub_blocks, self.kind.sub_block)
        if number == 0:
            direction = (self.levels.unflatten(0, sub) * self.scales.scales.unsqueeze(1)).flatten(0, 1)
        else:
            direction = -self.scales.minimums.repeat_interleave(self.kind.sub_block, 0)
        image = self.matrix @ direction
        step = _best_step(direction, image, self.gradient)
        halves = self.scales.halves.clone()
        halves[number] = float16(halves[number] + step)
        change = halves[number] - self.scales.halves[number]
        self.scales = replace(self.scales, halves=halves)
        self.values += direction * change
        self.gradient += image * change

    def _improve_sub_scales(self, number: int, part: slice, inner: Tensor, gradient: Tensor) -> None:
        """Set a sub-block's whole-number scales, each to the best; values and gradient are changed in place."""
        low, high = scale_range(self.kind)
        directions = [("scales", self.levels[part] * self.scales.halves[0])]
        if self.kind.halves == 2:
            directions.append(("minimums", -self.scales.halves[1].expand_as(gradient)))
        for name, direction in directions:
            image = inner @ direction
            old: Tensor = getattr(self.scales, name)
            new = old.clone()
            new[number] = (old[number] + _best_step(direction, image, gradient)).round().clamp_(low, high)
            change = new[number] - old[number]
            self.scales = replace(self.scales, **{name: new})
            self.values[part] += direction * change
            gradient += image * change

    def _improve_codes(self, number: int, part: slice, inner: Tensor, gradient: Tensor) -> None:
        """Set each code of a sub-block to the best; levels, values and gradient are changed in place."""
        step = self.scales.steps()[number]
        least = self.scales.least()
        base = 0.0 if least is None else least[number]
        levels, values = self.levels[part], self.values[part]
        for place in range(len(levels)):
            aim = values[place] - gradient[place] / inner[place, place]
            levels[place] = nearest_levels(self.kind, divided(aim - base, step))
            new = levels[place] * step + base
            gradient += inner[:, place, None] * (new - values[place])
            values[place] = new


def _best_step(direction: Tensor, image: Tensor, gradient: Tensor) -> Tensor:
    """How far to go along a direction `[n, rows]` to the least cost, `[rows]`; `image` is its product with A."""
    return -(direction * gradient).sum(0) / (direction * image).sum(0).clamp_min(_TINY)
