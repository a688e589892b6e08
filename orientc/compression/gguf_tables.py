"""Tables out of GGUF files: whether a calibration of the model behind them holds for them, and how rough they are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from orientc.errors import CalibrationMismatchError, FitError, ModelError
from orientc.modeling.factors import CHUNK
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.modeling.table_names import INPUT
from orientc.models.argument import is_gguf
from orientc.models.table import Table, read_table
from orientc.storage.calibration import Calibration
from orientc.storage.table_info import TableInfo
from orientc.utils.progress import Progress

_CLOSE = 0.1  # root mean squared difference, in shares of the table's own; Q4_0 is about that far, other models 1.4
_ROUGH = 6.0  # bits per weight of a table below which its own rounding is no small thing


def block_sizes(info: TableInfo) -> list[int]:
    """Bytes of a table in each of the block types that fit its width and make it smaller than it is, ascending.

    Raises `FitError` where there are none.
    """
    numbers = info.vocab * info.dim
    sizes = {round(kind.bits_per_weight * numbers / 8) for kind in BLOCK_TYPES.values() if info.dim % kind.width == 0}
    if not sizes:
        raise FitError(f"no block type goes into {info.dim} columns")
    if not (smaller := sorted(size for size in sizes if size < info.nbytes)):
        named = "the table" if info.table == INPUT else f"the table {info.table}"
        raise FitError(f"{named} is in {info.dtype}, and no block type that goes into {info.dim} columns is less")
    return smaller


def check_calibration(calibration: Calibration, table: Table) -> None:
    """Check that a calibration was measured on a table, or on the one that a GGUF file's was made from.

    Raises:
        CalibrationMismatchError: It was measured on another table.
    """
    base, name = calibration.description.base, table.info.table
    if not is_gguf(Path(table.info.id)) or table.info.sha256 == base.sha256 or is_gguf(Path(base.id)) or name != INPUT:
        calibration.check_base(table.info.sha256, name)
        return
    if (table.info.vocab, table.info.dim) != (base.vocab, base.dim):
        raise CalibrationMismatchError(
            f"the calibration was measured on a table of {base.vocab} × {base.dim} ({base.id}), that of "
            f"{table.info.id} is {table.info.vocab} × {table.info.dim}: make one for this file with orientc calibrate"
        )
    try:
        measured = read_table(base.id, revision=base.revision)
    except ModelError as error:
        raise CalibrationMismatchError(
            f"the calibration was measured on {base.id}, whose table can't be compared with that of {table.info.id} "
            f"({error}): make one for this file with orientc calibrate"
        ) from None
    calibration.check_base(measured.info.sha256)
    apart = _apart(table.weight, measured.weight)
    if not apart <= _CLOSE:
        raise CalibrationMismatchError(
            f"the calibration was measured on {base.id}, whose table differs from that of {table.info.id} by "
            f"{apart:.0%} (root mean square, at most {_CLOSE:.0%}): make one for this file with orientc calibrate"
        )


def say_rough(info: TableInfo, progress: Progress) -> None:
    """Warn where a GGUF file's table has so few bits that its own rounding is no small thing."""
    bits = 8 * info.nbytes / (info.vocab * info.dim)
    if is_gguf(Path(info.id)) and bits < _ROUGH:
        progress.warn(
            f"the table of {info.id} is rounded to {bits:.3g} bits per weight ({info.dtype}) already: what that cost "
            "is in no figure here; a file with a table of 8 or 16 bits loses less"
        )


def _apart(one: Tensor, other: Tensor) -> float:
    """The root mean squared difference of two tables, in shares of the second one's root mean square."""
    difference = whole = torch.zeros((), dtype=torch.float64)
    for here, there in zip(one.split(CHUNK), other.split(CHUNK), strict=True):
        difference = difference + (here.double() - there.double()).square().sum()
        whole = whole + there.double().square().sum()
    return float((difference / whole).sqrt())
