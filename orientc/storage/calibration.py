"""Calibrations: token counts and importance matrices as one plain `.safetensors` file; `README.md` describes its bytes.

The same calibration is always written as the same bytes. Imports torch only where tensors are read or written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orientc._version import __version__
from orientc.errors import CalibrationError, CalibrationMismatchError
from orientc.methods.token_statistics import TokenStatistics
from orientc.modeling.table_names import HEAD, INPUT
from orientc.storage import safetensors_file
from orientc.storage.safetensors_file import DamagedError, FileFormat, Header, as_strings, flat, positive
from orientc.storage.table_info import TableInfo, table_from_metadata, table_metadata
from orientc.utils.files import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
OBJECTIVES = ("masked", "causal", "seq2seq", "sentence", "classes")
_FREQUENCIES = ("counts", "prior", "head_counts")
MATRICES = ("input_importance", "head_importance")
_SHRINKAGES = dict(zip(MATRICES, ("input_shrinkage", "head_shrinkage"), strict=True))
_ASYMMETRY = 1e-4  # allowed, in shares of a matrix's largest entry: another program's rounding
_ROWS = 1024  # of a matrix, looked at at a time
_FORMAT = FileFormat(
    "orientc-calibration",
    version=3,
    called="a calibration of orientc",
    error=CalibrationError,
    oldest=2,
    again="measure it anew with orientc calibrate --overwrite",
)


@dataclass(frozen=True)
class HeadTable:
    """The table of a head that does not share the lookup's: its hash and size."""

    sha256: str
    vocab: int
    dim: int


@dataclass(frozen=True)
class CalibrationDescription:
    """A calibration without its tensors.

    Attributes:
        base: The table it was measured on.
        objective: The loss importance was measured by: "masked", "causal", "seq2seq", "classes" or "sentence"; None
            where not measured.
        text: Name of the text, if any.
        text_sha256: Hash of the text, if any.
        frequency: Where the counts come from; None: from the text.
        counted: Tokens of the text's inputs, special tokens and masks included.
        measured: Input positions that gradients were taken at.
        metrics: Names of the importance matrices that are there.
        head: The head's own table, where that was measured; None where it shares the lookup's, or was not.
        settings: All settings of the measurement, a flat dictionary.
        seed: Seed of the measurement.
        written_by: The orientc that wrote it, by its version.
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
    written_by: str = __version__
    head: HeadTable | None = None

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the model it was measured on; None where its settings don't say."""
        return self.settings.get("fingerprint")

    def as_dict(self) -> dict[str, Any]:
        """The description as JSON values."""
        return asdict(self) | {"fingerprint": self.fingerprint}


@dataclass(frozen=True)
class Calibration(TokenStatistics):
    """A calibration: token counts and importance matrices, and their description.

    Where a head has a table of its own, H and `head_counts` are of that one. `read_sha256` is the sha256 of the bytes
    it was read from; None for one that was made.
    """

    description: CalibrationDescription = field(kw_only=True)
    read_sha256: str | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def sha256(self) -> str:
        """The sha256 of its file: of the one it was read from, or of the one it would be written to."""
        return self.read_sha256 or safetensors_file.sha256_of(_metadata(self), self.tensors)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by their names in a file."""
        others = {
            "prior": self.prior,
            "head_counts": self.head_counts,
            "input_importance": self.input_importance,
            "head_importance": self.head_importance,
            "input_shrinkage": self.input_shrinkage,
            "head_shrinkage": self.head_shrinkage,
        }
        return {"counts": self.counts} | {name: tensor for name, tensor in others.items() if tensor is not None}

    @property
    def facts(self) -> dict[str, float | None]:
        """Count of distinct tokens (`types`), each matrix's trace in nats per squared unit, and its shrinkage."""
        matrices = {"input_trace": self.input_importance, "head_trace": self.head_importance}
        traces = {name: None if matrix is None else float(matrix.trace()) for name, matrix in matrices.items()}
        shares = {"input_shrinkage": self.input_shrinkage, "head_shrinkage": self.head_shrinkage}
        shrinkages = {name: None if share is None else float(share) for name, share in shares.items()}
        return {"types": int((self.counts > 0).sum()), **traces, **shrinkages}

    def as_dict(self) -> dict[str, Any]:
        """The description and the facts as JSON values."""
        return self.facts | self.description.as_dict()

    def of_table(self, table: str) -> TokenStatistics:
        """What is known of one of the model's tables: what its rows weigh, and the matrices that are its own.

        Args:
            table: Name of the table.

        Raises:
            CalibrationError: Nothing was measured of that one.
        """
        if table == INPUT:
            lookup = replace(self, head_importance=None, head_shrinkage=None, head_counts=None)
            return lookup if self.description.head else self
        if table != HEAD or self.description.head is None or self.head_counts is None:
            why = "a model's input and head are measured, by a text" if table != HEAD else "it was left out, or is tied"
            raise CalibrationError(f"the calibration says nothing of the table {table}: {why}; leave `calibration` out")
        return TokenStatistics(
            self.head_counts, input_importance=self.head_importance, input_shrinkage=self.head_shrinkage
        )

    def check_base(self, sha256: str, table: str = INPUT) -> None:
        """Raise `CalibrationMismatchError` unless `sha256` is the hash of the table of that name it was measured on."""
        base, head = self.description.base, self.description.head
        measured = base.sha256 if table == INPUT or head is None else head.sha256
        if sha256 != measured:
            raise CalibrationMismatchError(
                f"the calibration was measured on the table of {base.id} ({measured[:12]}…), this model's table is "
                f"another ({sha256[:12]}…): make one for this model with orientc calibrate"
            )


