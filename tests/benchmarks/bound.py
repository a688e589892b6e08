"""How far tables are from the rate–distortion function: bits used, and bits needed for the same predicted loss.

    python tests/benchmarks/bound.py MODEL CALIBRATION ARTIFACT|BITS [ARTIFACT|BITS …] [--head-weight 1] [--json FILE]

An ARTIFACT is held against the bound as it is; for BITS a table is made with `--target-bits`. Row groups and
coordinates are the same for every code (`row_groups_of` and transform coding's basis under the calibration), so that a
coarser model of the table does not pass for a better code; "finer" has row groups by factors of √2 and not 2. The gap
is the sum of its parts: what the codes take above the bound, and all that the decoder, scales, row-group ids and other
tensors take. All figures are bits per weight of the table but the predicted loss, in nats per token, and the last
column: the loss by that of the bound at as many bits of codes.

The bound is that of Gaussian coordinates with the measured variances: `tests/support/rate_distortion.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.rate_distortion import Cells, by_role, row_groups_by

from orientc.compression.configs import TargetConfig
from orientc.compression.fit_table import fit_table
from orientc.methods.importance import Importance
from orientc.methods.row_groups import row_groups_of
from orientc.models.source import ModelSource
from orientc.models.table import Table, read_table
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage.artifact import Artifact
from orientc.storage.calibration import Calibration

FINER, SMALLEST = 2**0.5, 64  # factor between row groups, and rows of the first at least


def made(named: str, table: Table, calibration: Calibration, head_weight: float) -> Artifact:
    """The artifact that is named, or a table of so many bits."""
    try:
        bits = float(named)
    except ValueError:
        found = artifacts.load(named)
        found.check_base(table.info.sha256)
        return found
    return fit_table(table, TargetConfig(target_bits=bits, head_weight=head_weight), calibration=calibration)


def against(artifact: Artifact, table: Table, importance: Importance, cells: Cells, finer: Cells) -> dict[str, Any]:
    """An artifact beside the bound, in bits per weight."""
    weights = table.info.vocab * table.info.dim
    used = {role: bits / weights for role, bits in by_role(artifact.factors.tensors).items()}
    cost, total, codes = importance.cost(artifact.factors, table.weight), sum(used.values()), used.get("code", 0.0)
    bound = cells.bits(cost) / weights
    return {
        "bits": total,
        "cost": cost,
        "codes": codes,
        "bound": bound,
        "finer": finer.bits(cost) / weights,
        "gap": total - bound,
        "parts": used | {"code": codes - bound},
        "loss_ratio": cost / cells.cost(codes * weights),
    }


def main() -> None:
    """Run, and print a line per table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("calibration", type=Path)
    parser.add_argument("tables", nargs="+", metavar="ARTIFACT|BITS")
    parser.add_argument("--head-weight", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="append each row here as a line of JSON")
    options = parser.parse_args()

    table, calibration = read_table(ModelSource.resolve(options.model)), calibrations.load(options.calibration)
    calibration.check_base(table.info.sha256)
    with torch.no_grad():
        importance = Importance.of(calibration, table.weight, head_weight=options.head_weight)
        groups = row_groups_of(importance.weights)
        cells = Cells.of(table.weight, importance, groups)
        finer = Cells.of(table.weight, importance, row_groups_by(importance.weights, FINER, SMALLEST))
    measured = calibration.description
    print(f"{options.model}, by {options.calibration.name} ({measured.text}, {measured.measured} positions measured)\n")
    print("| table | bits | predicted loss | codes | bound (finer) | gap | of which | loss / bound's |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for named in options.tables:
        artifact = made(named, table, calibration, options.head_weight)
        row = against(artifact, table, importance, cells, finer)
        parts = ", ".join(f"{role} {bits:.3f}" for role, bits in row["parts"].items())
        name = named.rpartition("/")[2].removesuffix(artifacts.SUFFIX)
        print(
            f"| {name} | {row['bits']:.3f} | {row['cost']:.6f} "
            f"| {row['codes']:.3f} | {row['bound']:.3f} ({row['finer']:.3f}) | {row['gap']:.3f} | {parts} "
            f"| {row['loss_ratio']:.2f} |",
            flush=True,
        )
        if options.json:
            with options.json.open("a") as stream:
                about = {"model": options.model, "calibration": calibration.sha256, "table": named}
                stream.write(json.dumps(about | row) + "\n")


if __name__ == "__main__":
    main()
