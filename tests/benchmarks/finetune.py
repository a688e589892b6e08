"""What compression costs on tasks: the same fine-tuning for every table, by the command line.

    python tests/benchmarks/finetune.py MODEL --data GLUE_DIR --task mrpc --out runs -- --precision bfloat16
    python tests/benchmarks/finetune.py MODEL --data SQUAD_DIR --task squad --out runs -- --limit-train 2000

Rows: the majority class (GLUE), the untrained model, the uncompressed model with its table frozen and with all of it
training, SVD and autoencoder at one parameter ratio. Options behind `--` go to every row. Runs that are done already
are not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from orientc.evaluation.glue import data as glue_data
from orientc.evaluation.glue import metrics
from orientc.evaluation.glue.tasks import TASKS


def orientc(*arguments: object) -> Any:
    """What a command prints with `--json`."""
    command = [sys.executable, "-m", "orientc", *map(str, arguments), "--json", "--quiet"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def majority(task: str, folder: Path, limit_eval: int | None) -> dict[str, float]:
    """The figures of always giving the training set's most frequent label."""
    found = glue_data.load(TASKS[task], folder, limit_eval=limit_eval)
    values, counts = np.unique(found.train["label"], return_counts=True)
    (rows,) = found.evaluation.values()
    return metrics.compute(TASKS[task], np.full(len(rows), values[counts.argmax()]), rows["label"])


def main() -> None:
    """Run every row and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", choices=["mrpc", "sst2", "stsb", "cola", "squad"], required=True)
    parser.add_argument("--ratio", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--rows", nargs="*", default=["untrained", "frozen", "svd", "autoencoder", "all"])
    own, _, options = " ".join(sys.argv[1:]).partition(" -- ")
    given, shared = parser.parse_args(own.split()), options.split()
    command = ["squad"] if given.task == "squad" else ["glue", "--task", given.task]
    command += ["--data", given.data, *shared]
    base = ["--model", given.model, "--out", given.out]
    fits = {"svd": "svd", "autoencoder": "compress"}
    rows: dict[str, list[Any]] = {
        "untrained": [*base, "--epochs", 0],
        "frozen": [*base, "--train-embeddings", "decoder"],
        "all": [*base, "--train-embeddings", "all"],
    }
    if given.task != "squad":
        limit = dict(pairwise(shared)).get("--limit-eval")
        print("majority", majority(given.task, given.data, int(limit) if limit else None), flush=True)
    for row in given.rows:
        if row in fits:
            made = orientc(fits[row], given.model, "--ratio", given.ratio, "--out", given.out)
            rows[row] = ["--embeddings", made["artifact"], "--model", given.model]
        done = orientc(*command, *rows[row])["runs"][0]
        losses = []
        if done["model"]:
            log = json.loads((Path(done["model"]) / "training.json").read_text())["log"]
            losses = [entry["loss"] for entry in log if "loss" in entry]
        fall = f"loss {losses[0]:.3f} → {losses[-1]:.3f}" if losses else ""
        figures = {name: round(value, 4) for name, value in done["record"]["metrics"].items()}
        print(row, figures, fall, f"{done['record']['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
