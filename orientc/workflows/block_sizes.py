"""Sizes of a GGUF file that `shrink` makes: those of ggml's block types, and of the rest of the file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orientc.errors import FitError
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.storage.sizes import MB
from orientc.workflows.sizes import Sizes

_KEYS = 4096  # bytes of the keys that say what was done, and of padding


@dataclass(frozen=True)
class BlockSizes(Sizes):
    """Sizes in the GGUF file that is written."""

    @cached_property
    def body(self) -> int:
        """Bytes of the file without its table."""
        return Path(str(self.source.gguf)).stat().st_size - self.info.nbytes + _KEYS

    @cached_property
    def all_bits(self) -> tuple[float, ...]:
        """Bits per weight of the block types that fit the table's width and are smaller than it is, ascending.

        Raises `FitError` where there are none.
        """
        info = self.info
        own = 8 * info.nbytes / (info.vocab * info.dim)
        known = {kind.bits_per_weight for kind in BLOCK_TYPES.values() if info.dim % kind.width == 0}
        if not known:
            raise FitError(f"no block type goes into {info.dim} columns")
        if not (smaller := sorted(bits for bits in known if bits < own)):
            raise FitError(f"the table is in {info.dtype}, and no block type that goes into {info.dim} columns is less")
        return tuple(smaller)

    @property
    def largest(self) -> float:
        """Bits per weight of the largest block type that is as small as asked for. Raises `FitError` for none."""
        allowed = self.wanted
        numbers = self.info.vocab * self.info.dim
        if not (fitting := [bits for bits in self.all_bits if bits * numbers / 8 <= allowed]):
            raise FitError(
                f"no block type makes the table as small as {allowed / MB:.2f} MB: the smallest for {self.info.dim} "
                f"columns takes {self.all_bits[0]:g} bits per weight, {self.all_bits[0] * numbers / 8 / MB:.2f} MB"
            )
        return fitting[-1]

    @property
    def _no_room(self) -> str:
        return f"what is not the table takes {self.body / MB:.2f} MB, and stays as it is: `model_mb` must be more"

    @property
    def shown_bits(self) -> tuple[float, ...]:
        """The sizes that a dry run shows."""
        return self.all_bits if self.asked is None else (self.largest,)

    @property
    def bounds(self) -> tuple[str, ...]:
        """Between which sizes is looked, a line."""
        shown = ", ".join(f"{bits:g}" for bits in self.all_bits)
        return (f"block types for {self.info.dim} columns, smaller than {self.info.dtype}: {shown} bits per weight",)
