"""Some rows of a table, read when they are asked for: a table may be a mapped file larger than memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class RowView:
    """Some rows of a table, or the table divided by a number, block by block; never all at once.

    Methods read it as they read a tensor: its length, its shape, rows by index, and blocks of rows by `split`.

    Args:
        table: `[vocab, dim]` of any float type.
        ids: The rows, `[n]`; all unless given.
        divisor: What each number is divided by; rows are float32 unless it is 1.
    """

    def __init__(self, table: Tensor, ids: Tensor | None = None, *, divisor: float = 1.0) -> None:
        self._table, self._ids, self._divisor = table, ids, divisor

    def select(self, ids: Tensor) -> RowView:
        """Some of these rows."""
        return RowView(self._table, ids if self._ids is None else self._ids[ids], divisor=self._divisor)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and width."""
        return len(self), self._table.shape[1]

    @property
    def device(self) -> torch.device:
        """The table's device."""
        return self._table.device

    def __len__(self) -> int:
        return len(self._table) if self._ids is None else len(self._ids)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        found = self._table[rows if self._ids is None else self._ids[rows]]
        return found if self._divisor == 1 else found.float() / self._divisor

    def split(self, size: int) -> Iterator[Tensor]:
        """Blocks of at most `size` rows, in order; one block without rows where there are none."""
        for start in range(0, max(1, len(self)), size):
            yield self[start : start + size]


TableRows = Tensor | RowView


def some_rows(table: TableRows, ids: Tensor) -> RowView:
    """Some rows of a table."""
    return table.select(ids) if isinstance(table, RowView) else RowView(table, ids)
