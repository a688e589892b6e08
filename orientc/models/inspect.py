"""`inspect`: what a model's tables are like before they are compressed, or all that an orientc file says of itself.

Torch and transformers are imported only where a table is measured: an artifact can do without transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orientc.errors import UsageError
from orientc.modeling.layout import Layout
from orientc.models.resolve import is_artifact
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage.calibration import Calibration
from orientc.storage.description import Description
from orientc.storage.sizes import MB, choose_rank, parameter_ratio
from orientc.storage.table_info import TableInfo
from orientc.utils.documents import document

if TYPE_CHECKING:
    from orientc.models.source import ModelSource
    from orientc.models.table import Table

RATIOS = (2.5, 5.0, 10.0)
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)  # of the width: the ranks whose energy is told


@dataclass(frozen=True)
class Size:
    """What a parameter ratio means for a table: rank, MB of 10⁶ bytes by dtype, and the energy that rank keeps."""

    ratio: float
    rank: int
    parameter_ratio: float
    mb: dict[str, float]
    energy: float


@dataclass(frozen=True)
class Listed:
    """One of a model's tables.

    `share` is its part of all the model's parameters, `nbytes` what it takes in the checkpoint (None where nothing is
    stored for it), `modules` are the names of those that use it.
    """

    name: str
    vocab: int
    dim: int
    share: float
    nbytes: int | None
    modules: tuple[str, ...]


@dataclass(frozen=True)
class TableInspection:
    """A table's facts.

    `share` is its part of all the model's parameters. `norms` are over the rows' Euclidean norms. `energy` maps a
    rank to the share of the table's squared norm that the best approximation of that rank keeps. `tables` are all that
    the model has, this one among them; none where the table was given without its model.
    """

    table: TableInfo
    share: float
    norms: dict[str, float]
    energy: dict[int, float]
    sizes: tuple[Size, ...]
    tables: tuple[Listed, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return document("table", asdict(self))


@dataclass(frozen=True)
class ArtifactInspection:
    """An artifact file, and all it says of itself."""

    path: Path
    description: Description

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return document("artifact", {"artifact": str(self.path)} | self.description.as_dict())


@dataclass(frozen=True)
class CalibrationInspection:
    """A calibration file, and what is in it."""

    path: Path
    calibration: Calibration

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return document("calibration", {"calibration": str(self.path)} | self.calibration.as_dict())


def inspect(
    subject: str | Path | ModelSource | Table,
    *,
    ratio: float | Sequence[float] | None = None,
    table: str | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> TableInspection | ArtifactInspection | CalibrationInspection:
    """Measure a model's table and list its others, or read an artifact or a calibration.

    Args:
        subject: Hub id, local folder, .gguf file or "demo"; a table; or the file of an artifact or a calibration.
        ratio: Parameter ratios to work out for a table; 2.5, 5 and 10 unless given.
        table: Which table of a model to measure: "input", "head", or another's name; all are listed, and the input's
            is measured, unless given ("all").
        revision: Hub branch, tag or commit of the model.
        allow_pickle: Read .bin weights (tensors only, no code).
        trust_remote_code: Run Python code from the model's repository.

    Raises:
        UsageError: A ratio is below 1, or given for an artifact or a calibration.
        FitError: A ratio is out of the table's reach, or the table has numbers that are not finite.
        ModelError, ArtifactError, CalibrationError: The model or file can't be read.
    """
    if isinstance(subject, str | Path) and is_artifact(str(subject)):
        if ratio:
            raise UsageError("`ratio` is for a model's table: here the argument is a file that has its size already")
        if table:
            raise UsageError("`table` is for a model: here the argument is a file")
        path = Path(subject)
        if calibrations.is_calibration(path):
            return CalibrationInspection(path, calibrations.load(path))
        return ArtifactInspection(path, artifacts.load(path).description)
    from orientc.models.source import ModelSource
    from orientc.models.table import read_table
    from orientc.models.tables import ALL

    if isinstance(subject, str | Path):
        trust = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
        subject = ModelSource.resolve(str(subject), revision=revision, **trust)
    read = read_table(subject, table=None if table == ALL else table)
    listed = _listed(subject, read.info) if isinstance(subject, ModelSource) else ()
    return _measured(read, [ratio] if isinstance(ratio, int | float) else [*(ratio or ())], listed)


def _listed(source: ModelSource, info: TableInfo) -> tuple[Listed, ...]:
    """All tables of a model; those that are not measured are not read."""
    from orientc.models.table import stored_bytes
    from orientc.models.tables import tables_of

    return tuple(
        Listed(
            each.name,
            each.vocab,
            each.dim,
            each.numbers / info.model_parameters,
            stored_bytes(source, each),
            each.modules,
        )
        for each in tables_of(source.skeleton).values()
    )


def _measured(table: Table, ratios: Sequence[float], listed: tuple[Listed, ...]) -> TableInspection:
    import torch

    from orientc.methods.linear_algebra import eigenvalues, gram, norms

    info = table.info
    table.check_finite()
    lengths = norms(table.weight)
    values = eigenvalues(gram(table.weight)).flip(0)
    kept = (values.cumsum(0) / values.sum()).tolist()
    ranks = sorted({max(1, round(info.dim * share)) for share in SHARES})
    layout, sizes = Layout(info.vocab, info.dim, 1, bias=True), []
    reach = parameter_ratio(info.vocab, info.dim, layout.numbers)  # narrow tables don't go as far as those by default
    for ratio in ratios or [each for each in RATIOS if each <= reach]:
        rank = choose_rank(lambda rank: replace(layout, rank=rank), rank=None, ratio=ratio)
        numbers = replace(layout, rank=rank).numbers
        mb = {dtype: numbers * getattr(torch, dtype).itemsize / MB for dtype in ("float32", "float16")}
        sizes.append(Size(ratio, rank, parameter_ratio(info.vocab, info.dim, numbers), mb, kept[rank - 1]))
    return TableInspection(
        table=info,
        share=info.vocab * info.dim / info.model_parameters,
        norms={
            "min": lengths.min().item(),
            "median": lengths.median().item(),
            "mean": lengths.mean().item(),
            "max": lengths.max().item(),
            "std": lengths.std().item(),
            "zero_rows": float((lengths == 0).sum().item()),
        },
        energy={rank: kept[rank - 1] for rank in ranks},
        sizes=tuple(sizes),
        tables=listed,
    )
