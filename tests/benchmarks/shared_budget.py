"""Two tables of an untied model that share a size: shared out by predicted loss, against as many bits for both.

    python tests/benchmarks/shared_budget.py --steps 800

A small causal model is trained first, a minute or two. Losses are in nats per token, predicted on the calibration text
and measured on another.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from support.untied import docstrings, save_untied, word_pieces

import orientc
from orientc import demo
from orientc.compression.configs import TargetConfig
from orientc.compression.shared_budget import SharedBudget
from orientc.evaluation.texts import Text
from orientc.models.table import read_table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--vocab", type=int, default=2000)
    parser.add_argument("--limit", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--bits", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0, 4.0])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, start = Path(place) / "untied", time.perf_counter()
        save_untied(folder, word_pieces(options.vocab), width=options.width, steps=options.steps)
        print(f"trained in {time.perf_counter() - start:.0f} s", flush=True)
        known = orientc.calibrate(folder, text=docstrings(), tokens=16384, out=place, device="cpu").calibration
        tables = [read_table(folder, table=table) for table in ("input", "head")]
        budget, scored = SharedBudget(tables, known, "cpu"), Text("evaluation", demo.evaluation_text())

        def measured(configs: list[TargetConfig], name: str) -> tuple[float, float]:
            made = [
                orientc.compress(table, config=config, calibration=known, out=Path(place) / name, device="cpu")
                for table, config in zip(tables, configs, strict=True)
            ]
            paths = [each.path for each in made]
            before, after = orientc.perplexity(paths, text=scored, limit=options.limit, device="cpu").records
            return sum(each.cost for each in made), after.metrics["loss"] - before.metrics["loss"]

        header = "bits  equal: predicted, measured   shared: predicted, measured   bits of lookup and head   seconds"
        print(header, flush=True)
        for bits in options.bits:
            asked = TargetConfig(target_bits=bits)
            equal, start = measured([asked, asked], "equal"), time.perf_counter()
            shares = budget.shares(asked)
            seconds = time.perf_counter() - start
            own = [
                8e6 * (share.target_mb or 0) / (table.info.vocab * table.info.dim)
                for share, table in zip(shares, tables, strict=True)
            ]
            shared = measured(shares, "shared")
            print(
                f"{bits:<5g} {equal[0]:17.4f}  {equal[1]:8.4f}   {shared[0]:17.4f}  {shared[1]:8.4f}"
                f"   {own[0]:14.2f} {own[1]:8.2f}   {seconds:7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
