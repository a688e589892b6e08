"""How a compressed table is laid out: which tensors there are, of what shape, and what they take.

Names, shapes and kinds follow from a few whole numbers; artifacts are checked against them, models in the compact form
are built from them. This module imports nothing: it is part of the code that goes along with an exported model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FLOAT, HALF, CODES, IDS = "float", "half", "codes", "ids"  # kinds of tensors; FLOAT is the artifact's own float type
PLAIN, GROUPS, COLUMNS, CODEBOOK = "plain", "groups", "columns", "codebook"
TIERED = (GROUPS, COLUMNS)
MOST_BITS = 8
MOST_TIERS = 64
WIDEST_GROUP = 1 << 16
WIDEST_TABLE = 1 << 20  # a small file could claim columns without bits by the billion


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take, one behind the other."""
    return (count * bits + 7) // 8


@dataclass(frozen=True)
class Run:
    """Neighbouring groups of one tier with the same bits and width: `groups` of `width` columns, from column `start`.

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

    `decoder`, `bias` and `norms` say whether these are there, `kept` how many rows are stored as they are. `codec`
    is how the other rows' latents are coded. "plain": as numbers. "groups": rows lie in tiers of `tier_rows` rows;
    tier t codes each `group` columns (the last group may be shorter) in `bits[t][g]` bits a column, with a scale
    and an offset per row and group; with 0 bits there are none and the columns are 0. "columns": the same with a
    scale and an offset per tier and column, those of all its rows. "codebook": each `group` columns are one code of
    `bits[0][0]` bits, an entry of that group's codebook, times the row's scale.
    """

    vocab: int
    dim: int
    rank: int
    decoder: bool = True
    bias: bool = False
    activation: str | None = None
    norms: bool = False
    kept: int = 0
    codec: str = PLAIN
    group: int = 0
    bits: tuple[tuple[int, ...], ...] = ()
    tier_rows: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layout:
        """What `dataclasses.asdict` and JSON made of a layout. Raises `ValueError` or `TypeError` for no layout."""
        lists = {
            "bits": tuple(tuple(tier) for tier in values.get("bits", ())),
            "tier_rows": tuple(values.get("tier_rows", ())),
        }
        layout = cls(**(values | lists))
        layout.check()
        return layout

    def check(self) -> None:
        """Raise `ValueError` for numbers that describe no table."""
        for name, (low, bound) in {
            "vocab": (1, 1 << 40), "dim": (1, WIDEST_TABLE), "rank": (1, WIDEST_TABLE),
            "kept": (0, 1 << 40), "group": (0, 1 << 40),
        }.items():  # fmt: skip
            if type(value := getattr(self, name)) is not int or not low <= value < bound:
                raise ValueError(f"{name} is {value!r:.40}")
        for name in ("decoder", "bias", "norms"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"{name} is {value!r:.40}")
        if self.activation is not None and self.activation != "elu":
            raise ValueError(f"activation is {self.activation!r:.40}")
        if self.kept > self.vocab:
            raise ValueError(f"{self.kept} rows of {self.vocab} are kept")
        if not self.decoder and (self.bias or self.rank != self.dim):
            raise ValueError("its latents are not as wide as the table, and there is no decoder")
        if self.codec == PLAIN:
            if self.group or self.bits or self.tier_rows:
                raise ValueError("its latents are plain and coded at once")
            return
        if self.codec not in (*TIERED, CODEBOOK) or not 1 <= self.group <= WIDEST_GROUP:
            raise ValueError(f"its latents are coded as {self.codec!r:.40} in groups of {self.group}")
        if not 0 < len(self.bits) <= (MOST_TIERS if self.codec in TIERED else 1):
            raise ValueError(f"it has {len(self.bits)} tiers")
        expected = self.groups if self.codec in TIERED else 1
        for tier in self.bits:
            low = 0 if self.codec in TIERED else 1
            if len(tier) != expected or not all(type(bits) is int and low <= bits <= MOST_BITS for bits in tier):
                raise ValueError(f"its groups of columns have {tier!r:.60} bits")
            if not any(tier):
                raise ValueError("one of its tiers has no codes at all")
        if len(self.tier_rows) != len(self.bits) or not all(type(rows) is int and rows >= 0 for rows in self.tier_rows):
            raise ValueError("its tiers have no sizes")
        if sum(self.tier_rows) != self.rows:
            raise ValueError(f"its tiers have {sum(self.tier_rows)} rows, not {self.rows}")

    @property
    def rows(self) -> int:
        """Rows that have latents."""
        return self.vocab - self.kept

    @property
    def groups(self) -> int:
        """Groups of columns, the last one perhaps shorter."""
        return -(-self.rank // self.group) if self.group else 0

    def runs(self, tier: int) -> list[Run]:
        """The groups of a tier that have codes, neighbours of the same bits and width together."""
        found: list[Run] = []
        byte = scale = 0
        for number, bits in enumerate(self.bits[tier]):
            start = number * self.group
            width = min(self.group, self.rank - start)
            if not bits:
                continue
            last = found[-1] if found else None
            if last and (last.bits, last.width) == (bits, width) and last.start + last.groups * width == start:
                found[-1] = Run(bits, last.groups + 1, width, last.start, last.byte, last.scale)
            else:
                found.append(Run(bits, 1, width, start, byte, scale))
            byte += packed_bytes(width, bits)
            scale += width if self.codec == COLUMNS else 1
        return found

    @property
    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Kind and shape of each tensor by its name in an artifact."""
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        if self.codec == PLAIN:
            found["latents"] = FLOAT, (self.rows, self.rank)
        elif self.codec in TIERED:
            for tier, rows in enumerate(self.tier_rows):
                runs = self.runs(tier)
                found[f"latents.{tier}.codes"] = CODES, (rows, sum(run.nbytes for run in runs))
                of_rows, of_columns = (rows, sum(run.groups for run in runs)), (sum(run.columns for run in runs),)
                for name in ("scales", "offsets"):
                    found[f"latents.{tier}.{name}"] = HALF, of_rows if self.codec == GROUPS else of_columns
            if len(self.tier_rows) > 1:
                found["latents.tiers"] = CODES, (self.rows,)
        else:
            bits = self.bits[0][0]
            found["latents.codes"] = CODES, (self.rows, packed_bytes(self.groups, bits))
            found["latents.codebook"] = HALF, (self.groups, 1 << bits, self.group)
            found["latents.scales"] = HALF, (self.rows,)
        if self.decoder:
            found["decoder.weight"] = FLOAT, (self.dim, self.rank)
        if self.bias:
            found["decoder.bias"] = FLOAT, (self.dim,)
        if self.norms:
            found["latents.norms"] = FLOAT, (self.rows,)
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
        if self.codec in TIERED:
            total += sum(rows * sum(run.columns for run in self.runs(tier)) for tier, rows in enumerate(self.tier_rows))
        elif self.codec == CODEBOOK:
            total += self.rows * self.groups
        return total
