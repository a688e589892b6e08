"""Two tables of an untied model that share a size: shared out by predicted loss, against as many bits for both.

    python tests/benchmarks/shared_budget.py --steps 800
    python tests/benchmarks/shared_budget.py --model demo --untie
    python tests/benchmarks/shared_budget.py --model DIR --untie --calibrate-on wiki.valid.tokens --text wiki.test.raw

A small causal model is trained first, a minute or two, unless a folder is named; with `--untie` its head gets a table
of its own, with the lookup's numbers. Losses are in nats per token: predicted on the calibration's text, and measured
on another, as the divergence of the original's predictions and as the difference of losses. What lies between both ways
is told with its paired standard error.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from support.untied import docstrings, save_untied, untie, word_pieces

import orientc
from orientc import demo
from orientc.compression.configs import TargetConfig
from orientc.compression.shared_budget import SharedBudget
from orientc.evaluation import statistics
from orientc.evaluation.figures import sample
from orientc.evaluation.texts import Text, from_file
from orientc.models.table import read_table


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--untie", action="store_true")
    parser.add_argument("--calibrate-on", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--vocab", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--limit", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--bits", type=float, nargs="+", default=[1.5, 2.0, 3.0, 4.0])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, start = options.model or Path(place) / "untied", time.perf_counter()
        if options.untie:
            folder = untie(folder, Path(place) / "untied")
        elif not options.model:
            save_untied(folder, word_pieces(options.vocab), width=options.width, steps=options.steps)
            print(f"trained in {time.perf_counter() - start:.0f} s", flush=True)
        learned = options.calibrate_on or docstrings()
        known = orientc.calibrate(folder, text=learned, tokens=options.tokens, out=place, device="cpu").calibration
        tables = [read_table(folder, table=table) for table in ("input", "head")]
        budget = SharedBudget(tables, known, "cpu")
        scored = from_file(options.text) if options.text else Text("evaluation", demo.evaluation_text())
        print("bits          predicted   divergence   loss   bits of lookup and head   seconds, or paired", flush=True)
        for bits in options.bits:
            asked, start = TargetConfig(target_bits=bits), time.perf_counter()
            ways = {"equal": [asked, asked], "shared": budget.shares(asked)}
            seconds, records = time.perf_counter() - start, []
            for name, configs in ways.items():
                made = [
                    orientc.compress(table, config=config, calibration=known, out=Path(place) / name, device="cpu")
                    for table, config in zip(tables, configs, strict=True)
                ]
                paths = [each.path for each in made]
                before, after = orientc.perplexity(paths, text=scored, limit=options.limit, device="cpu").records
                records.append(after)
                own = "   ".join(f"{each.bits_per_weight:6.2f}" for each in made)
                print(
                    f"{bits:<5g} {name:7} {sum(each.cost for each in made):9.4f} {after.metrics['kl']:12.4f} "
                    f"{after.metrics['loss'] - before.metrics['loss']:8.4f} {own:>22} {seconds:10.0f}",
                    flush=True,
                )
            for figure in ("kl", "loss"):
                equal, shared = (sample(figure, record.blocks) for record in records)
                if equal and shared and (found := statistics.paired(shared, equal)):
                    print(f"{bits:<5g} shared less equal: {figure} {found.value:+.4f} ± {found.standard_error:.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
