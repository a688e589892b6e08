"""How large a compressed table is: the arithmetic behind `--ratio`, and every size the tool prints."""

from __future__ import annotations

from math import floor

from orientc.errors import FitError, UsageError

# The head policies. Of a tied model, the lookup alone is compressed, or lookup and head; an untied model has one.
INPUT_ONLY, TIED, UNTIED = "input-only", "tied", "untied"

MB = 1e6  # bytes
_CODEBOOKS = {2.0: (4, 8), 2.5: (2, 5), 3.0: (2, 6), 3.5: (2, 7)}  # bits a column: columns a code, bits of the code


def stored_numbers(vocab: int, dim: int, rank: int, *, bias: bool, kept: int = 0) -> int:
    """Numbers stored: latents `[vocab, rank]`, decoder weight `[dim, rank]` and, where there is one, bias `[dim]`.

    Of `kept` rows there are no latents, but the row and its id.
    """
    return (vocab - kept) * rank + dim * rank + (dim if bias else 0) + kept * (dim + 1)


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


def codebook_shape(bits: float) -> tuple[int, int]:
    """Columns per code and bits per code. Raises `UsageError` for bits a column that codebooks don't have."""
    if bits not in _CODEBOOKS:
        raise UsageError(
            f"codebooks have {', '.join(f'{entry:g}' for entry in _CODEBOOKS)} bits a column, not {bits:g}"
        )
    return _CODEBOOKS[bits]


def choose_rank(vocab: int, dim: int, *, rank: int | None, ratio: float | None, bias: bool, kept: int = 0) -> int:
    """The rank asked for, or the largest whose parameter ratio is at least `ratio`; `kept` rows are stored whole.

    Raises `UsageError` as `check_size` does, and `FitError` where this table allows no such rank.
    """
    check_size(rank, ratio)
    if rank is not None:
        if rank > dim:
            raise FitError(f"rank {rank} is above the table's width: choose at most {dim}")
        return rank
    assert ratio is not None
    chosen = min(dim, int(vocab * dim / ratio / (vocab - kept + dim)) + 1)
    while chosen and parameter_ratio(vocab, dim, stored_numbers(vocab, dim, chosen, bias=bias, kept=kept)) < ratio:
        chosen -= 1
    if not chosen:
        largest = floor(10 * parameter_ratio(vocab, dim, stored_numbers(vocab, dim, 1, bias=bias, kept=kept))) / 10
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
