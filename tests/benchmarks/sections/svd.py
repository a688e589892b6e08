"""`methods.svd` against scikit-learn's TruncatedSVD with the paper's 29 iterations."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from sklearn.decomposition import TruncatedSVD
from threadpoolctl import threadpool_limits

from orientc.methods import losses, svd
from orientc.modeling.factors import Factors
from sections.measuring import Row, seconds, side_by_side, table_of, times_less


def rows(options: argparse.Namespace) -> Iterator[Row]:
    table = table_of(options)
    numbers = table.cpu().numpy()
    for rank in options.rank:

        def theirs(rank: int = rank) -> Factors:
            with threadpool_limits(options.threads):
                method = TruncatedSVD(rank, n_iter=29, random_state=0)
                latents = method.fit_transform(numbers)
            kept = torch.from_numpy(method.components_.T.copy())
            return Factors.plain(torch.from_numpy(latents), kept)

        taken, factors = side_by_side(
            {"ours": lambda rank=rank: svd.truncated_svd(table, rank), "theirs": theirs}, options
        )
        error = {name: losses.distances(found.to(torch.float32), table.cpu()).rmse for name, found in factors.items()}
        yield Row(
            "svd",
            f"rank {rank}, {options.threads} thread(s), against TruncatedSVD(n_iter=29)",
            seconds(taken["ours"]),
            seconds(taken["theirs"]),
            times_less(taken["ours"], taken["theirs"]),
            "≥ 10×, error not larger",
            f"RMSE {error['ours']:.7f} against {error['theirs']:.7f}",
        )
