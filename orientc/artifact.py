"""The compressed table as a file: one plain `.safetensors` file, format version 1.

Tensors: `latents [vocab, rank]`; `decoder.weight [dim, rank]` and `decoder.bias [dim]` as present; all of one
float type (F32, F16 or BF16). A row of the table is `activation(latents[id] · decoder.weightᵀ + decoder.bias)`,
and `latents[id]` where there is no decoder.

Everything else is string metadata, keys sorted: `format` ("orientc"), `format_version`, `codec` (how the latents
are coded; "plain" is as they are), `method`, `rank`, `activation` ("none" or "elu"), the base table's `base_id`,
`base_revision`, `base_sha256`, `base_dtype`, `base_bytes`, `base_tied`, `base_model_parameters`,
`base_model_bytes`, `vocab`, `dim`, `padding_idx`, `embed_scale`; `settings` and `distances` as flat JSON objects;
`seed`; `version`, the orientc that wrote it. What is not known (`base_revision`, `padding_idx`, `seed`) is "".

The same artifact is always written as the same bytes. Reading checks the header's size, names, shapes, types,
offsets and metadata before a tensor is touched, and every number for being finite before it is handed out.
This module imports torch only where tensors are read or written.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from orientc._version import __version__
from orientc.errors import ArtifactError, ArtifactMismatchError
from orientc.files import canonical_json, write_atomically
from orientc.provenance import TableInfo
from orientc.sizes import bits_per_weight, parameter_ratio

if TYPE_CHECKING:
    from orientc.factors import Factors

FORMAT = "orientc"
FORMAT_VERSION = 1
SUFFIX = ".safetensors"
ACTIVATIONS = {"none": None, "elu": "elu"}
DTYPES = {"F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2)}
_CODES = {name: code for code, (name, _) in DTYPES.items()}
_LARGEST_HEADER = 1 << 20  # ours take some two thousand bytes


@dataclass(frozen=True)
class Description:
    """All an artifact says of itself; what reading its header gives.

    `settings` are the fit's full settings, `distances` its measured distances to the base table;
    `dtype` is the type of the stored numbers, `numbers` how many there are.
    """

    base: TableInfo
    method: str
    rank: int
    activation: str | None
    settings: dict[str, Any]
    seed: int | None
    distances: dict[str, float]
    dtype: str
    numbers: int
    codec: str = "plain"
    version: str = __version__

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors, header not counted."""
        return self.numbers * DTYPES[_CODES[self.dtype]][1]

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
        sizes = ("nbytes", "parameter_ratio", "byte_ratio", "bits_per_weight")
        return asdict(self) | {name: getattr(self, name) for name in sizes}


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
    import torch

    tensors = dict(sorted(artifact.factors.tensors.items()))
    header: dict[str, Any] = {"__metadata__": dict(sorted(_metadata(artifact.description).items()))}
    offset = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": _CODES[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)

    def write(stream: BinaryIO) -> None:
        stream.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in tensors.values():
            stream.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)

    write_atomically(Path(path), write)


def read_description(path: str | Path) -> Description:
    """What the artifact at `path` says of itself, from its header alone. Raises `ArtifactError`."""
    try:
        return _parse(Path(path))
    except OSError as error:
        raise ArtifactError(f"can't read {path}: {error.strerror or error}") from error


def load(path: str | Path) -> Artifact:
    """Read and validate an artifact. Raises `ArtifactError` where it is damaged, foreign or too new."""
    from safetensors import SafetensorError, safe_open

    from orientc.factors import CHUNK, Factors

    description = read_description(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is damaged: {error!s:.200}") from error
    for name, tensor in tensors.items():
        if not all(block.isfinite().all() for block in tensor.split(CHUNK)):
            raise ArtifactError(f"{path} is damaged: {name} holds numbers that are not finite")
    factors = Factors(
        tensors["latents"], tensors.get("decoder.weight"), tensors.get("decoder.bias"), description.activation
    )
    return Artifact(description, factors)


def _metadata(description: Description) -> dict[str, str]:
    base = description.base
    values: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "codec": description.codec,
        "method": description.method,
        "rank": description.rank,
        "activation": description.activation or "none",
        "base_id": base.id,
        "base_revision": base.revision,
        "base_sha256": base.sha256,
        "base_dtype": base.dtype,
        "base_bytes": base.nbytes,
        "base_tied": "true" if base.tied else "false",
        "base_model_parameters": base.model_parameters,
        "base_model_bytes": base.model_bytes,
        "vocab": base.vocab,
        "dim": base.dim,
        "padding_idx": base.padding_idx,
        "embed_scale": repr(base.embed_scale),
        "settings": canonical_json(description.settings),
        "seed": description.seed,
        "distances": canonical_json(description.distances),
        "version": description.version,
    }
    return {key: "" if value is None else str(value) for key, value in values.items()}


