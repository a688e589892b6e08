"""What a calibrated target would lose at the size of an artifact that was made without a calibration."""

from __future__ import annotations

from pathlib import Path

from orientc.compression.configs import TargetConfig
from orientc.compression.fit_and_store import Compressed
from orientc.compression.fit_table import fit_table
from orientc.compression.sizing import importance_of
from orientc.errors import CalibrationError, OrientcError
from orientc.models.table import read_table
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage import runs
from orientc.storage.calibration import Calibration
from orientc.storage.sizes import MB
from orientc.storage.table_info import TableInfo

_MOST = 1 << 26  # numbers in a table that a target is fitted to for the sake of a hint: it takes about a minute


def alternative(made: Compressed, *, out: str | Path | None = None) -> str | None:
    """Say in one line what a calibration would do for an artifact of this size, or how to get one.

    Where a calibration is at hand, a target of the size is fitted by it to say what it would lose, unless the table is
    so large that this takes long. None where the artifact was made by a calibration, or for a target.

    Args:
        made: The artifact.
        out: The runs folder that a calibration of its model may be in.
    """
    described = made.description
    if described.settings.get("calibration_sha256") or described.method == TargetConfig.method:
        return None
    base = described.base
    folder = None if out is None or str(out).endswith(artifacts.SUFFIX) else Path(out)
    found = _at_hand(runs.model_folder(base.id, folder), base)
    if found is None:
        return (
            "made without a calibration, by which a table of this size loses less as a rule: orientc calibrate "
            f"{base.id} measures one; orientc shrink {base.id} does so and finds the smallest within a tolerance"
        )
    path, calibration = found
    if described.base.vocab * described.base.dim > _MOST:
        return (
            f"made without a calibration, by which a table of this size loses less as a rule: {path} is one; compress "
            f"with `target_mb` {described.nbytes / MB:.4g} and that as `calibration`"
        )
    config = TargetConfig(target_mb=described.nbytes / MB)
    try:
        table = read_table(base.id, table=base.table, revision=base.revision)
        other = fit_table(table, config, calibration=calibration)
        importance = importance_of(config, table.weight, calibration.of_table(base.table))
        own = importance.cost(made.artifact.factors, table.weight)
    except OrientcError:  # it is a hint, and nothing that was asked for
        return None
    size, cost = described.nbytes / MB, other.description.distances["cost"]
    return (
        f"made without a calibration: it is predicted to lose {own:.3g} nats per token by {path}, a target of the same "
        f"{size:.2f} MB {cost:.3g}; compress with `target_mb` {size:.4g} and that as `calibration`"
    )


def _at_hand(folder: Path, base: TableInfo) -> tuple[Path, Calibration] | None:
    """The newest calibration of a table in a folder that has measured importance; None where there is none."""
    files = sorted(folder.glob("calibration-*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files:
        try:
            found = calibrations.load(path)
            found.of_table(base.table)
            found.check_base(base.sha256, base.table)
        except CalibrationError:
            continue
        if found.description.metrics:
            return path, found
    return None
