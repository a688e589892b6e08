"""The layout of a compressed table: which tensors it has, their shapes, and what they take.

All of that follows from a few whole numbers. Artifacts are checked against them, and compact models built from them.
This module imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orientc.modeling.ggml_types import BLOCK_TYPES

# Kinds of tensors: floats of the artifact's own type, float16, uint8, int8 and int32.
FLOAT, HALF, CODES, WHOLE, IDS = "float", "half", "codes", "whole", "ids"
# Codecs: latents as numbers; as codes with scales per row and group of columns; as streams of bits, whose last ones
# are looked up in a table; as blocks of one of ggml's types.
PLAIN, PER_GROUP, TRELLIS, GGML = "plain", "per-group", "trellis", "ggml"
CODECS = (PLAIN, PER_GROUP, TRELLIS, GGML)
CODED = (PER_GROUP, TRELLIS)  # with bits for each row group and group of columns
MOST_BITS = 8
WINDOWS = (8, 10, 12, 14)  # bits of a stream that are looked up; no column adds more than the fewest
MOST_ROW_GROUPS = 64
WIDEST_GROUP = 1 << 16
WIDEST_TABLE = 1 << 20  # columns without bits take no bytes: a small file could claim billions of them


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of `count` codes of `bits` bits each, packed without gaps."""
    return (count * bits + 7) // 8


@dataclass(frozen=True)
class Run:
    """Adjacent groups of columns of one row group that have the same bits and width.

    Attributes:
        bits: Bits of each code.
        groups: Number of groups.
        width: Columns of each group.
        start: First column.
        byte: Byte of a row that the first code begins at.
        scale: Number of the first scale; there is one for each group.
    """

    bits: int
    groups: int
    width: int
    start: int
    byte: int
    scale: int

    @property
    def columns(self) -> int:
        """Columns of all its groups."""
        return self.groups * self.width

    @property
    def nbytes(self) -> int:
        """Bytes of the run's codes in a row; each group begins on a byte."""
        return self.groups * packed_bytes(self.width, self.bits)


@dataclass(frozen=True)
class Streams:
    """Where the streams of a row group's rows lie, one after the other.

    Attributes:
        start: First byte.
        rows: Number of streams.
        size: Bytes of each.
    """

    start: int
    rows: int
    size: int

    @property
    def end(self) -> int:
        """The byte behind the last one."""
        return self.start + self.rows * self.size


