"""Tables on texts of four kinds: encyclopaedia, manual, news, reviews; the worst of the four is the figure.

    python tests/benchmarks/domains.py MODEL ARTIFACT [ARTIFACT …] [--texts DIR] [--limit N]
        [--head input-only|tied|both] [--json FILE]
    python tests/benchmarks/domains.py MODEL --bits 3.5,2.7 --calibration FILE [--calibration FILE …] …

The texts: WikiText-103's test text, Python's language reference, the sentences of MRPC's test split and of SST-2's
development split, from the folder that `--texts` or ORIENTC_ASSETS names (`wikitext/wiki.test.raw`,
`glue/MRPC/test.tsv`, `glue/SST-2/dev.tsv`). No text of these sources is to be calibrated on. Each artifact, or each
table made by `--target-bits` of each calibration, gets perplexity by that of the uncompressed model and, in brackets,
the divergence of its predictions in nats.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from orientc.compression.configs import TargetConfig
from orientc.compression.fit_table import fit_table
from orientc.evaluation import texts
from orientc.evaluation.configs import PerplexityConfig
from orientc.evaluation.perplexity import PerplexityMeasurement
from orientc.evaluation.setup import Setup
from orientc.evaluation.texts import Text
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage.artifact import Artifact


def domains(folder: Path) -> list[Text]:
    """The four texts."""
    return [
        Text("wikitext", texts.from_file(folder / "wikitext" / "wiki.test.raw").content),
        Text("python", texts.demo_evaluation().content),
        Text("news", _column(folder / "glue" / "MRPC" / "test.tsv", ("#1 String", "#2 String"))),
        Text("reviews", _column(folder / "glue" / "SST-2" / "dev.tsv", ("sentence",))),
    ]


def _column(path: Path, names: tuple[str, ...]) -> str:
    """Sentences of a task's file, one a line."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return "".join(f"{row[name]}\n" for row in rows for name in names)


def made(options: argparse.Namespace, source: ModelSource, folder: Path) -> Iterator[tuple[str, Path, Artifact]]:
    """The artifacts that are named, and tables by target and calibration."""
    for path in options.artifacts:
        yield path.stem, path, artifacts.load(path)
    for calibration in options.calibration or ():
        for bits in [float(part) for part in options.bits.split(",")]:
            found = fit_table(read_table(source), TargetConfig(target_bits=bits), calibration=calibration)
            path = folder / f"{calibration.stem}-{bits:g}.safetensors"
            artifacts.save(found, path)
            yield path.stem, path, found


def main() -> None:
    """Run, and print a line per table and head policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("artifacts", type=Path, nargs="*")
    parser.add_argument("--texts", type=Path, default=os.environ.get("ORIENTC_ASSETS"))
    parser.add_argument("--calibration", type=Path, action="append")
    parser.add_argument("--bits", default="3.5")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--head", default="tied")
    parser.add_argument("--json", type=Path, help="append each row here as a line of JSON")
    options = parser.parse_args()
    if options.texts is None:
        parser.error("name the folder of the texts with --texts, or by ORIENTC_ASSETS")

    source = ModelSource.resolve(options.model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        setup = Setup(source, folder, torch.device("cpu"))
        config = PerplexityConfig(limit=options.limit)
        measured = [PerplexityMeasurement(setup, config, text, several=True) for text in domains(options.texts)]
        bases = [measurement.original().perplexity for measurement in measured]
        known = [f"{measurement.text.name} {base:.2f}" for measurement, base in zip(measured, bases, strict=True)]
        print(f"{options.model}, uncompressed: {', '.join(known)}", flush=True)
        for title, path, artifact in made(options, source, folder):
            rows: dict[str, dict[str, Any]] = {}
            for measurement, base in zip(measured, bases, strict=True):
                for record in measurement.compressed(Subject(source, path, artifact), options.head):
                    own = {"ratio": record.perplexity / base, "kl": record.metrics["kl"], "base": base}
                    rows.setdefault(record.head, {})[measurement.text.name] = own
            for head, row in rows.items():
                shown = "  ".join(f"{text} {own['ratio']:.4f}× ({own['kl']:.4f})" for text, own in row.items())
                worst = max(row, key=lambda text: row[text]["kl"])
                most = max(own["ratio"] for own in row.values())
                print(f"{title:40s} {head:10s} {shown}  worst {most:.4f}×, by divergence {worst}", flush=True)
                if options.json:
                    with options.json.open("a") as stream:
                        stream.write(json.dumps({"name": title, "head": head, "texts": row}) + "\n")


if __name__ == "__main__":
    main()
