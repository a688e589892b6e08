"""Tables on texts of four kinds: encyclopaedia, manual, news, reviews; the worst of the four is the figure.

    python tests/benchmarks/domains.py MODEL [ARTIFACT …] [--calibration FILE … --bits 3.5,2.7] --keep DIR
        [--texts DIR] [--head both|tied|input-only] [--only wikitext,python] [--limits wikitext=20480,python=8192]
        [--window N] [--no-kl] [--json FILE]

The texts: WikiText-103's test text, Python's language reference, the sentences of MRPC's test split and of SST-2's
development split, from the folder that `--texts` or ORIENTC_ASSETS names (`wikitext/wiki.test.raw`,
`glue/MRPC/test.tsv`, `glue/SST-2/dev.tsv`). No text of these sources is to be calibrated on. Causal models are measured
on 20 480 tokens of WikiText and 8 192 of each of the others (or all there are), masked ones on 400 lines of each;
`--limits` says otherwise. `--only` also takes `FILE`s, other texts in their place.

Each artifact that is named, and each table made with `--target-bits` by each calibration, gets a row per head policy:
for each text perplexity by that of the uncompressed model, with the standard error of the ratio by the paired test, and
the mean divergence of the predictions in nats (`--no-kl`: without, in two thirds of the time). Tables and records are
kept in `--keep`: what is there is not measured again, so a run that was cut off goes on where it was. Take another
folder for another state of the code.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import orientc
from orientc.evaluation import figures, statistics, texts
from orientc.evaluation.configs import PerplexityConfig
from orientc.evaluation.perplexity import CAUSAL, PerplexityMeasurement, protocol_of
from orientc.evaluation.setup import Setup
from orientc.evaluation.texts import Text
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.storage import artifact as artifacts
from orientc.storage.records import Record

LIMITS = {CAUSAL: {"wikitext": 20_480, "": 8_192}, "masked": {"": 400}}  # tokens, lines; "" for the others


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


def chosen(options: argparse.Namespace) -> list[Text]:
    """The texts to measure on."""
    known = {text.name: text for text in domains(options.texts)}
    names = options.only.split(",") if options.only else list(known)
    return [known[name] if name in known else texts.from_file(name) for name in names]


def limits(options: argparse.Namespace, protocol: str) -> dict[str, int]:
    """The most of each text, by its name; that of all others under ""."""
    own = [part.split("=") for part in options.limits.split(",") if part]
    return LIMITS[protocol] | {name: int(limit) for name, limit in own}


def made(options: argparse.Namespace, source: ModelSource) -> Iterator[tuple[str, Path]]:
    """The artifacts that are named, and tables by calibration and target; with a title each."""
    for path in options.artifacts:
        yield path.stem, path
    for calibration in options.calibration or ():
        for bits in [float(part) for part in options.bits.split(",")]:
            found = orientc.compress(source, target_bits=bits, calibration=calibration, out=options.keep, device="cpu")
            yield f"{calibration.stem}, {bits:g} bits", found.path


def cell(record: Record, original: Record) -> dict[str, Any]:
    """What a record says beside the uncompressed model's."""
    one, base = (figures.sample("perplexity", each.blocks) for each in (record, original))
    against = statistics.paired(one, base) if one and base else None
    return {
        "ratio": record.perplexity / original.perplexity,
        "error": against.standard_error if against else None,
        "kl": record.metrics.get("kl"),
        "base": original.perplexity,
        "tokens": int(original.metrics["tokens"]),
    }


def shown(own: dict[str, Any]) -> str:
    """A cell of the table."""
    error = "" if own["error"] is None else f" ± {own['error']:.4f}"
    return f"{own['ratio']:.4f}{error}" + ("" if own["kl"] is None else f" ({own['kl']:.4f})")


def main() -> None:
    """Run, and print a line per table and head policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("artifacts", type=Path, nargs="*")
    parser.add_argument("--keep", type=Path, required=True, help="folder for tables and records")
    parser.add_argument("--texts", type=Path, default=os.environ.get("ORIENTC_ASSETS"))
    parser.add_argument("--calibration", type=Path, action="append")
    parser.add_argument("--bits", default="3.5")
    parser.add_argument("--only", default="")
    parser.add_argument("--limits", default="")
    parser.add_argument("--window", type=int)
    parser.add_argument("--head", default="both")
    parser.add_argument("--no-kl", action="store_true")
    parser.add_argument("--json", type=Path, help="append each row here as a line of JSON")
    options = parser.parse_args()
    if options.texts is None:
        parser.error("name the folder of the texts with --texts, or by ORIENTC_ASSETS")

    source = ModelSource.resolve(options.model)
    most = limits(options, protocol_of(source))
    setup = Setup(source, options.keep, torch.device("cpu"))
    measured = [
        PerplexityMeasurement(
            setup,
            PerplexityConfig(limit=most.get(text.name, most[""]), window=options.window, kl=not options.no_kl),
            text,
            several=not options.no_kl,
        )
        for text in chosen(options)
    ]
    originals = [measurement.original() for measurement in measured]
    print(f"{options.model}: perplexity × the uncompressed model's ± its error (divergence in nats)\n")
    heads = [
        f"{measurement.text.name}: {original.perplexity:.2f}, {original.metrics['tokens']:.0f} tokens"
        for measurement, original in zip(measured, originals, strict=True)
    ]
    print(f"| table | bits | head | {' | '.join(heads)} | worst |\n|---|---|---|{'---|' * len(heads)}---|", flush=True)
    for title, path in made(options, source):
        artifact = artifacts.load(path)
        rows: dict[str, dict[str, dict[str, Any]]] = {}
        for measurement, original in zip(measured, originals, strict=True):
            for record in measurement.compressed(Subject(source, path, artifact), options.head):
                rows.setdefault(record.head, {})[measurement.text.name] = cell(record, original)
        bits = artifact.description.bits_per_weight
        for head, row in rows.items():
            worst = max(row, key=lambda text: row[text]["ratio"])
            columns = " | ".join(shown(own) for own in row.values())
            print(f"| {title} | {bits:.3f} | {head} | {columns} | {row[worst]['ratio']:.4f}, {worst} |", flush=True)
            if options.json:
                with options.json.open("a") as stream:
                    stream.write(json.dumps({"name": title, "bits": bits, "head": head, "texts": row}) + "\n")


if __name__ == "__main__":
    main()
