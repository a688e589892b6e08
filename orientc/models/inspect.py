"""What can be said of a table before it is compressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from orientc.methods.linear_algebra import gram, norms, principal_directions
from orientc.modeling.layout import Layout
from orientc.models.table import Table
from orientc.storage.artifact import FLOAT_DTYPES
from orientc.storage.sizes import MB, choose_rank, parameter_ratio

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)


@dataclass(frozen=True)
class Size:
    """What a parameter ratio means for a table: rank, MB of 10⁶ bytes by type, and the energy that rank keeps."""

    ratio: float
    rank: int
    parameter_ratio: float
    mb: dict[str, float]
    energy: float


@dataclass(frozen=True)
class Inspection:
    """A table's facts.

    `share` is its part of all the model's parameters. `norms` are over the rows' Euclidean norms. `energy` maps a
    rank to the share of the table's squared norm that the best approximation of that rank keeps.
    """

    table: dict[str, Any]
    share: float
    norms: dict[str, float]
    energy: dict[int, float]
    sizes: tuple[Size, ...]


def inspect(table: Table, ratios: Sequence[float]) -> Inspection:
    """Measure a table. Ratios it does not allow raise `FitError`."""
    info = table.info
    table.check_finite()
    lengths = norms(table.weight)
    _, values = principal_directions(gram(table.weight))
    kept = (values.cumsum(0) / values.sum()).tolist()
    ranks = sorted({max(1, round(info.dim * share)) for share in SHARES})
    layout, sizes = Layout(info.vocab, info.dim, 1, bias=True), []
    for ratio in ratios:
        rank = choose_rank(lambda rank: replace(layout, rank=rank), rank=None, ratio=ratio)
        numbers = replace(layout, rank=rank).numbers
        mb = {name: numbers * getattr(torch, name).itemsize / MB for name in FLOAT_DTYPES if name != "bfloat16"}
        sizes.append(Size(ratio, rank, parameter_ratio(info.vocab, info.dim, numbers), mb, kept[rank - 1]))
    return Inspection(
        table=vars(info),
        share=info.vocab * info.dim / info.model_parameters,
        norms={
            "min": lengths.min().item(),
            "median": lengths.median().item(),
            "mean": lengths.mean().item(),
            "max": lengths.max().item(),
            "std": lengths.std().item(),
            "zero_rows": float((lengths == 0).sum().item()),
        },
        energy={rank: kept[rank - 1] for rank in ranks},
        sizes=tuple(sizes),
    )