def save(calibration: Calibration, path: str | Path) -> None:
    """Write a calibration atomically.

    Raises:
        OutputError: The file system refuses.
    """
    safetensors_file.write(Path(path), _metadata(calibration), calibration.tensors)


def read_description(path: str | Path) -> CalibrationDescription:
    """Read the description of a calibration, from its header alone.

    Raises:
        CalibrationError: The file is damaged, foreign, too new or can't be read.
    """
    return safetensors_file.read_described(Path(path), _FORMAT, _from_header)


def is_calibration(path: str | Path) -> bool:
    """Whether a file is marked as a calibration, damaged or not."""
    try:
        return safetensors_file.read_header(Path(path)).metadata.get("format") == _FORMAT.name
    except (OSError, DamagedError):
        return False


def load(path: str | Path) -> Calibration:
    """Read a calibration, once, checking everything before it is handed out.

    Raises:
        CalibrationError: The file is damaged, foreign, too new or can't be read.
    """
    calibration, sha256 = safetensors_file.read_all(Path(path), _FORMAT, _from_header, _checked)
    object.__setattr__(calibration, "read_sha256", sha256)  # only here, so that no changed copy has it
    return calibration


def _metadata(calibration: Calibration) -> dict[str, str]:
    return _FORMAT.marks | _to_metadata(calibration.description)


def _checked(description: CalibrationDescription, tensors: dict[str, Tensor]) -> Calibration:
    """The calibration of a file. Raises `DamagedError`."""
    _check_tensors(tensors)
    return Calibration(description=description, **tensors)


def _to_metadata(description: CalibrationDescription) -> dict[str, str]:
    """The header's metadata, without `format` and `format_version`."""
    own = {
        "objective": description.objective,
        "text": description.text,
        "text_sha256": description.text_sha256,
        "frequency": description.frequency,
        "counted": description.counted,
        "measured": description.measured,
        "settings": canonical_json(description.settings),
        "seed": description.seed,
        "version": description.written_by,
    }
    head = {} if description.head is None else {f"head_{name}": it for name, it in asdict(description.head).items()}
    return table_metadata(description.base) | as_strings(own | head)


def _from_header(header: Header) -> CalibrationDescription:
    """Read a description, checking each entry and every tensor's type and shape. Raises `KeyError` or `ValueError`."""
    metadata = header.metadata
    base = table_from_metadata(metadata)
    head = None
    if "head_sha256" in metadata:
        head = HeadTable(metadata["head_sha256"], positive(metadata, "head_vocab"), positive(metadata, "head_dim"))
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(_FREQUENCIES, (base.vocab,)),
        **dict.fromkeys(MATRICES, (base.dim, base.dim)),
        **dict.fromkeys(_SHRINKAGES.values(), ()),
    }
    if head:
        shapes |= {"head_importance": (head.dim, head.dim), "head_counts": (head.vocab,)}
    for name, stored in header.tensors.items():
        if name not in shapes:
            raise ValueError(f"tensor {name!r:.60} does not belong there")
        if stored.shape != shapes[name] or stored.dtype != "F32":
            raise ValueError(f"{name} is {list(stored.shape)} of type {stored.dtype}, not {list(shapes[name])} of F32")
    if missing := sorted({"counts", *(("head_counts", "head_importance") if head else ())} - header.tensors.keys()):
        raise KeyError(missing[0])
    for share, name in [*((share, name) for name, share in _SHRINKAGES.items()), ("head_counts", "head_importance")]:
        if share in header.tensors and name not in header.tensors:
            raise ValueError(f"{share} is there, but not {name}")
    matrices = tuple(name for name in MATRICES if name in header.tensors)
    objective = metadata["objective"] or None
    if objective not in (None, *OBJECTIVES):
        raise ValueError(f"objective {objective!r:.60} is unknown")
    if ("input_importance" in matrices) != (objective is not None) or matrices == ("head_importance",):
        raise ValueError("an objective and an importance matrix of the input belong together")
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
        metrics=matrices,
        settings=flat(metadata, "settings"),
        seed=int(metadata["seed"]),
        written_by=metadata["version"],
        head=head,
    )


def _check_tensors(tensors: dict[str, Tensor]) -> None:
    """Raise `DamagedError` where counts are negative or all zero, a matrix is not symmetric, or a share is none."""
    for name in _FREQUENCIES:
        if name in tensors and ((tensors[name] < 0).any() or not tensors[name].any()):
            raise DamagedError(f"its {name} are negative somewhere, or zero everywhere")
    for name in MATRICES:
        matrix = tensors.get(name)
        if matrix is None:
            continue
        strips = zip(matrix.split(_ROWS), matrix.split(_ROWS, dim=1), strict=True)
        apart = max(float((rows - columns.T).abs().max()) for rows, columns in strips)
        if (matrix.diagonal() < 0).any() or apart > _ASYMMETRY * max(map(abs, map(float, matrix.aminmax()))):
            raise DamagedError(f"{name} is not a symmetric matrix of a positive diagonal")
    for name in _SHRINKAGES.values():
        if name in tensors and not 0 <= float(tensors[name]) <= 1:
            raise DamagedError(f"{name} is {float(tensors[name]):g}, not a share from 0 to 1")
