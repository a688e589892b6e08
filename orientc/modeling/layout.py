"""How a compressed table is laid out: which tensors there are, of what shape, and what they take.

Names, shapes and kinds follow from a few whole numbers; artifacts are checked against them, models in the compact form
are built from them. This module imports nothing: it is part of the code that goes along with an exported model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FLOAT, HALF, CODES, IDS = "float", "half", "codes", "ids"  # kinds of tensors; FLOAT is the artifact's own float type
PLAIN, PER_GROUP, PER_CHANNEL = "plain", "per-group", "per-channel"
CODED = (PER_GROUP, PER_CHANNEL)
MOST_BITS = 8
MOST_ROW_GROUPS = 64
WIDEST_GROUP = 1 << 16
WIDEST_TABLE = 1 << 20  # a small file could claim columns without bits by the billion


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take, one behind the other."""
    return (count * bits + 7) // 8


@dataclass(frozen=True)
class Run:
    """Neighbouring groups of one row group with the same bits and width: `groups` of `width` columns, from column `start`.

    Their codes begin at byte `byte` of a row, and their scales at `scale`: one for a group, or one for a column.
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
        """Bytes of the run's codes in a row; each group's start on a byte."""
        return self.groups * packed_bytes(self.width, self.bits)


@dataclass(frozen=True)
class Layout:
    """A compressed table of `vocab` rows of width `dim`, from latents of width `rank`.

    `decoder` and `bias` say whether these are there, `kept` how many rows are stored as they are. `codec`
    is how the other rows' latents are coded. "plain": as numbers. "per-group": rows lie in row groups of `row_group_sizes` rows;
    row group t codes each `group_size` columns (the last group may be shorter) in `bits[t][g]` bits a column, with a scale
    and an offset per row and group; with 0 bits there are none and the columns are 0. "per-channel": the same with a
    scale and an offset per row group and column, those of all its rows.
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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layout:
        """What `dataclasses.asdict` and JSON made of a layout. Raises `ValueError` or `TypeError` for no layout."""
        lists = {
            "bits": tuple(tuple(row_group) for row_group in values.get("bits", ())),
            "row_group_sizes": tuple(values.get("row_group_sizes", ())),
        }
        layout = cls(**(values | lists))
        layout.check()
        return layout

    def check(self) -> None:
        """Raise `ValueError` for numbers that describe no table."""
        for name, (low, bound) in {
            "vocab": (1, 1 << 40), "dim": (1, WIDEST_TABLE), "rank": (1, WIDEST_TABLE),
            "kept": (0, 1 << 40), "group_size": (0, 1 << 40),
        }.items():  # fmt: skip
            if type(value := getattr(self, name)) is not int or not low <= value < bound:
                raise ValueError(f"{name} is {value!r:.40}")
        for name in ("decoder", "bias"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} is {value!r:.40}")
        if self.activation is not None and self.activation != "elu":
            raise ValueError(f"activation is {self.activation!r:.40}")
        if self.kept > self.vocab:
            raise ValueError(f"{self.kept} rows of {self.vocab} are kept")
        if not self.decoder and (self.bias or self.rank != self.dim):
            raise ValueError("its latents are not as wide as the table, and there is no decoder")
        if self.codec == PLAIN:
            if self.group_size or self.bits or self.row_group_sizes:
                raise ValueError("its latents are plain and coded at once")
            return
        if self.codec not in CODED or not 1 <= self.group_size <= WIDEST_GROUP:
            raise ValueError(f"its latents are coded as {self.codec!r:.40} in groups of {self.group_size}")
        if not 0 < len(self.bits) <= MOST_ROW_GROUPS:
            raise ValueError(f"it has {len(self.bits)} row_groups")
        for row_group in self.bits:
            if len(row_group) != self.groups or not all(
                type(bits) is int and 0 <= bits <= MOST_BITS for bits in row_group
            ):
                raise ValueError(f"its groups of columns have {row_group!r:.60} bits")
            if not any(row_group):
                raise ValueError("one of its row_groups has no codes at all")
        if len(self.row_group_sizes) != len(self.bits) or not all(
            type(rows) is int and rows >= 0 for rows in self.row_group_sizes
        ):
            raise ValueError("its row_groups have no sizes")
        if sum(self.row_group_sizes) != self.rows:
            raise ValueError(f"its row_groups have {sum(self.row_group_sizes)} rows, not {self.rows}")

    @property
    def rows(self) -> int:
        """Rows that have latents."""
        return self.vocab - self.kept

    @property
    def groups(self) -> int:
        """Groups of columns, the last one perhaps shorter."""
        return -(-self.rank // self.group_size) if self.group_size else 0

    def runs(self, row_group: int) -> list[Run]:
        """The groups of a row group that have codes, neighbours of the same bits and width together."""
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
            scale += width if self.codec == PER_CHANNEL else 1
        return found

    @property
    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Kind and shape of each tensor by its name in an artifact."""
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        if self.codec == PLAIN:
            found["latents"] = FLOAT, (self.rows, self.rank)
        else:
            for row_group, rows in enumerate(self.row_group_sizes):
                runs = self.runs(row_group)
                found[f"latents.{row_group}.codes"] = CODES, (rows, sum(run.nbytes for run in runs))
                of_rows, of_columns = (rows, sum(run.groups for run in runs)), (sum(run.columns for run in runs),)
                for name in ("scales", "offsets"):
                    found[f"latents.{row_group}.{name}"] = HALF, of_rows if self.codec == PER_GROUP else of_columns
            if len(self.row_group_sizes) > 1:
                found["latents.row_groups"] = CODES, (self.rows,)
        if self.decoder:
            found["decoder.weight"] = FLOAT, (self.dim, self.rank)
        if self.bias:
            found["decoder.bias"] = FLOAT, (self.dim,)
        if self.kept:
            found["kept.ids"] = IDS, (self.kept,)
            found["kept.rows"] = FLOAT, (self.kept, self.dim)
        return found

    @property
    def numbers(self) -> int:
        """Numbers stored: each code, scale, entry, id and float is one."""
        total = 0
        for name, (_, shape) in self.shapes.items():
            if not name.endswith(".codes"):
                count = 1
                for length in shape:
                    count *= length
                total += count
        if self.codec in CODED:
            total += sum(
                rows * sum(run.columns for run in self.runs(row_group))
                for row_group, rows in enumerate(self.row_group_sizes)
            )
        return total
