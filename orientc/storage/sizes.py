"""The arithmetic of sizes: ranks for a parameter ratio, bytes for a target, bytes of a whole model."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from math import floor

from orientc.errors import FitError, UsageError
from orientc.modeling.layout import Layout

# Head policies: what of lookup and head runs from a compressed table. A head that shares the lookup's table keeps the
# original or runs from the compressed one; one with a table of its own may have that compressed, too, or alone.
POLICIES = INPUT_ONLY, HEAD_ONLY, BOTH, TIED = "input-only", "head-only", "both", "tied"
UNTIED = "untied"  # what files of before say for input-only, where the head shares no table or there is none

MB = 1e6  # bytes


def parameter_ratio(vocab: int, dim: int, numbers: int) -> float:
    """Numbers of the table per stored number; the paper's "compression ratio"."""
    return vocab * dim / numbers


def bits_per_weight(vocab: int, dim: int, nbytes: int) -> float:
    """Stored bits per number of the original table."""
    return 8 * nbytes / (vocab * dim)


def check_size(rank: int | None, ratio: float | None) -> None:
    """Raise `UsageError` unless exactly one of `rank` and `ratio` is given, and is at least 1."""
    if (rank is None) == (ratio is None):
        raise UsageError("give either `rank` or `ratio`, and not both: a rank of 128, say, or a ratio of 5")
    if rank is not None and rank < 1:
        raise UsageError(f"`rank` must be at least 1, not {rank}")
    if ratio is not None and not 1 <= ratio < float("inf"):
        raise UsageError(f"`ratio` must be at least 1, not {ratio:g}: at 1 as many numbers are stored as the table has")


def choose_rank(at: Callable[[int], Layout], *, rank: int | None, ratio: float | None) -> int:
    """Choose the rank asked for, or the largest whose parameter ratio is at least `ratio`.

    Args:
        at: Gives the layout at a rank; its stored numbers must grow with the rank.
        rank: Width of the latents.
        ratio: Parameter ratio.

    Raises:
        UsageError: Not exactly one of `rank` and `ratio` is given, or it is below 1.
        FitError: The table allows no such rank.
    """
    check_size(rank, ratio)
    vocab, dim = at(1).vocab, at(1).dim
    if rank is not None:
        if rank > dim:
            raise FitError(f"`rank` {rank} is above the table's width: choose at most {dim}")
        return rank
    assert ratio is not None

    def negative_ratio(rank: int) -> float:
        return -parameter_ratio(vocab, dim, at(rank).numbers)

    chosen = bisect_right(range(1, dim + 1), -ratio, key=negative_ratio)  # ratios fall as ranks grow
    if not chosen:
        largest = floor(-10 * negative_ratio(1)) / 10
        raise FitError(f"`ratio` {ratio:g} leaves less than one number per token: choose at most {largest}")
    return chosen


def target_bytes(vocab: int, dim: int, table: int, *, ratio: float | None, bits: float | None, mb: float | None) -> int:
    """The bytes that a target size allows; exactly one of `ratio`, `bits` and `mb` is given.

    A target above what any form takes, 8 bytes a number, stands for that.

    Args:
        vocab: Rows of the table.
        dim: Width of the table.
        table: Bytes of the table in its checkpoint.
        ratio: Byte ratio.
        bits: Bits per weight.
        mb: MB of 10⁶ bytes.
    """
    if ratio is not None:
        allowed = table / ratio
    elif bits is not None:
        allowed = vocab * dim * bits / 8
    else:
        assert mb is not None
        allowed = mb * MB
    return floor(min(allowed, 8.0 * (vocab + dim + 1) * dim))


def model_bytes(checkpoint: int, table: int, artifact: int, *, kept: bool) -> int:
    """The bytes of a whole model with its table compressed.

    Args:
        checkpoint: Bytes of the model as it is.
        table: Bytes of its table.
        artifact: Bytes of the compressed table.
        kept: Whether the original table stays, as it does for a head that shares it and keeps it.
    """
    return checkpoint + artifact if kept else checkpoint - table + artifact
