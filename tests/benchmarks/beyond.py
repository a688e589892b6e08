"""Tables of equal size side by side: plain, calibrated, rank, rows kept, bits, targets; perplexity of each.

    python tests/benchmarks/beyond.py MODEL --calibration FILE --text FILE [--limit N] [--window N] [--bits 4.5,3.5,2.7]
        [--ratios 2.5,5,10] [--rank-bits 16] [--only WORD] [--head input-only|tied|both] [--json FILE] [--runs DIR]

For every `--bits` B: what of that size there is, from plain rounding to `--target-bits B`; for every `--ratios` X, at
that parameter ratio in float32, rank and kept rows alone; `--rank-bits` is the same by bits per weight. torchao's
rounding is compared where torchao is installed. All stored bytes count; each fit's seconds stand beside it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from orientc.compression.configs import AUTO, AutoencoderConfig, Config, QuantizeConfig, SvdConfig, TargetConfig
from orientc.compression.fit_table import fit_table
from orientc.evaluation.configs import PerplexityConfig
from orientc.evaluation.perplexity import PerplexityMeasurement
from orientc.evaluation.setup import Setup
from orientc.modeling.factors import Factors
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import Table, read_table
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage.artifact import Artifact
from orientc.storage.calibration import Calibration
from orientc.storage.sizes import bits_per_weight

Make = Callable[[], Artifact]


def by_bits(bits: float, table: Table, calibration: Calibration) -> Iterator[tuple[str, Make]]:
    """What there is at so many bits per weight."""
    dim, vocab = table.info.dim, table.info.vocab
    rank = max(1, int(bits * vocab * dim / 8 / (2 * (vocab + dim))))  # in float16

    def fit(config: Config, known: Calibration | None = None) -> Make:
        return lambda: fit_table(table, config, calibration=known)

    yield "svd, float16", fit(SvdConfig(rank=rank, dtype="float16"))
    yield "preset paper, float16", fit(AutoencoderConfig.preset("paper", rank=rank, dtype="float16"))
    yield "calibrated svd, float16", fit(SvdConfig(rank=rank, dtype="float16"), calibration)
    whole = int(bits)
    if whole in (2, 3, 4, 8):
        group = next((size for size in (16, 32, 48, 64, 96, 128) if whole + 32 / size <= bits * 1.01), dim)
        yield f"rounding {whole} bits, groups of {group}", fit(QuantizeConfig(bits=whole, group_size=group))
        yield "the same with feedback", fit(QuantizeConfig(bits=whole, group_size=group), calibration)
    yield "not calibrated, target", fit(TargetConfig(target_bits=bits))
    yield "target", fit(TargetConfig(target_bits=bits), calibration)


def by_ratio(ratio: float, table: Table, calibration: Calibration) -> Iterator[tuple[str, Make]]:
    """Rank and kept rows alone, float32, at a parameter ratio."""

    def fit(config: Config, known: Calibration | None = None) -> Make:
        return lambda: fit_table(table, config, calibration=known)

    yield "svd", fit(SvdConfig(ratio=ratio))
    yield "preset paper", fit(AutoencoderConfig.preset("paper", ratio=ratio))
    yield "autoencoder, calibrated", fit(AutoencoderConfig(ratio=ratio), calibration)
    yield "svd, calibrated", fit(SvdConfig(ratio=ratio), calibration)
    yield "svd, calibrated, rows kept", fit(SvdConfig(ratio=ratio, keep_rows=AUTO), calibration)


def torchao_tables(table: Table) -> Iterator[tuple[str, Make]]:
    """torchao's weight-only rounding of an embedding, int8 by row and int4 in groups of 32, as it is dequantized."""
    from torchao.quantization import IntxWeightOnlyConfig, PerAxis, PerGroup, quantize_

    blank = fit_table(table, QuantizeConfig(bits=8))
    for dtype, bits, granularity in ((torch.int8, 8, PerAxis(0)), (torch.int4, 4, PerGroup(32))):
        module = torch.nn.Embedding.from_pretrained(table.weight.float().clone())
        config = IntxWeightOnlyConfig(weight_dtype=dtype, granularity=granularity)
        quantize_(module, config, filter_fn=lambda part, _: isinstance(part, torch.nn.Embedding))
        dense = module.weight.dequantize().float()
        scales = 1 if bits == 8 else table.info.dim // 32
        nbytes = table.info.vocab * (table.info.dim * bits // 8 + 4 * scales)

        def make(dense: torch.Tensor = dense, nbytes: int = nbytes) -> Artifact:
            factors = Factors.plain(dense)
            description = replace(
                blank.description, layout=factors.layout, dtype="float32", settings={"torchao_bytes": nbytes}
            )
            return Artifact(description, factors)

        yield f"torchao int{bits}", make


def main() -> None:
    """Run and print a line per table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--window", type=int)
    parser.add_argument("--bits", default="")
    parser.add_argument("--ratios", default="")
    parser.add_argument("--rank-bits", default="")
    parser.add_argument("--only", default="", help="only rows whose name has this in it")
    parser.add_argument("--head", default="both")
    parser.add_argument("--json", type=Path, help="append each row here as a line of JSON")
    parser.add_argument("--runs", type=Path, help="keep records here: what was measured before is not again")
    options = parser.parse_args()

    source = ModelSource.resolve(options.model)
    table, calibration = read_table(source), calibrations.load(options.calibration)

    def numbers(text: str) -> list[float]:
        return [float(part) for part in text.split(",") if part]

    def rows() -> Iterator[tuple[str, Make]]:
        for bits in numbers(options.bits):
            for name, make in by_bits(bits, table, calibration):
                yield f"{bits:g} bits: {name}", make
        for ratio in numbers(options.ratios):
            for name, make in by_ratio(ratio, table, calibration):
                yield f"ratio {ratio:g}: {name}", make
        for bits in numbers(options.rank_bits):
            for name, make in by_ratio(32 / bits, table, calibration):
                yield f"{bits:g} bits, float32: {name}", make
        if options.bits and importlib.util.find_spec("torchao"):
            yield from torchao_tables(table)

    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(source, options.runs or Path(folder), torch.device("cpu"))
        config = PerplexityConfig(limit=options.limit, window=options.window)
        measurement = PerplexityMeasurement(setup, config, options.text, several=True)
        base = measurement.original().perplexity
        print(f"{options.model}: uncompressed perplexity {base:.3f}", flush=True)
        for name, make in rows():
            if options.only not in name:
                continue
            start = time.perf_counter()
            made = make()
            seconds = time.perf_counter() - start
            path = Path(folder) / "artifact.safetensors"
            artifacts.save(made, path)
            own: Any = made.description
            nbytes = own.settings.get("torchao_bytes", own.nbytes)
            row: dict[str, Any] = {
                "model": options.model,
                "name": name,
                "bits_per_weight": bits_per_weight(own.base.vocab, own.base.dim, nbytes),
                "parameter_ratio": own.parameter_ratio,
                "cosine": own.distances["cosine"],
                "fit_seconds": seconds,
                "kept": own.layout.kept,
                "rank": own.rank,
                "base": base,
            }
            found = measurement.compressed(Subject(source, path, made), options.head)
            row |= {record.head: record.perplexity for record in found}
            shown = "  ".join(
                f"{head} {row[head]:9.2f} ({row[head] / base:6.3f}×)" for head in ("input-only", "tied") if head in row
            )
            print(
                f"{name:52s} {row['bits_per_weight']:6.3f} bits  ratio {row['parameter_ratio']:5.2f}  {shown}"
                f"  fit {seconds:6.1f} s",
                flush=True,
            )
            if options.json:
                with options.json.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
