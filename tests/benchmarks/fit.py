"""The default fit and `--preset paper` against the published recipe as a plain loop, side by side in one run.

    python tests/benchmarks/fit.py MODEL --rank 75 [--rank 37] [--threads 1] [--paper] [--command]

The loop is the recipe and nothing else: no data loader, no logging, no evaluation inside. Fit times exclude
reading the table and are medians where a fit is short; `--command` times `orientc compress` as a whole process
too. MODEL is a folder, for example minilm-l6-mlm in ORIENTC_ASSETS, or demo.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from orientc.methods import autoencoder, losses, svd
from orientc.methods.recipe import PAPER, Recipe, Weights
from orientc.modeling.factors import Factors
from orientc.models.source import ModelSource
from orientc.models.table import read_table


def literal_loop(table: Tensor, rank: int) -> Factors:
    """The paper's recipe, to the letter (arXiv 2106.08181)."""
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(table.shape[1], rank), nn.Linear(rank, table.shape[1])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    for epoch in range(30):
        alpha = 1 - 0.9 * epoch / 20 if epoch < 20 else 0.1
        for indices in torch.randperm(len(table)).split(32):
            rows = table[indices]
            decoded = decoder(encoder(rows))
            cosine = functional.cosine_similarity(decoded, rows, dim=-1, eps=1e-6)
            power = ((decoded - rows).abs() + 1e-10).pow(alpha)
            loss = (0.9975 / 5) * (1 - cosine).mean() + 0.0025 * power.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    with torch.no_grad():
        return Factors.plain(encoder(table), decoder.weight, decoder.bias)


def main() -> None:
    """Run and print one line per fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rank", type=int, action="append", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--paper", action="store_true", help="run --preset paper too")
    parser.add_argument("--command", action="store_true", help="time whole commands too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = read_table(ModelSource.resolve(options.model)).weight.float()
    print(f"{options.model}: {table.shape[0]} × {table.shape[1]}, {options.threads} thread(s)")

    for rank in options.rank:
        fits = {
            "default": lambda rank=rank: autoencoder.fit_autoencoder(table, rank, Recipe()),
            "literal loop": lambda rank=rank: literal_loop(table, rank),
            "svd": lambda rank=rank: svd.truncated_svd(table, rank),
        }
        if options.paper:
            fits["preset paper"] = lambda rank=rank: autoencoder.fit_autoencoder(table, rank, PAPER)
        seconds, objectives = {}, {}
        for name, fit in fits.items():
            taken = []
            while not taken or (sum(taken) < 10 and len(taken) < 5):  # a short fit is timed several times
                start = time.perf_counter()
                factors = fit()
                taken.append(time.perf_counter() - start)
            seconds[name] = statistics.median(taken)
            distances = losses.distances(factors, table)
            objectives[name] = distances.objective(Weights())
            print(
                f"rank {rank:4d}  {name:13s} objective {objectives[name]:.5f}  cosine distance {distances.cosine:.5f}"
                f"  RMSE {distances.rmse:.5f}  fit {seconds[name]:.2f} s",
                flush=True,
            )
        print(
            f"rank {rank:4d}  default against the loop: {seconds['literal loop'] / seconds['default']:.1f}× faster, "
            f"objective {objectives['default'] / objectives['literal loop'] - 1:+.3%}"
        )
        if options.paper:
            print(
                "rank {:4d}  preset paper against the loop: objective {:+.3%}".format(
                    rank, objectives["preset paper"] / objectives["literal loop"] - 1
                )
            )
        if options.command:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "orientc", "compress", options.model, "--rank", str(rank)]
                start = time.perf_counter()
                subprocess.run([*command, "--out", folder, "--quiet"], check=True, stdout=subprocess.DEVNULL)
            print(f"rank {rank:4d}  whole command: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
