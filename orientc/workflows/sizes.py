"""Sizes of a model that `shrink` makes: of its table and of the rest, asked for and possible."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from orientc.errors import FitError
from orientc.exporters import bodies
from orientc.exporters.forms import NONE
from orientc.models.source import ModelSource
from orientc.storage.artifact import Artifact
from orientc.storage.sizes import MB
from orientc.storage.table_info import TableInfo

DRY = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)  # bits per weight that a dry run shows
_MOST = 8.0  # bits per weight
_HEADER = 160, 8192  # bytes of a weight file for each tensor, and for the rest
_HEADER_OF_CODES = 560, 8192  # what belongs to one weight is several tensors there, and is described


@dataclass(frozen=True)
class Sizes:
    """Sizes in the folder that is written.

    Args:
        source: The model.
        info: Its table, or the first of several.
        dtype: Type of the folder's weights.
        asked: The size that was asked for, by its field; None where a tolerance was.
        body_form: What the body is quantized to.
        others: Other tables that share the size.
    """

    source: ModelSource
    info: TableInfo
    dtype: str
    asked: tuple[str, float] | None
    body_form: str = NONE
    others: tuple[TableInfo, ...] = ()

    @property
    def infos(self) -> tuple[TableInfo, ...]:
        """All tables."""
        return (self.info, *self.others)

    @property
    def numbers(self) -> int:
        """Numbers in all tables."""
        return sum(info.vocab * info.dim for info in self.infos)

    @property
    def nbytes(self) -> int:
        """Bytes of all tables in the checkpoint."""
        return sum(info.nbytes for info in self.infos)

    @cached_property
    def body(self) -> int:
        """Bytes of a weight file in the folder without the table."""
        skeleton = self.source.skeleton
        if self.source.kept_quantized:
            numbers = self.info.model_bytes - self.nbytes
        else:
            itemsize, tables = getattr(torch, self.dtype).itemsize, [info.table for info in self.infos]
            numbers = bodies.stored_bytes(skeleton, self.body_form, itemsize, tables)
        each, rest = _HEADER if self.body_form == NONE else _HEADER_OF_CODES
        return numbers + each * len(skeleton.state_dict()) + rest

    @property
    def wanted(self) -> float:
        """The bytes that the table may take in the folder."""
        assert self.asked is not None
        name, value = self.asked
        if name == "target_bits":
            return value * self.numbers / 8
        if name == "target_ratio":
            return self.nbytes / value
        if name == "target_mb":
            return value * MB
        if value * MB <= self.body:
            raise FitError(self._no_room)
        return value * MB - self.body

    @property
    def _no_room(self) -> str:
        """That the rest of the model is larger than all of it may be."""
        half = "" if self.dtype != "float32" else ", or halve it with `dtype` float16"
        codes = "" if self.body_form == NONE else f", the body in {self.body_form}"
        return (
            f"what is not the table takes {self.body / MB:.1f} MB in {self.dtype}{codes}: `model_mb` must be more than "
            f"that{half}"
        )

    @property
    def shown_bits(self) -> tuple[float, ...]:
        """The sizes that a dry run shows."""
        if self.asked is None:
            return DRY
        return (8 * self.wanted / self.numbers,)

    @property
    def range(self) -> tuple[float, float]:
        """The fewest and the most bits per weight that are looked at."""
        # one bit a row, and one column of a decoder
        fewest = sum(info.vocab + 16 * info.dim for info in self.infos) / self.numbers
        most = min(_MOST, 8 * self.nbytes / self.numbers)
        return round(max(fewest, 0.01), 2), math.floor(100 * most) / 100

    @property
    def bounds(self) -> tuple[str, ...]:
        """Why no fewer and no more bits are looked at, a line each."""
        lowest, highest = self.range
        dim, own = " and ".join(dict.fromkeys(str(info.dim) for info in self.infos)), 8 * self.nbytes / self.numbers
        above = f"more than the checkpoint's own {own:.3g} bits" if own <= _MOST else "more changes no figure"
        return (
            f"at least {lowest:g} bits per weight: rank 1 of {dim}, a bit a row",
            f"at most {highest:g} bits per weight: all {dim} columns in {min(8, math.ceil(highest))} bits; {above}",
        )


def stored_bytes(artifact: Artifact, dtype: str) -> int:
    """What a compressed table takes in a model of a type, in which all its floats are."""
    itemsize: int = getattr(torch, dtype).itemsize
    return sum(
        tensor.numel() * (itemsize if tensor.is_floating_point() else tensor.element_size())
        for tensor in artifact.factors.tensors.values()
    )
