"""What a sentence encoder loses with its table compressed, its body in fewer bits, and both; sizes, and times.

    python tests/benchmarks/bodies.py MODEL --sts DIR [--text FILE] [--mb 2.2] [--runs DIR] [--dtype float16]

The table is made to `--mb` and the same for every body. Each row is Spearman's correlation on all of STS-B's dev set,
with the standard error of its difference from the original, paired; MB of all weight files; and the time that a batch
of 32 sentences takes on one thread, as a ratio to the original's, all forms in turns in one run. It needs the extra
`body`; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

import orientc
from orientc.evaluation.similarity import stsb
from orientc.exporters import bodies
from orientc.exporters.export import weights_in
from orientc.models.source import ModelSource
from orientc.models.table import table_info
from orientc.storage.sizes import MB
from orientc.workflows.ruler import Outcome
from orientc.workflows.tolerance import SPEARMAN, difference_in_words

ROUNDS = 15


def main() -> None:
    """Shrink once for each body, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--sts", type=Path, required=True)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--mb", type=float, default=2.2)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    source = ModelSource.resolve(given.model)
    info = table_info(source)
    rows: list[tuple[str, float, Outcome | None]] = [("original", info.model_bytes / MB, None)]
    folders = {"original": str(source.local or source.id)}
    with tempfile.TemporaryDirectory() as place:
        for body in ("none", "int8", "int4"):
            folder = Path(place) / body
            done = orientc.shrink(
                source, folder, target_mb=given.mb, sts=given.sts, text=given.text, body=body, dtype=given.dtype,
                out=given.runs or Path(place) / "runs",
            )  # fmt: skip
            assert done.verdict
            assert done.weights
            if done.verdict.alone:
                alone = Path(place) / f"{body}-alone"
                bodies.write(source, alone, body, given.dtype or info.dtype)
                rows.append((f"body {body}", weights_in(alone) / MB, done.verdict.alone))
                folders[f"body {body}"] = str(alone)
            name = f"table {given.mb:g} MB" + ("" if body == "none" else f", body {body}")
            rows.append((name, done.weights / MB, done.verdict.outcome))
            folders[name] = str(folder)
        times = _times(folders, [*stsb(given.sts, "dev").first[:32]])
    original = next(outcome.original for _, _, outcome in rows if outcome)
    print(f"{'':<28}{'MB':>8}{'Spearman':>10}  {'difference':<20}{'time':>6}")
    for name, size, outcome in rows:
        told = difference_in_words(SPEARMAN, outcome.difference, outcome.error) if outcome else ""
        figure = outcome.here if outcome else original
        print(f"{name:<28}{size:>8.2f}{figure:>10.4f}  {told:<20}{times[name] / times['original']:>6.2f}")


def _times(folders: dict[str, str], sentences: list[str]) -> dict[str, float]:
    """Median seconds of a batch for each folder, measured in turns."""
    models = {
        name: SentenceTransformer(folder, device="cpu", trust_remote_code=True) for name, folder in folders.items()
    }
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.encode(sentences, batch_size=len(sentences), show_progress_bar=False)
            found[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in found.items()}


if __name__ == "__main__":
    main()
