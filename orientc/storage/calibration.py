"""What is known of how a model uses its table, as a file: one plain `.safetensors` file, format version 1.

Tensors, all float32: `counts [vocab]`, how often each token stands in a text (or its frequency, scaled to counts);
`prior [vocab]`, as present, how often to expect it in any text, in the same sum; `input_importance [dim, dim]` and
`head_importance [dim, dim]` as present: the matrices M and H of `sensitivity`, symmetric.

Everything else is string metadata, keys sorted: `format` ("orientc-calibration"), `format_version`, the base table as
artifacts name it, `objective` ("masked", "causal" or "sentence"), `text` and `text_sha256`, `frequency` (where counts
come from if not from the text), `counted` and `measured` (tokens), `settings` as a flat JSON object, `seed`, and
`version`, the orientc that wrote it. What is not known is "".

The same calibration is always written as the same bytes, and a file is checked in full before anything of it is used.
This module imports torch only where tensors are read or written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orientc._version import __version__
from orientc.errors import CalibrationError, CalibrationMismatchError
from orientc.methods.token_statistics import TokenStatistics
from orientc.storage import safetensors_file
from orientc.storage.safetensors_file import DamagedError, Header, flat
from orientc.storage.table_info import TableInfo, table_from_metadata, table_metadata
from orientc.utils.files import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "orientc-calibration"
FORMAT_VERSION = 1
SUFFIX = ".safetensors"
OBJECTIVES = ("masked", "causal", "sentence")
_FREQUENCIES = ("counts", "prior")
_METRICS = ("input_importance", "head_importance")
_ASYMMETRY = 1e-4  # of a metric's largest entry: what another program's rounding may leave


@dataclass(frozen=True)
class CalibrationDescription:
    """All a calibration says of itself; what reading its header gives.

    `objective` is what sensitivity was measured by, None where nothing was measured; `text` and `text_sha256` name
    the text, None where there is none. `frequency` says where the counts come from, None where from the text.
    The text makes inputs of `counted` tokens, special ones and masks among them; at `measured` input positions
    gradients were taken (0 where none).
    `metrics` names the metrics that are there, `settings` is all that was asked for.
    """

    base: TableInfo
    objective: str | None
    text: str | None
    text_sha256: str | None
    frequency: str | None
    counted: int
    measured: int
    metrics: tuple[str, ...]
    settings: dict[str, Any]
    seed: int
    version: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Calibration(TokenStatistics):
    """What was measured of a model, and the `description` that goes with it in its file."""

    description: CalibrationDescription = field(kw_only=True)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by the names they have in a file."""
        others = {
            "prior": self.prior,
            "input_importance": self.input_importance,
            "head_importance": self.head_importance,
        }
        return {"counts": self.counts} | {name: tensor for name, tensor in others.items() if tensor is not None}

    @property
    def facts(self) -> dict[str, float | None]:
        """Figures of the tensors: tokens that were met at all, and each metric's trace, in nats per squared unit."""
        metrics = {"input_trace": self.input_importance, "head_trace": self.head_importance}
        traces = {name: None if metric is None else float(metric.trace()) for name, metric in metrics.items()}
        return {"types": int((self.counts > 0).sum()), **traces}

    def check_base(self, sha256: str) -> None:
        """Raise `CalibrationMismatchError` unless `sha256` is the hash of the table this was measured on."""
        base = self.description.base
        if sha256 != base.sha256:
            raise CalibrationMismatchError(
                f"the calibration was measured on the table of {base.id} ({base.sha256[:12]}…), this model's table is "
                f"another ({sha256[:12]}…): make one for this model with orientc calibrate"
            )


def save(calibration: Calibration, path: str | Path) -> None:
    """Write a calibration atomically; the same calibration gives the same bytes. Raises `OutputError`."""
    safetensors_file.write(Path(path), _metadata(calibration.description), calibration.tensors)


def read_description(path: str | Path) -> CalibrationDescription:
    """What the calibration at `path` says of itself, from its header alone. Raises `CalibrationError`."""
    try:
        return _parse(Path(path), safetensors_file.read_header(Path(path)))
    except OSError as error:
        raise CalibrationError(f"can't read {path}: {error.strerror or error}") from error
    except DamagedError as error:
        raise CalibrationError(f"{path} is not a calibration, or is damaged: {error}") from None


