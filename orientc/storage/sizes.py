"""How large a compressed table is: the arithmetic behind `--ratio`, and every size the tool prints."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from math import floor

from orientc.errors import FitError, UsageError
from orientc.modeling.layout import Layout

# The head policies. Of a tied model, the lookup alone is compressed, or lookup and head; an untied model has one.
INPUT_ONLY, TIED, UNTIED = "input-only", "tied", "untied"

MB = 1e6  # bytes


def parameter_ratio(vocab: int, dim: int, numbers: int) -> float:
    """Numbers of the table per number stored; the paper's "compression ratio"."""
    return vocab * dim / numbers


def bits_per_weight(vocab: int, dim: int, nbytes: int) -> float:
    """Stored bits per number of the original table."""
    return 8 * nbytes / (vocab * dim)


def check_size(rank: int | None, ratio: float | None) -> None:
    """Exactly one of `rank` (at least 1) and `ratio` (at least 1). Raises `UsageError` otherwise."""
    if (rank is None) == (ratio is None):
        raise UsageError("give either a rank or a ratio, and not both: --rank 128, or --ratio 5")
    if rank is not None and rank < 1:
        raise UsageError(f"rank must be at least 1, not {rank}")
    if ratio is not None and not 1 <= ratio < float("inf"):
        raise UsageError(f"ratio must be at least 1, not {ratio:g}: a table can't be kept in more numbers than it has")


def choose_rank(at: Callable[[int], Layout], *, rank: int | None, ratio: float | None) -> int:
    """The rank asked for, or the largest whose parameter ratio is at least `ratio`.

    `at` says how the table is laid out at a rank, in numbers that grow with it. Raises `UsageError` as `check_size`
    does, and `FitError` where this table allows no such rank.
    """
    check_size(rank, ratio)
    vocab, dim = at(1).vocab, at(1).dim
    if rank is not None:
        if rank > dim:
            raise FitError(f"rank {rank} is above the table's width: choose at most {dim}")
        return rank
    assert ratio is not None

    def negative_ratio(rank: int) -> float:
        return -parameter_ratio(vocab, dim, at(rank).numbers)

    chosen = bisect_right(range(1, dim + 1), -ratio, key=negative_ratio)  # ratios fall as ranks grow
    if not chosen:
        largest = floor(-10 * negative_ratio(1)) / 10
        raise FitError(f"ratio {ratio:g} leaves less than one number per token: choose at most {largest}")
    return chosen


def target_bytes(vocab: int, dim: int, table: int, *, ratio: float | None, bits: float | None, mb: float | None) -> int:
    """Bytes that a target allows: a byte ratio to the table's `table` bytes, bits per weight, or MB."""
    if ratio is not None:
        return floor(table / ratio)
    if bits is not None:
        return floor(vocab * dim * bits / 8)
    assert mb is not None
    return floor(mb * MB)


def model_bytes(checkpoint: int, table: int, artifact: int, head: str) -> int:
    """What a whole model weighs with its table compressed.

    `checkpoint`, `table` and `artifact` are bytes. Under *input-only* the head keeps the original table, so
    the artifact comes on top; under *tied* and *untied* it takes the table's place.
    """
    return checkpoint + artifact if head == INPUT_ONLY else checkpoint - table + artifact
