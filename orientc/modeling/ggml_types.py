"""The block types of ggml that a table can be coded in, and where the bytes of a block are; imports no torch.

A row is a number of blocks, one after the other. A block holds one or two float16 scales and its codes; types with
blocks of 256 numbers also have whole-number scales of sub-blocks among the codes. ggml calls these structures
`block_q4_0` and so on.
"""

from __future__ import annotations

from dataclasses import dataclass

# The levels of ggml's non-linear 4-bit types.
NONLINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@dataclass(frozen=True)
class CodeField:
    """A run of bytes of a block with codes of fewer bits: strips of bytes, each strip's lowest bits come first.

    Attributes:
        name: "low" or "high" bits of the numbers' codes; "scales", "scales_low" or "scales_high" of sub-blocks.
        nbytes: Bytes of the field.
        strip: Bytes of a strip: its codes are the lowest bits of each of its bytes, then the next ones of each.
        bits: Bits of each code, 1, 2, 4 or 8.
    """

    name: str
    nbytes: int
    strip: int
    bits: int


@dataclass(frozen=True)
class BlockType:
    """One of ggml's block types: the numbers of a block are `scale · level`, or `scale · level ± minimum`.

    Attributes:
        name: ggml's name.
        width: Numbers of a block.
        fields: The codes' bytes in order, without the float16 scales.
        halves: Number of float16 scales: of the levels, and 2 where there is one of minimums too.
        halves_first: Whether they come before the codes; else after them.
        bits: Bits of a number's code.
        zero: What is subtracted from a code to get its level; None for `NONLINEAR` levels.
        sub_block: Numbers that share a whole-number scale; the block's width where there is none.
    """

    name: str
    width: int
    fields: tuple[CodeField, ...]
    halves: int
    halves_first: bool
    bits: int
    zero: int | None
    sub_block: int

    @property
    def sub_blocks(self) -> int:
        """Number of sub-blocks of a block."""
        return self.width // self.sub_block

    @property
    def code_bytes(self) -> int:
        """Bytes of a block's codes."""
        return sum(field.nbytes for field in self.fields)

    @property
    def nbytes(self) -> int:
        """Bytes of a block."""
        return self.code_bytes + 2 * self.halves

    @property
    def bits_per_weight(self) -> float:
        """Bits that a number takes, its share of scales included."""
        return 8 * self.nbytes / self.width

    @property
    def numbers(self) -> int:
        """Count of the numbers stored for a block: codes, scales of sub-blocks, and float16 scales."""
        return self.width + self.halves * (1 + (self.sub_blocks if self.sub_blocks > 1 else 0))


def _small(name: str, halves: int, bits: int, zero: int | None, *fields: CodeField) -> BlockType:
    return BlockType(name, 32, fields, halves, True, bits, zero, 32)


_NIBBLES = CodeField("low", 16, 16, 4)
_FIFTH_BITS = CodeField("high", 4, 1, 1)
_PAIRS = CodeField("scales", 12, 12, 8)  # of scale and minimum, 6 bits each, interleaved: see `ggml_blocks`
BLOCK_TYPES = {
    kind.name: kind
    for kind in (
        _small("Q4_0", 1, 4, 8, _NIBBLES),
        _small("Q4_1", 2, 4, 0, _NIBBLES),
        _small("IQ4_NL", 1, 4, None, _NIBBLES),
        _small("Q5_0", 1, 5, 16, _FIFTH_BITS, _NIBBLES),
        _small("Q5_1", 2, 5, 0, _FIFTH_BITS, _NIBBLES),
        _small("Q8_0", 1, 8, 0, CodeField("low", 32, 32, 8)),
        BlockType("Q2_K", 256, (CodeField("scales", 16, 16, 8), CodeField("low", 64, 32, 2)), 2, False, 2, 0, 16),
        BlockType(
            "Q3_K",
            256,
            (
                CodeField("high", 32, 32, 1),
                CodeField("low", 64, 32, 2),
                CodeField("scales_low", 8, 8, 4),
                CodeField("scales_high", 4, 4, 2),
            ),
            1,
            False,
            3,
            4,
            16,
        ),
        BlockType("Q4_K", 256, (_PAIRS, CodeField("low", 128, 32, 4)), 2, True, 4, 0, 32),
        BlockType("Q5_K", 256, (_PAIRS, CodeField("high", 32, 32, 1), CodeField("low", 128, 32, 4)), 2, True, 5, 0, 32),
        BlockType(
            "Q6_K",
            256,
            (CodeField("low", 128, 64, 4), CodeField("high", 64, 32, 2), CodeField("scales", 16, 16, 8)),
            1,
            False,
            6,
            32,
            16,
        ),
        BlockType(
            "IQ4_XS",
            256,
            (CodeField("scales_high", 2, 1, 2), CodeField("scales_low", 4, 1, 4), CodeField("low", 128, 16, 4)),
            1,
            True,
            4,
            None,
            32,
        ),
    )
}
