"""Latents as entries of small codebooks: product quantization (Jégou et al. 2011), k-means in the metric."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from orientc.factors import CHUNK, Factors
from orientc.layout import CODEBOOK
from orientc.methods.packing import pack
from orientc.methods.quantize import feedback
from orientc.sizes import codebook_shape

_SAMPLE = 16384  # rows that the entries are made from
_ROUNDS = 12
_DAMPING = 1e-4  # of the mean of the metric's diagonal, so that every block has a root


@torch.no_grad()
def fit(factors: Factors, bits: float, *, metric: Tensor, weights: Tensor, seed: int = 0) -> Factors:
    """The same table with its plain latents in codes of codebooks.

    A row is scaled to unit root mean square first and the scale stored. `metric [rank, rank]` is that of the latents,
    `weights` are those of the rows: entries are weighted means, distances are in the metric's block, and the error of
    one code is fed back to the columns to come. Deterministic for a `seed`.
    """
    width, code_bits = codebook_shape(bits)
    layout = factors.layout
    groups = -(-layout.rank // width)
    padding = groups * width - layout.rank
    latents = factors.latents.float()
    scales = latents.square().mean(1).sqrt().clamp_min(torch.finfo(torch.float16).tiny).half()
    columns = torch.nn.functional.pad(latents / scales.float().unsqueeze(1), (0, padding))
    scale = float(metric.diagonal().mean()) or 1.0
    damped = metric.double() + _DAMPING * scale * torch.eye(len(metric)).to(metric.double())
    own = torch.block_diag(damped, torch.eye(padding).to(damped) * scale).float()
    correction = feedback(own.double())
    generator = torch.Generator().manual_seed(seed)
    masses = (weights.to(scales.device) * scales.double().square()).float()  # errors are in units of a row's scale
    sample = torch.randperm(len(latents), generator=generator)[:_SAMPLE].sort().values
    codes, entries = [], []
    for group in range(groups):
        part = slice(group * width, (group + 1) * width)
        root = torch.linalg.cholesky(own[part, part], upper=True)
        points = columns[:, part] @ root.T
        means = _k_means(points[sample], masses[sample], 1 << code_bits, generator)
        book = (torch.linalg.solve_triangular(root, means.T, upper=True).T).half()
        chosen = _nearest(points, book.float() @ root.T)
        codes.append(chosen)
        entries.append(book)
        if correction is not None and part.stop < columns.shape[1]:
            error = (columns[:, part] - book.float()[chosen]) @ torch.linalg.inv(correction[part, part])
            columns[:, part.stop :] -= error @ correction[part, part.stop :]
    tensors = {name: tensor for name, tensor in factors.tensors.items() if name != "latents"}
    tensors["latents.codes"] = pack(torch.stack(codes, 1), code_bits)
    tensors["latents.codebook"] = torch.stack(entries)
    tensors["latents.scales"] = scales
    coded = replace(layout, codec=CODEBOOK, group=width, bits=((code_bits,),), tier_rows=(layout.rows,))
    return Factors(coded, tensors)


def _k_means(points: Tensor, masses: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Centres `[count, width]` of weighted points `[n, width]` (Lloyd 1982), started from points drawn by weight."""
    order = torch.rand(len(points), generator=generator).to(points).log() / masses.clamp_min(1e-30)
    centres = points[order.argsort(descending=True)[torch.arange(count) % len(points)]].clone()
    for _ in range(_ROUNDS):
        nearest = _nearest(points, centres)
        mass = torch.zeros(count).to(points).index_add_(0, nearest, masses)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points * masses.unsqueeze(1))
        centres = torch.where(mass.unsqueeze(1) > 0, sums / mass.clamp_min(1e-30).unsqueeze(1), centres)
    return centres


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The index of the nearest of `centres [k, width]` for each of `points [n, width]`."""
    half = centres.square().sum(1) / 2
    return torch.cat([(half - block @ centres.T).argmin(1) for block in points.split(CHUNK * 4)])
