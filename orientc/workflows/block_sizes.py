"""Sizes of a GGUF file that `shrink` makes: those of ggml's block types, and of the rest of the file."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orientc.compression.gguf_tables import block_sizes
from orientc.errors import FitError
from orientc.storage.sizes import MB
from orientc.workflows.sizes import Sizes

_KEYS = 4096  # bytes of the keys that say what was done, and of padding


@dataclass(frozen=True)
class BlockSizes(Sizes):
    """Sizes in the GGUF file that is written."""

    @cached_property
    def body(self) -> int:
        """Bytes of the file without its tables."""
        return Path(str(self.source.gguf)).stat().st_size - self.nbytes + _KEYS

    @cached_property
    def all_bits(self) -> tuple[float, ...]:
        """Bits per weight of all tables together, each in a block type that makes it smaller than it is; ascending.

        Raises `FitError` where a table fits none.
        """
        whole = {sum(sizes) for sizes in itertools.product(*map(block_sizes, self.infos))}
        return tuple(8 * size / self.numbers for size in sorted(whole))

    @property
    def largest(self) -> float:
        """Bits per weight of the largest block types that are as small as asked for. Raises `FitError` for none."""
        allowed = self.wanted
        if not (fitting := [bits for bits in self.all_bits if bits * self.numbers / 8 <= allowed]):
            raise FitError(
                f"no block type makes the {self._called} as small as {allowed / MB:.2f} MB: the smallest for "
                f"{self._columns} takes {self.all_bits[0]:g} bits per weight, "
                f"{self.all_bits[0] * self.numbers / 8 / MB:.2f} MB"
            )
        return fitting[-1]

    @property
    def _called(self) -> str:
        return "tables" if self.others else "table"

    @property
    def _columns(self) -> str:
        return f"{' and '.join(dict.fromkeys(str(info.dim) for info in self.infos))} columns"

    @property
    def _no_room(self) -> str:
        return (
            f"what is not the {self._called} takes {self.body / MB:.2f} MB, and stays as it is: `model_mb` must be more"
        )

    @property
    def shown_bits(self) -> tuple[float, ...]:
        """The sizes that a dry run shows."""
        return self.all_bits if self.asked is None else (self.largest,)

    @property
    def bounds(self) -> tuple[str, ...]:
        """Between which sizes is looked, a line."""
        shown = ", ".join(f"{bits:.4g}" for bits in self.all_bits)
        types = " and ".join(dict.fromkeys(info.dtype for info in self.infos))
        both = " of both" if self.others else ""
        return (f"block types for {self._columns}, smaller than {types}: {shown} bits per weight{both}",)
