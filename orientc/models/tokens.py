"""A tokenizer beside a table: its ids are rows, and it may know more of them than there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orientc.errors import ModelError
from orientc.models.source import ModelSource


def check_ids(source: ModelSource, sequences: Iterable[Sequence[int]], *, decoded: bool = False) -> None:
    """Raise `ModelError` where a token of some sequences has no row in the model's table.

    Of sequences that are `decoded` that is the decoder's table, where it has one of its own.
    """
    highest = max((max(ids, default=0) for ids in sequences), default=0)
    rows = (source.decoder_rows if decoded else None) or source.rows
    if highest >= rows:
        raise ModelError(f"the tokenizer gives token {highest}, the table has {rows} rows")


def padding_id(source: ModelSource) -> int:
    """The id to fill up a batch with: the tokenizer's padding token, 0 where that is none or has no row.

    Masked positions change nothing, so that any row serves.
    """
    padding = source.tokenizer.pad_token_id
    return padding if padding is not None and padding < source.rows else 0


def drawable_ids(source: ModelSource) -> int:
    """How many ids, from 0 on, a random token is drawn from."""
    return min(len(source.tokenizer), source.rows)
