"""What an artifact says of itself, and how its header says it. Imports no torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from orientc._version import __version__
from orientc.modeling.layout import CODECS, CODES, FLOAT, HALF, IDS, PLAIN, WHOLE, Layout
from orientc.storage import safetensors_file
from orientc.storage.safetensors_file import DTYPES, Header, Stored, as_strings, flat, positive
from orientc.storage.sizes import bits_per_weight, parameter_ratio
from orientc.storage.table_info import TableInfo, table_from_metadata, table_metadata
from orientc.utils.files import canonical_json

_ACTIVATIONS = {"none": None, "elu": "elu"}
_CODING = ("group_size", "bits", "row_group_sizes", "block", "window")  # those of a codec that it needs
_TYPES = {FLOAT: ("F32", "F16", "BF16"), HALF: ("F16",), CODES: ("U8",), WHOLE: ("I8",), IDS: ("I32",)}


@dataclass(frozen=True)
class Description:
    """An artifact without its tensors: base table, method, layout, settings and sizes.

    Attributes:
        base: The table it was made from.
        method: "svd", "autoencoder", "quantize", "target" or another one's name.
        layout: Which tensors it has, of what shape.
        settings: All settings of the fit, a flat dictionary.
        seed: Seed of the fit; None where nothing was drawn at random.
        distances: Distances to the base table, as `methods.losses.Distances` has them, and costs where calibrated.
        dtype: Type of the floats other than scales; "float16" where there are none.
        written_by: The orientc that wrote it, by its version.
    """

    base: TableInfo
    method: str
    layout: Layout
    settings: dict[str, Any]
    seed: int | None
    distances: dict[str, float]
    dtype: str
    written_by: str = __version__

    @property
    def rank(self) -> int:
        """Width of the latents."""
        return self.layout.rank

    @property
    def activation(self) -> str | None:
        """What follows the decoder's linear map: None or "elu"."""
        return self.layout.activation

    @property
    def codec(self) -> str:
        """How the latents are coded: "plain", "per-group", "trellis" or "ggml"."""
        return self.layout.codec

    @property
    def numbers(self) -> int:
        """Count of stored numbers, as `Layout.numbers` has it."""
        return self.layout.numbers

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors, header not counted."""
        types = {FLOAT: safetensors_file.CODES[self.dtype], HALF: "F16", CODES: "U8", WHOLE: "I8", IDS: "I32"}
        return sum(Stored(types[kind], shape).nbytes for kind, shape in self.layout.shapes.values())

    @property
    def parameter_ratio(self) -> float:
        """Numbers of the base table per stored number."""
        return parameter_ratio(self.base.vocab, self.base.dim, self.numbers)

    @property
    def byte_ratio(self) -> float:
        """Bytes of the base table, as its checkpoint stores it, per stored byte."""
        return self.base.nbytes / self.nbytes

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per number of the base table."""
        return bits_per_weight(self.base.vocab, self.base.dim, self.nbytes)

    def as_dict(self) -> dict[str, Any]:
        """The description as JSON values, sizes included."""
        names = ("rank", "activation", "codec", "numbers", "nbytes", "parameter_ratio", "byte_ratio", "bits_per_weight")
        return asdict(self) | {name: getattr(self, name) for name in names}


def to_metadata(description: Description) -> dict[str, str]:
    """The header's metadata, without `format` and `format_version`."""
    layout = description.layout
    coding = {"coding": canonical_json({name: value for name in _CODING if (value := getattr(layout, name))})}
    own = {
        "codec": layout.codec,
        "method": description.method,
        "rank": layout.rank,
        "activation": layout.activation or "none",
        "settings": canonical_json(description.settings),
        "seed": description.seed,
        "distances": canonical_json(description.distances),
        "version": description.written_by,
    }
    return table_metadata(description.base) | as_strings(own | (coding if layout.codec != PLAIN else {}))


def from_header(header: Header) -> Description:
    """Read a description from a file's header, checking each entry and every tensor's type and shape.

    Raises:
        KeyError: An entry is missing.
        ValueError, TypeError, OverflowError, RecursionError: An entry makes no sense.
    """
    metadata, tensors = header.metadata, header.tensors
    if metadata["codec"] not in CODECS:
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
        written_by=metadata["version"],
    )


def _layout(metadata: dict[str, str], tensors: dict[str, Stored]) -> Layout:
    """The layout by the metadata, each tensor checked against it. Raises `KeyError` or `ValueError`."""
    vocab, dim, rank = (positive(metadata, key) for key in ("vocab", "dim", "rank"))
    if metadata["activation"] not in _ACTIVATIONS:
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
            "rounded": "decoder.scales" in tensors,
            "bias": "decoder.bias" in tensors,
            "activation": _ACTIVATIONS[metadata["activation"]],
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
        if stored.dtype not in _TYPES[kind]:
            raise ValueError(f"{name} has type {stored.dtype!r}, not one of {', '.join(_TYPES[kind])}")
    return layout