@dataclass(frozen=True)
class Layout:
    """The layout of one compressed table.

    Attributes:
        vocab: Rows of the table.
        dim: Width of the table.
        rank: Width of the latents.
        decoder: Whether there is a decoder; without one the latents are the rows.
        bias: Whether the decoder has a bias.
        activation: What follows the decoder's linear map: None or "elu".
        kept: Number of rows stored as they are; the other `vocab - kept` have latents.
        codec: "plain": latents are stored as numbers. "per-group": as codes with a scale and an offset for each row
            and group of columns. "trellis": as one stream of bits for each row, with a scale and an offset for each
            row group and column. "ggml": as blocks of one of ggml's types.
        group_size: Columns of a group; the last group may be narrower. 1 for "trellis", 0 for "plain".
        bits: For each row group the bits of its codes in each group of columns; 0 bits: no codes, the latents are 0.
            With "trellis" what each column adds to the stream.
        row_group_sizes: Rows of each row group.
        block: Name of the block type for "ggml", else "".
        window: With "trellis", how many of the stream's last bits say which level a latent has.
        rounded: Whether the decoder's weight is whole numbers of 8 bits, with a scale for each column.
    """

    vocab: int
    dim: int
    rank: int
    decoder: bool = True
    bias: bool = False
    activation: str | None = None
    kept: int = 0
    codec: str = PLAIN
    group_size: int = 0
    bits: tuple[tuple[int, ...], ...] = ()
    row_group_sizes: tuple[int, ...] = ()
    block: str = ""
    window: int = 0
    rounded: bool = False

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layout:
        """Read a layout from what `dataclasses.asdict` and JSON made of one.

        Raises:
            ValueError, TypeError: The values are not a layout.
        """
        lists = {
            "bits": tuple(tuple(row_group) for row_group in values.get("bits", ())),
            "row_group_sizes": tuple(values.get("row_group_sizes", ())),
        }
        layout = cls(**(values | lists))
        layout.check()
        return layout

    def check(self) -> None:
        """Raise `ValueError` where the numbers contradict one another or are out of range."""
        for name, (low, bound) in {
            "vocab": (1, 1 << 40), "dim": (1, WIDEST_TABLE), "rank": (1, WIDEST_TABLE),
            "kept": (0, 1 << 40), "group_size": (0, 1 << 40),
        }.items():  # fmt: skip
            if type(value := getattr(self, name)) is not int or not low <= value < bound:
                raise ValueError(f"{name} is {value!r:.40}")
        for name in ("decoder", "bias", "rounded"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} is {value!r:.40}")
        if self.activation is not None and self.activation != "elu":
            raise ValueError(f"activation is {self.activation!r:.40}")
        if self.kept > self.vocab:
            raise ValueError(f"{self.kept} rows of {self.vocab} are kept")
        if not self.decoder and (self.bias or self.rank != self.dim):
            raise ValueError("its latents are not as wide as the table, and there is no decoder")
        if self.rounded and not self.decoder:
            raise ValueError("there is no decoder to be rounded")
        if (self.codec == TRELLIS) != bool(self.window) or self.window not in (0, *WINDOWS):
            raise ValueError(f"its latents are {self.codec!r:.40}, looked up by {self.window!r:.40} bits")
        if self.codec == TRELLIS and self.group_size != 1:
            raise ValueError(f"its streams are in groups of {self.group_size!r:.40} columns")
        if self.codec not in CODED and (self.group_size or self.bits or self.row_group_sizes):
            raise ValueError(f"its latents are {self.codec!r:.40} and coded in groups at once")
        if self.codec == GGML:
            if self.block not in BLOCK_TYPES:
                raise ValueError(f"its blocks are of type {self.block!r:.40}")
            if self.rank % (width := BLOCK_TYPES[self.block].width):
                raise ValueError(f"its latents, {self.rank} wide, are no whole number of blocks of {width}")
            return
        if self.block:
            raise ValueError(f"its latents are {self.codec!r:.40} and blocks at once")
        if self.codec == PLAIN:
            return
        if self.codec not in CODED or not 1 <= self.group_size <= WIDEST_GROUP:
            raise ValueError(f"its latents are coded as {self.codec!r:.40} in groups of {self.group_size}")
        if not 0 < len(self.bits) <= MOST_ROW_GROUPS:
            raise ValueError(f"it has {len(self.bits)} row groups")
        for row_group in self.bits:
            if len(row_group) != self.groups or not all(
                type(bits) is int and 0 <= bits <= MOST_BITS for bits in row_group
            ):
                raise ValueError(f"its groups of columns have {row_group!r:.60} bits")
            if not any(row_group) and self.codec != TRELLIS:
                raise ValueError("one of its row groups has no codes at all")
        if len(self.row_group_sizes) != len(self.bits) or not all(
            type(rows) is int and rows >= 0 for rows in self.row_group_sizes
        ):
            raise ValueError("its row groups have no sizes")
        if sum(self.row_group_sizes) != self.rows:
            raise ValueError(f"its row groups have {sum(self.row_group_sizes)} rows, not {self.rows}")

    @property
    def rows(self) -> int:
        """Number of rows that have latents."""
        return self.vocab - self.kept

    @property
    def groups(self) -> int:
        """Number of groups of columns."""
        return -(-self.rank // self.group_size) if self.group_size else 0

    def runs(self, row_group: int) -> list[Run]:
        """The groups of columns that have codes in a row group, adjacent ones of the same bits and width in one run."""
        found: list[Run] = []
        byte = scale = 0
        for number, bits in enumerate(self.bits[row_group]):
            start = number * self.group_size
            width = min(self.group_size, self.rank - start)
            if not bits:
                continue
            last = found[-1] if found else None
            if last and (last.bits, last.width) == (bits, width) and last.start + last.groups * width == start:
                found[-1] = Run(bits, last.groups + 1, width, last.start, last.byte, last.scale)
            else:
                found.append(Run(bits, 1, width, start, byte, scale))
            byte += packed_bytes(width, bits)
            scale += 1
        return found

    @property
    def streams(self) -> list[Streams]:
        """With "trellis", where the streams of each row group lie."""
        found: list[Streams] = []
        for rows, bits in zip(self.row_group_sizes, self.bits, strict=True):
            found.append(Streams(found[-1].end if found else 0, rows, packed_bytes(sum(bits), 1)))
        return found

    @property
    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Kind (FLOAT, HALF, CODES, IDS) and shape of each tensor, by its name in an artifact."""
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        if self.codec == PLAIN:
            found["latents"] = FLOAT, (self.rows, self.rank)
        elif self.codec == GGML:
            kind = BLOCK_TYPES[self.block]
            blocks = self.rank // kind.width
            found["latents.codes"] = CODES, (self.rows, blocks * kind.code_bytes)
            found["latents.scales"] = HALF, (self.rows, blocks * kind.halves)
        elif self.codec == TRELLIS:
            found["latents.codes"] = CODES, (self.streams[-1].end,)
            found["latents.scales"] = found["latents.offsets"] = HALF, (len(self.bits), self.rank)
            found["latents.levels"] = WHOLE, (2, 1 << self.window)
        else:
            for row_group, rows in enumerate(self.row_group_sizes):
                runs = self.runs(row_group)
                found[f"latents.{row_group}.codes"] = CODES, (rows, sum(run.nbytes for run in runs))
                for name in ("scales", "offsets"):
                    found[f"latents.{row_group}.{name}"] = HALF, (rows, sum(run.groups for run in runs))
        if len(self.row_group_sizes) > 1:
            found["latents.row_groups"] = CODES, (self.rows,)
        if self.decoder:
            found["decoder.weight"] = WHOLE if self.rounded else FLOAT, (self.dim, self.rank)
        if self.rounded:
            found["decoder.scales"] = HALF, (self.rank,)
        if self.bias:
            found["decoder.bias"] = FLOAT, (self.dim,)
        if self.kept:
            found["kept.ids"] = IDS, (self.kept,)
            found["kept.rows"] = FLOAT, (self.kept, self.dim)
        return found

    @property
    def numbers(self) -> int:
        """Count of stored numbers; each code, scale, offset, row group number, id and float is one."""
        total = 0
        if self.codec == GGML:
            kind = BLOCK_TYPES[self.block]
            total += self.rows * self.rank // kind.width * (kind.numbers - kind.halves)  # and the scales below
        for name, (_, shape) in self.shapes.items():
            if not name.endswith(".codes"):
                count = 1
                for length in shape:
                    count *= length
                total += count
        if self.codec == TRELLIS:
            total += self.rows * self.rank
        if self.codec == PER_GROUP:
            total += sum(
                rows * sum(run.columns for run in self.runs(row_group))
                for row_group, rows in enumerate(self.row_group_sizes)
            )
        return total
