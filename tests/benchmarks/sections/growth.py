"""How fit, SVD and perplexity grow with vocabulary, width and rank: exponents beside those of their formulas.

Each is measured on random tables around one middle point; an exponent is the slope of log(time) over log(size) in the
upper half of the sizes, where no fixed cost hides it. Memory is the most that torch's allocator holds at once.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
import transformers
from torch import Tensor

from orientc.evaluation.scoring import Example
from orientc.evaluation.side_by_side import SideBySide
from orientc.methods import autoencoder, svd
from orientc.methods.recipe import Recipe
from orientc.modeling.factors import Factors
from orientc.models.substitute import substitute
from orientc.storage.sizes import MB
from sections.measuring import Row, peak_bytes, seconds, side_by_side

MIDDLE = {"vocab": 32_768, "dim": 256, "rank": 32}
AXES = {
    "vocab": [8_192, 16_384, 32_768, 65_536, 131_072, 262_144],
    "dim": [64, 128, 256, 512, 1024],
    "rank": [8, 16, 32, 64, 128, 256],
}
# The largest exponent each formula has on an axis: a fit is vocab·dim·rank an epoch after a start of vocab·dim² + dim³,
# SVD is vocab·dim² + dim³ + vocab·dim·rank, a scored token costs layers of dim² and a head of dim·rank + rank·vocab.
FORMULAS = {
    "fit": {"vocab": 1, "dim": 3, "rank": 1},
    "svd": {"vocab": 1, "dim": 3, "rank": 1},
    "perplexity": {"vocab": 1, "dim": 2, "rank": 1},
}
Points = list[tuple[int, float, int]]  # size, seconds, bytes


def rows(options: argparse.Namespace) -> Iterator[Row]:
    curves: dict[tuple[str, str], Points] = {}
    for axis, sizes in AXES.items():
        for size in sizes:
            if axis == "vocab" and size > options.largest_vocab:
                continue
            works = _works(**MIDDLE | {axis: size})
            taken, _ = side_by_side(works, argparse.Namespace(**vars(options) | {"repeats": options.growth_repeats}))
            for name, work in works.items():
                curves.setdefault((name, axis), []).append((size, taken[name], peak_bytes(work)))
    for (name, axis), points in curves.items():
        sizes, times, rises = zip(*points, strict=True)
        exponent, wanted = _slope(sizes, times), FORMULAS[name][axis]
        middle = ", ".join(f"{key} {value}" for key, value in MIDDLE.items() if key != axis)
        yield Row(
            "growth",
            f"{name} over {axis} {sizes[0]} … {sizes[-1]} ({middle})",
            seconds(times[-1]),
            seconds(times[0]),
            f"exponent {exponent:.2f}",
            f"≤ {wanted}",
            f"memory {rises[0] / MB:.0f} … {rises[-1] / MB:.0f} MB, exponent {_slope(sizes, rises):.2f}",
        )
    if options.plot:
        _draw(curves, options.plot)


def _works(vocab: int, dim: int, rank: int) -> dict[str, Callable[[], object]]:
    """What is measured, ready to run: tables, models and texts are made before."""
    torch.manual_seed(0)
    table = torch.randn(vocab, dim)
    factors = Factors.plain(torch.randn(vocab, rank), torch.randn(dim, rank))
    return {
        "fit": partial(autoencoder.fit_autoencoder, table, rank, Recipe(epochs=2)),
        "svd": partial(svd.truncated_svd, table, rank),
        "perplexity": _perplexity(factors),
    }


def _perplexity(factors: Factors) -> Callable[[], object]:
    """Scoring a small BERT that runs from the factors, lookup and head, on 16 lines of 128 tokens."""
    config = transformers.BertConfig(
        vocab_size=factors.vocab,
        hidden_size=factors.dim,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=4 * factors.dim,
    )
    model = substitute(transformers.BertForMaskedLM(config), factors, "tied")
    lines = [Example(_ids(128, factors.vocab), list(range(0, 128, 6)), _ids(22, factors.vocab)) for _ in range(16)]
    return SideBySide(model, lines, tokens=1024, pad_id=0).score


def _ids(count: int, vocab: int) -> list[int]:
    drawn: Tensor = torch.randint(vocab, (count,))
    return drawn.tolist()


def _slope(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The slope of log(values) over log(sizes), by least squares over the upper half of the points."""
    half = len(sizes) // 2
    logs = [(math.log(size), math.log(max(value, 1e-9))) for size, value in zip(sizes, values, strict=True)][half - 1 :]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def _draw(curves: dict[tuple[str, str], Points], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    panels = figure.subplots(2, len(AXES), sharex="col", squeeze=False)
    for column, axis in enumerate(AXES):
        for (name, along), points in curves.items():
            if along == axis:
                sizes, times, rises = zip(*points, strict=True)
                panels[0][column].loglog(sizes, times, marker="o", label=name)
                panels[1][column].loglog(sizes, [rise / MB for rise in rises], marker="o", label=name)
        panels[1][column].set_xlabel(axis)
    panels[0][0].set_ylabel("seconds")
    panels[1][0].set_ylabel("MB")
    panels[0][0].legend()
    figure.savefig(file)
