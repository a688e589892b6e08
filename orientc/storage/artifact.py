"""The compressed table as a file: one plain `.safetensors` file, format version 1.

Tensors, as present; the floats of one type (F32, F16 or BF16) but for scales and offsets, which are F16:

- `latents [rows, rank]`, `decoder.weight [dim, rank]`, `decoder.bias [dim]`: a row of the table is
  `activation(latents[id] · decoder.weightᵀ + decoder.bias)`, and `latents[id]` where there is no decoder.
- `kept.ids [kept]` (I32, ascending), `kept.rows [kept, dim]`: these rows are stored as they are; latents are those of
  the others, in the order of their ids: `rows = vocab - kept`.

Latents in codes, `codec` "per-group": rows are in row groups (`latents.row_groups [rows]`, U8, where there are several), each
row group's in the order of their ids. Columns are in groups of `group_size`, the last one may be shorter; row group t codes a column
of group g in `bits[t][g]` bits. `latents.<t>.codes [rows of t, bytes]` (U8) has a row's codes group by group, each
group's from a byte on, the lowest bit of its first code in the lowest bit of that byte. `latents.<t>.scales` and
`latents.<t>.offsets [rows of t, groups with bits]`: a latent is `code · scale + offset`, and 0 without bits.

Codec "per-channel": the same, but scales and offsets are `[columns with bits]`, one for each column of the row group.

Everything else is string metadata, keys sorted: `format` ("orientc"), `format_version`, `codec` ("plain", "per-group" or
"per-channel"), `coding` (JSON: `group_size`, `bits`, `row_group_sizes`; not for "plain"), `method`, `rank`, `activation`
("none" or "elu"), the base table's `base_id`, `base_revision`, `base_sha256`, `base_dtype`, `base_bytes`, `base_tied`,
`base_model_parameters`, `base_model_bytes`, `vocab`, `dim`, `padding_idx`, `embed_scale`; `settings` and `distances` as
flat JSON objects; `seed`; `version`, the orientc that wrote it. What is not known (`base_revision`, `padding_idx`,
`seed`) is "".

The same artifact is always written as the same bytes. Reading checks the header's size, names, shapes, types,
offsets and metadata before a tensor is touched, and every number for being finite before it is handed out.
This module imports torch only where tensors are read or written.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orientc._version import __version__
from orientc.errors import ArtifactError, ArtifactMismatchError
from orientc.modeling.layout import CODED, CODES, FLOAT, HALF, IDS, PLAIN, Layout
from orientc.storage import safetensors_file
from orientc.storage.safetensors_file import DTYPES, DamagedError, Stored, flat, positive
from orientc.storage.sizes import bits_per_weight, parameter_ratio
from orientc.storage.table_info import TableInfo, table_from_metadata, table_metadata
from orientc.utils.files import canonical_json

if TYPE_CHECKING:
    from orientc.modeling.factors import Factors

FLOAT_DTYPES = ("float32", "float16", "bfloat16")  # of an artifact's floats, by torch's names
FORMAT = "orientc"
FORMAT_VERSION = 1
SUFFIX = ".safetensors"
ACTIVATIONS = {"none": None, "elu": "elu"}
_CODING = ("group_size", "bits", "row_group_sizes")
_KINDS = {FLOAT: ("F32", "F16", "BF16"), HALF: ("F16",), CODES: ("U8",), IDS: ("I32",)}


@dataclass(frozen=True)
class Description:
    """All an artifact says of itself; what reading its header gives.

    `layout` is how its numbers are laid out, `settings` are the fit's full settings, `distances` its measured distances
    to the base table; `dtype` is the type of its floats other than scales ("float16" where there are none such).
    """

    base: TableInfo
    method: str
    layout: Layout
    settings: dict[str, Any]
    seed: int | None
    distances: dict[str, float]
    dtype: str
    version: str = __version__

    @property
    def rank(self) -> int:
        """Width of the latents."""
        return self.layout.rank

    @property
    def activation(self) -> str | None:
        """What follows the decoder's linear map."""
        return self.layout.activation

    @property
    def codec(self) -> str:
        """How the latents are coded."""
        return self.layout.codec

    @property
    def numbers(self) -> int:
        """Numbers stored: each code, scale, entry, id and float is one."""
        return self.layout.numbers

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors, header not counted."""
        return stored_bytes(self.layout, self.dtype)

    @property
    def parameter_ratio(self) -> float:
        """Numbers of the base table per stored number."""
        return parameter_ratio(self.base.vocab, self.base.dim, self.numbers)

    @property
    def byte_ratio(self) -> float:
        """Bytes of the base table as its checkpoint stores it, per stored byte."""
        return self.base.nbytes / self.nbytes

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per number of the base table."""
        return bits_per_weight(self.base.vocab, self.base.dim, self.nbytes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, sizes included."""
        names = ("rank", "activation", "codec", "numbers", "nbytes", "parameter_ratio", "byte_ratio", "bits_per_weight")
        return asdict(self) | {name: getattr(self, name) for name in names}


def stored_bytes(layout: Layout, dtype: str) -> int:
    """Bytes of a compressed table's tensors, with `dtype` for its floats other than scales."""
    codes = {FLOAT: safetensors_file.CODES[dtype], HALF: "F16", CODES: "U8", IDS: "I32"}
    return sum(Stored(codes[kind], shape).nbytes for kind, shape in layout.shapes.values())


@dataclass(frozen=True)
class Artifact:
    """A compressed table: what is known of it, and its numbers."""

    description: Description
    factors: Factors

    def check_base(self, sha256: str) -> None:
        """Raise `ArtifactMismatchError` unless `sha256` is the hash of the table this was made from."""
        if sha256 != self.description.base.sha256:
            raise ArtifactMismatchError(
                f"the artifact was made from the table of {self.description.base.id} "
                f"({self.description.base.sha256[:12]}…), this model's table is another ({sha256[:12]}…): name "
                "its base model with --model, or go on with --force"
            )


def save(artifact: Artifact, path: str | Path) -> None:
    """Write an artifact atomically; the same artifact gives the same bytes. Raises `OutputError`."""
    safetensors_file.write(Path(path), _metadata(artifact.description), artifact.factors.tensors)


def read_description(path: str | Path) -> Description:
    """What the artifact at `path` says of itself, from its header alone. Raises `ArtifactError`."""
    try:
        header = safetensors_file.read_header(Path(path))
    except OSError as error:
        raise ArtifactError(f"can't read {path}: {error.strerror or error}") from error
    except DamagedError as error:
        raise ArtifactError(f"{path} is not an orientc artifact, or is damaged: {error}") from None
    metadata = header.metadata
    if metadata.get("format") != FORMAT:
        raise ArtifactError(f"{path} is a safetensors file, but not an orientc artifact")
    try:
        if (version := positive(metadata, "format_version")) > FORMAT_VERSION:
            raise ArtifactError(f"{path} has format version {version}, newer than {FORMAT_VERSION}: update orientc")
        return _description(metadata, header.tensors)
    except KeyError as error:
        raise ArtifactError(f"{path} is damaged: {error.args[0]} is missing") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged: {error!s:.200}") from None


def load(path: str | Path) -> Artifact:
    """Read and validate an artifact. Raises `ArtifactError` where it is damaged, foreign or too new."""
    from orientc.modeling.factors import Factors

    description = read_description(path)
    try:
        factors = Factors(description.layout, safetensors_file.read_tensors(Path(path)))
        check_ids(factors)
    except DamagedError as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error
    return Artifact(description, factors)


def check_ids(factors: Factors) -> None:
    """Raise `DamagedError` where rows are kept, or are in row groups, that are not there."""
    layout, tensors = factors.layout, factors.tensors
    if layout.kept:
        ids = tensors["kept.ids"]
        if ids[0] < 0 or ids[-1] >= layout.vocab or (ids.long().diff() <= 0).any():
            raise DamagedError("kept.ids are not ids of the table in ascending order")
    if "latents.row_groups" in tensors:
        counts = tensors["latents.row_groups"].long().bincount(minlength=len(layout.row_group_sizes))
        if tuple(counts.tolist()) != layout.row_group_sizes:
            raise DamagedError("latents.row_groups do not have the rows that its header says")


def _metadata(description: Description) -> dict[str, str]:
    layout = description.layout
    coding = {"coding": canonical_json({name: getattr(layout, name) for name in _CODING})}
    values: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "codec": layout.codec,
        "method": description.method,
        "rank": layout.rank,
        "activation": layout.activation or "none",
        "settings": canonical_json(description.settings),
        "seed": description.seed,
        "distances": canonical_json(description.distances),
        "version": description.version,
    } | (coding if layout.codec != PLAIN else {})
    own = {key: "" if value is None else str(value) for key, value in values.items()}
    return table_metadata(description.base) | own


