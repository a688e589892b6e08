"""Thin calibrations: a metric as measured, shrunk as the calibration says, and its diagonal alone, side by side.

    python tests/benchmarks/calibrations.py MODEL --calibrate-on FILE --text FILE [--tokens 2000,16000] [--limit N]
        [--bits 3.5] [--round 4] [--ratio 5] [--head input-only|tied|both] [--json FILE] [--calibration FILE …]

For each number of `--tokens` a calibration is measured on one text, and a table is made of each form of its metric with
every method: `--target-bits`, rounding with feedback, and SVD. The predictions' divergence from the original model's
is measured on another text. The counts are those of the whole text whatever `--tokens` is; `--calibration`
takes calibrations that were measured before. With the rule of
`orientc/calibration/shrinkage.py` nothing should be worse than the diagonal or, with plenty of tokens, than the metric
as it was measured.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import orientc
from orientc.compression.configs import Config, QuantizeConfig, SvdConfig, TargetConfig
from orientc.compression.fit_table import fit_table
from orientc.evaluation.configs import PerplexityConfig
from orientc.evaluation.perplexity import PerplexityMeasurement
from orientc.evaluation.setup import Setup
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage.calibration import Calibration


def forms(calibration: Calibration) -> Iterator[tuple[str, Calibration]]:
    """The same calibration with its metric in three forms."""

    def with_share(share: torch.Tensor) -> Calibration:
        head = None if calibration.head_importance is None else share
        return replace(calibration, input_shrinkage=share, head_shrinkage=head)

    yield "as measured", with_share(torch.tensor(0.0))
    yield "shrunk", calibration
    yield "diagonal", with_share(torch.tensor(1.0))


def given(source: ModelSource, options: argparse.Namespace, folder: Path) -> Iterator[Calibration]:
    """The calibrations that are named, or measured on so many tokens each."""
    yield from map(calibrations.load, options.calibration or ())
    for tokens in [] if options.calibration else options.tokens:
        out = folder / f"calibration-{tokens}.safetensors"
        made = orientc.calibrate(source, text=options.calibrate_on, tokens=tokens, device="cpu", out=out)
        yield made.calibration


def methods(options: argparse.Namespace) -> Iterator[tuple[str, Config]]:
    """The methods that use a metric, by name."""
    for bits in options.bits:
        yield f"target, {bits:g} bits", TargetConfig(target_bits=bits)
    for bits in options.round:
        yield f"feedback, {bits} bits", QuantizeConfig(bits=bits)
    for ratio in options.ratio:
        yield f"svd, ratio {ratio:g}", SvdConfig(ratio=ratio)


def main() -> None:
    """Run, and print a line per table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--calibrate-on", type=Path, help="UTF-8 text; not the one of --text")
    parser.add_argument("--calibration", type=Path, action="append", help="a calibration to compare the forms of")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=lambda text: [int(part) for part in text.split(",")], default=[2000, 16000])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--window", type=int)
    parser.add_argument("--bits", type=lambda text: [float(part) for part in text.split(",") if part], default=[3.5])
    parser.add_argument("--round", type=lambda text: [int(part) for part in text.split(",") if part], default=[4])
    parser.add_argument("--ratio", type=lambda text: [float(part) for part in text.split(",") if part], default=[5.0])
    parser.add_argument("--head", default="tied")
    parser.add_argument("--json", type=Path, help="append each row here as a line of JSON")
    options = parser.parse_args()

    source = ModelSource.resolve(options.model)
    table = read_table(source)
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(source, Path(folder), torch.device("cpu"))
        config = PerplexityConfig(limit=options.limit, window=options.window)
        measurement = PerplexityMeasurement(setup, config, options.text, several=True)
        base = measurement.original().perplexity
        print(f"{options.model}: uncompressed perplexity {base:.3f} on {options.text.name}", flush=True)
        for found in given(source, options, Path(folder)):
            facts = found.facts
            print(
                f"\n{found.description.measured} positions, {found.description.measured / table.info.dim:.1f} per "
                f"dimension; shrunk: input {facts['input_shrinkage']:.2%}, head {facts['head_shrinkage'] or 0:.2%}",
                flush=True,
            )
            for method, config_of_method in methods(options):
                for form, calibration in forms(found):
                    made = fit_table(table, config_of_method, calibration=calibration)
                    path = Path(folder) / "artifact.safetensors"
                    artifacts.save(made, path)
                    for record in measurement.compressed(Subject(source, path, made), options.head):
                        row: dict[str, Any] = {
                            "model": options.model,  "positions": found.description.measured,
                            "method": method, "form": form, "head": record.head,
                            "kl": record.metrics["kl"], "predicted": made.description.distances["cost"],
                            "perplexity": record.perplexity, "base": base,
                        }  # fmt: skip
                        print(
                            f"{method:20s} {form:12s} {record.head:10s} KL {row['kl']:.5f}  perplexity "
                            f"{row['perplexity'] / base:.4f}×  predicted {row['predicted']:.5f}",
                            flush=True,
                        )
                        if options.json:
                            with options.json.open("a") as stream:
                                stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
