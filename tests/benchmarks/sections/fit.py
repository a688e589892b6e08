"""The default fit against the published recipe as a plain loop; fit time against fit time."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

from fit import literal_loop

from orientc.methods import autoencoder, losses
from orientc.methods.recipe import Recipe, Weights
from sections.measuring import Row, seconds, side_by_side, table_of, times_less


def rows(options: argparse.Namespace) -> Iterator[Row]:
    table = table_of(options)
    for rank in options.rank:
        calls = {
            "ours": partial(autoencoder.fit_autoencoder, table, rank, Recipe()),
            "loop": partial(literal_loop, table, rank),
        }
        taken, factors = side_by_side(calls, argparse.Namespace(**vars(options) | {"repeats": options.fit_repeats}))
        objective = {name: losses.distances(found, table).objective(Weights()) for name, found in factors.items()}
        yield Row(
            "fit",
            f"rank {rank}, {options.device}, {options.threads} thread(s), against the literal loop",
            seconds(taken["ours"]),
            seconds(taken["loop"]),
            times_less(taken["ours"], taken["loop"]),
            "≥ 20× on a CPU, ≥ 50× on a GPU",
            f"objective {objective['ours']:.5f} against {objective['loop']:.5f}",
        )