def _parse(path: Path) -> Description:
    header, data_bytes = _header(path)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ArtifactError(f"{path} is a safetensors file, but not an orientc artifact")
    try:
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata holds something else than strings")
        if (version := _positive(metadata, "format_version")) > FORMAT_VERSION:
            raise ArtifactError(f"{path} has format version {version}, newer than {FORMAT_VERSION}: update orientc")
        if metadata["codec"] != "plain":
            raise ArtifactError(f"{path} codes its latents as {metadata['codec']!r:.60}, unknown here: update orientc")
        return _description(metadata, header, data_bytes)
    except KeyError as error:
        raise ArtifactError(f"{path} is damaged: {error.args[0]} is missing") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged: {error!s:.200}") from None


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file, and the number of bytes behind it."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise ArtifactError(f"{path} is not an orientc artifact, or is cut short: its header does not fit the file")
        if length > _LARGEST_HEADER:
            raise ArtifactError(f"{path} is not an orientc artifact: its header takes {length} bytes")
        encoded = stream.read(length)
    try:
        header = json.loads(encoded)
    except (ValueError, RecursionError):
        raise ArtifactError(f"{path} is not an orientc artifact: its header is not JSON") from None
    if not isinstance(header, dict):
        raise ArtifactError(f"{path} is not an orientc artifact: its header is not a JSON object")
    return header, size - 8 - length


def _description(metadata: dict[str, str], tensors: dict[str, Any], data_bytes: int) -> Description:
    """Build a description, checking each entry; `ValueError` and friends say what is wrong."""
    vocab, dim, rank = (_positive(metadata, key) for key in ("vocab", "dim", "rank"))
    shapes = {"latents": [vocab, rank], "decoder.weight": [dim, rank], "decoder.bias": [dim]}
    dtypes = set()
    ranges = []
    for name, entry in tensors.items():
        if name not in shapes:
            raise ValueError(f"tensor {name!r} does not belong there")
        if entry["shape"] != shapes[name]:
            raise ValueError(f"{name} has shape {entry['shape']!r:.60}, not {shapes[name]}")
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name} has type {entry['dtype']!r}, not one of {', '.join(DTYPES)}")
        dtypes.add(entry["dtype"])
        start, end = entry["data_offsets"]
        if end - start != math.prod(entry["shape"]) * DTYPES[entry["dtype"]][1]:
            raise ValueError(f"{name} has an extent that does not fit its shape")
        ranges.append((start, end))
    if "latents" not in tensors:
        raise KeyError("latents")
    if "decoder.weight" not in tensors and ("decoder.bias" in tensors or rank != dim):
        raise KeyError("decoder.weight")
    if len(dtypes) != 1:
        raise ValueError("its tensors are of several types")
    ends = [0, *(end for _, end in sorted(ranges))]
    if [start for start, _ in sorted(ranges)] != ends[:-1] or ends[-1] != data_bytes:
        raise ValueError(f"its tensors should take {ends[-1]} bytes, the file has {data_bytes}")
    if metadata["activation"] not in ACTIVATIONS:
        raise ValueError(f"activation {metadata['activation']!r} is unknown")
    settings, distances = _flat(metadata, "settings"), _flat(metadata, "distances")
    if missing := sorted({"cosine", "rmse"} - distances.keys()):
        raise KeyError(f"the {missing[0]} distance")
    embed_scale = float(metadata["embed_scale"])
    if not all(math.isfinite(value) for value in (embed_scale, *distances.values())):
        raise ValueError("its metadata holds numbers that are not finite")
    return Description(
        base=TableInfo(
            id=metadata["base_id"],
            revision=metadata["base_revision"] or None,
            sha256=metadata["base_sha256"],
            vocab=vocab,
            dim=dim,
            dtype=metadata["base_dtype"],
            nbytes=_positive(metadata, "base_bytes"),
            padding_idx=int(metadata["padding_idx"]) if metadata["padding_idx"] else None,
            embed_scale=embed_scale,
            tied=metadata["base_tied"] == "true",
            model_parameters=_positive(metadata, "base_model_parameters"),
            model_bytes=_positive(metadata, "base_model_bytes"),
        ),
        method=metadata["method"],
        rank=rank,
        activation=ACTIVATIONS[metadata["activation"]],
        settings=settings,
        seed=int(metadata["seed"]) if metadata["seed"] else None,
        distances=distances,
        dtype=DTYPES[dtypes.pop()][0],
        numbers=sum(math.prod(shapes[name]) for name in tensors),
        codec=metadata["codec"],
        version=metadata["version"],
    )


def _positive(metadata: dict[str, str], key: str) -> int:
    value = int(metadata[key])
    if not 1 <= value < 1 << 63:
        raise ValueError(f"{key} is {value}")
    return value


def _flat(metadata: dict[str, str], key: str) -> dict[str, Any]:
    values = json.loads(metadata[key])
    if not isinstance(values, dict) or any(isinstance(value, dict | list) for value in values.values()):
        raise ValueError(f"{key} are not a flat JSON object")
    return values