def _layout(metadata: dict[str, str], tensors: dict[str, Stored]) -> Layout:
    """How the numbers are laid out, with each tensor as that says. Raises `KeyError` or `ValueError`."""
    vocab, dim, rank = (positive(metadata, key) for key in ("vocab", "dim", "rank"))
    if metadata["activation"] not in ACTIVATIONS:
        raise ValueError(f"activation {metadata['activation']!r:.60} is unknown")
    coding = json.loads(metadata["coding"]) if metadata["codec"] != PLAIN else {}
    if not isinstance(coding, dict) or not coding.keys() <= {*_CODING}:
        raise ValueError("its coding is not known")
    kept = tensors["kept.ids"].shape if "kept.ids" in tensors else (0,)
    layout = Layout.from_dict(
        {
            "vocab": vocab,
            "dim": dim,
            "rank": rank,
            "decoder": "decoder.weight" in tensors,
            "bias": "decoder.bias" in tensors,
            "activation": ACTIVATIONS[metadata["activation"]],
            "kept": kept[0] if len(kept) == 1 else -1,
            "codec": metadata["codec"],
            **coding,
        }
    )
    expected = layout.shapes
    if missing := sorted(expected.keys() - tensors.keys()):
        raise KeyError(missing[0])
    for name, stored in tensors.items():
        if name not in expected:
            raise ValueError(f"tensor {name!r:.60} does not belong there")
        kind, shape = expected[name]
        if stored.shape != shape:
            raise ValueError(f"{name} has shape {list(stored.shape)}, not {list(shape)}")
        if stored.dtype not in _KINDS[kind]:
            raise ValueError(f"{name} has type {stored.dtype!r}, not one of {', '.join(_KINDS[kind])}")
    return layout


def _description(metadata: dict[str, str], tensors: dict[str, Stored]) -> Description:
    """Build a description, checking each entry; `ValueError` and friends say what is wrong."""
    if metadata["codec"] not in (PLAIN, *CODED):
        raise ValueError(f"its latents are coded as {metadata['codec']!r:.60}, unknown here: update orientc")
    layout = _layout(metadata, tensors)
    floats = {tensors[name].dtype for name, (kind, _) in layout.shapes.items() if kind == FLOAT} or {"F16"}
    if len(floats) != 1:
        raise ValueError("its tensors are of several types")
    settings, distances = flat(metadata, "settings"), flat(metadata, "distances")
    if missing := sorted({"cosine", "rmse"} - distances.keys()):
        raise KeyError(f"the {missing[0]} distance")
    if not all(math.isfinite(value) for value in distances.values()):
        raise ValueError("its metadata holds numbers that are not finite")
    return Description(
        base=table_from_metadata(metadata),
        method=metadata["method"],
        layout=layout,
        settings=settings,
        seed=int(metadata["seed"]) if metadata["seed"] else None,
        distances=distances,
        dtype=DTYPES[floats.pop()][0],
        version=metadata["version"],
    )
