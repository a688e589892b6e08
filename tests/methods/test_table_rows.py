from __future__ import annotations

import pytest
import torch

from orientc.methods.table_rows import RowView, some_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_view_of_rows_reads_as_the_tensor_of_those_rows(dtype: torch.dtype) -> None:
    table, ids = torch.randn(20, 3).to(dtype), torch.tensor([4, 0, 19, 7, 8])
    view, expected = some_rows(table, ids), table[ids]
    assert (len(view), tuple(view.shape), view.device) == (5, (5, 3), expected.device)
    assert torch.equal(view[:], expected)
    assert torch.equal(view[1:4], expected[1:4])
    assert torch.equal(view[torch.tensor([4, 1])], expected[[4, 1]])
    blocks = [*view.split(2)]
    assert [len(block) for block in blocks] == [2, 2, 1]
    assert torch.equal(torch.cat(blocks), expected)


def test_rows_of_rows_are_rows_of_the_table() -> None:
    table = torch.randn(20, 3)
    view = some_rows(some_rows(table, torch.arange(10, 20)), torch.tensor([3, 0]))
    assert torch.equal(view[:], table[[13, 10]])


def test_a_table_of_large_numbers_is_read_divided() -> None:
    table = (torch.randn(20, 3) * 2.0**60).bfloat16()
    view = RowView(table, divisor=2.0**60)
    assert view[:2].dtype == torch.float32
    assert torch.equal(view[:], table.float() / 2.0**60)
    assert torch.equal(some_rows(view, torch.tensor([5]))[:], table[5:6].float() / 2.0**60)


def test_no_rows_are_one_block_without_rows_as_of_a_tensor() -> None:
    table = torch.randn(4, 3)
    assert [len(block) for block in some_rows(table, torch.arange(0)).split(2)] == [0]
    assert [len(block) for block in table[:0].split(2)] == [0]
