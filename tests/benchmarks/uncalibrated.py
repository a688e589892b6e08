"""Targets without a calibration beside plain rounding of the same bytes: perplexity by the uncompressed model's.

    python tests/benchmarks/uncalibrated.py MODEL --text FILE [--limit N] [--window N] [--bits 2,2.7,3.5,4.5]
        [--head both|tied|input-only] [--json FILE]

For each of `--bits` B the table is rounded as `orientc quantize` does to the whole bits below B, in the narrowest
groups that take at most B bits per weight in all, or whole rows where even those take more; then a target is given its
very bytes. All stored bytes count. A ratio stands with the standard error of the two tables' paired test.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from domains import cell

from orientc.compression.configs import Config, QuantizeConfig, TargetConfig
from orientc.compression.fit_table import fit_table
from orientc.evaluation.configs import PerplexityConfig
from orientc.evaluation.perplexity import PerplexityMeasurement
from orientc.evaluation.setup import Setup
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import Table, read_table
from orientc.storage import artifact as artifacts
from orientc.storage.artifact import Artifact
from orientc.storage.sizes import MB

GROUPS = (16, 24, 32, 48, 64, 96, 128, 192, 256)
SCALE_BITS = 32  # a scale and an offset


def plain(bits: float, dim: int) -> QuantizeConfig:
    """Plain rounding of about so many bits per weight."""
    whole = next(own for own in (8, 4, 3, 2) if own <= bits)
    fitting = (group for group in GROUPS if group <= dim and whole + SCALE_BITS / group <= bits)
    return QuantizeConfig(bits=whole, group_size=next(fitting, dim))


def pair(table: Table, bits: float) -> list[tuple[str, Config, Artifact, float]]:
    """Name, config, artifact and seconds of plain rounding, and of the target of its bytes."""
    found: list[tuple[str, Config, Artifact, float]] = []

    def made(name: str, config: Config) -> Artifact:
        start = time.perf_counter()
        artifact = fit_table(table, config)
        found.append((name, config, artifact, time.perf_counter() - start))
        return artifact

    config = plain(bits, table.info.dim)
    rounded = made(f"rounding, {config.bits} bits in groups of {config.group_size}", config)
    made("target", TargetConfig(target_mb=rounded.description.nbytes / MB))
    return found


def main() -> None:
    """Run, and print a line per table and head policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--window", type=int)
    parser.add_argument(
        "--bits", type=lambda text: [float(part) for part in text.split(",")], default=[2, 2.7, 3.5, 4.5]
    )
    parser.add_argument("--head", default="both")
    parser.add_argument("--json", type=Path, help="append each row here as a line of JSON")
    options = parser.parse_args()

    source = ModelSource.resolve(options.model)
    table = read_table(source)
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(source, Path(folder), torch.device("cpu"))
        config = PerplexityConfig(limit=options.limit, window=options.window)
        measurement = PerplexityMeasurement(setup, config, options.text)
        base = measurement.original()
        print(f"{options.model} on {options.text.name}: {base.perplexity:.3f} uncompressed\n")
        print("| bits per weight | table | head | perplexity × | seconds |\n|---|---|---|---|---|", flush=True)
        for bits in options.bits:
            for name, _, artifact, seconds in pair(table, bits):
                path = Path(folder) / "artifact.safetensors"
                artifacts.save(artifact, path)
                stored = artifact.description.bits_per_weight
                for record in measurement.compressed(Subject(source, path, artifact), options.head):
                    found = cell(record, base)
                    spread = "" if found["error"] is None else f" ± {found['error']:.4f}"
                    shown = f"{found['ratio']:.4f}{spread}"
                    print(f"| {stored:.3f} | {name} | {record.head} | {shown} | {seconds:.0f} |", flush=True)
                    if options.json:
                        row = {"model": options.model, "name": name, "bits": stored, "head": record.head, **found}
                        with options.json.open("a") as stream:
                            stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