def is_calibration(path: str | Path) -> bool:
    """Whether a file says that it is one, be it damaged or not."""
    try:
        return safetensors_file.read_header(Path(path)).metadata.get("format") == FORMAT
    except (OSError, DamagedError):
        return False


def load(path: str | Path) -> Calibration:
    """Read and validate a calibration. Raises `CalibrationError` where it is damaged, foreign or too new."""
    description = read_description(path)
    try:
        tensors = safetensors_file.read_tensors(Path(path))
        _check(tensors)
    except DamagedError as error:
        raise CalibrationError(f"{path} is damaged: {error}") from None
    return Calibration(description=description, **tensors)


def _metadata(description: CalibrationDescription) -> dict[str, str]:
    values: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "objective": description.objective,
        "text": description.text,
        "text_sha256": description.text_sha256,
        "frequency": description.frequency,
        "counted": description.counted,
        "measured": description.measured,
        "settings": canonical_json(description.settings),
        "seed": description.seed,
        "version": description.version,
    }
    own = {key: "" if value is None else str(value) for key, value in values.items()}
    return table_metadata(description.base) | own


def _parse(path: Path, header: Header) -> CalibrationDescription:
    metadata = header.metadata
    if metadata.get("format") != FORMAT:
        raise CalibrationError(f"{path} is a safetensors file, but not a calibration of orientc calibrate")
    try:
        if (version := safetensors_file.positive(metadata, "format_version")) > FORMAT_VERSION:
            raise CalibrationError(f"{path} has format version {version}, newer than {FORMAT_VERSION}: update orientc")
        return _description(header)
    except KeyError as error:
        raise CalibrationError(f"{path} is damaged: {error.args[0]} is missing") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CalibrationError(f"{path} is damaged: {error!s:.200}") from None


def _description(header: Header) -> CalibrationDescription:
    """Build a description, checking each entry; `ValueError` and friends say what is wrong."""
    metadata = header.metadata
    base = table_from_metadata(metadata)
    shapes = dict.fromkeys(_FREQUENCIES, (base.vocab,)) | {name: (base.dim, base.dim) for name in _METRICS}
    for name, stored in header.tensors.items():
        if name not in shapes:
            raise ValueError(f"tensor {name!r:.60} does not belong there")
        if stored.shape != shapes[name] or stored.dtype != "F32":
            raise ValueError(f"{name} is {list(stored.shape)} of type {stored.dtype}, not {list(shapes[name])} of F32")
    if "counts" not in header.tensors:
        raise KeyError("counts")
    metrics = tuple(name for name in _METRICS if name in header.tensors)
    objective = metadata["objective"] or None
    if objective not in (None, *OBJECTIVES):
        raise ValueError(f"objective {objective!r:.60} is unknown")
    if ("input_importance" in metrics) != (objective is not None) or metrics == ("head_importance",):
        raise ValueError("an objective and a metric of the input belong together")
    counted, measured = int(metadata["counted"]), int(metadata["measured"])
    if min(counted, measured) < 0:
        raise ValueError(f"counted and measured tokens are {counted} and {measured}")
    return CalibrationDescription(
        base=base,
        objective=objective,
        text=metadata["text"] or None,
        text_sha256=metadata["text_sha256"] or None,
        frequency=metadata["frequency"] or None,
        counted=counted,
        measured=measured,
        metrics=metrics,
        settings=flat(metadata, "settings"),
        seed=int(metadata["seed"]),
        version=metadata["version"],
    )


def _check(tensors: dict[str, Tensor]) -> None:
    for name in _FREQUENCIES:
        if name in tensors and ((tensors[name] < 0).any() or not tensors[name].any()):
            raise DamagedError(f"its {name} are negative somewhere, or zero everywhere")
    for name in _METRICS:
        metric = tensors.get(name)
        if metric is None:
            continue
        if (metric.diagonal() < 0).any() or (metric - metric.T).abs().max() > _ASYMMETRY * metric.abs().max():
            raise DamagedError(f"{name} is not a symmetric matrix of a positive diagonal")
