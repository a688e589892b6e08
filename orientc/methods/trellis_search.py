"""The Viterbi algorithm: of all streams of bits the one whose levels are nearest to a row's values.

The state behind a column is the last `window` bits of the stream. The search keeps, for each state, the least error of
all streams that end in it. As a compiled loop it works on 16 rows at a time, on as many threads as torch has; on other
devices torch does the same, state by state for all rows at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_ROWS = 256  # rows at a time where torch searches


def nearest_streams(values: Tensor, bits: Sequence[int], weights: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Find the stream of bits of least weighted squared error for each row.

    Args:
        values: Float32 `[rows, columns]`.
        bits: For each column the bits it adds to the stream, 0 to 8.
        weights: Weights of the columns' squared errors, float32 `[columns]`.
        levels: Values by the window's bits, the newest lowest: int8 `[2, 2**window]`; the first for columns that add no
            bits, the second for others.

    Returns:
        The streams, the first bit highest in the first byte, uint8 `[rows, bytes]`, and the levels that they stand for,
        int8 `[rows, columns]`.

    Raises:
        ValueError: A column adds more bits than a window has.
    """
    if max(bits, default=0) > levels.shape[1].bit_length() - 1:
        raise ValueError(f"a column adds {max(bits)} bits, more than a window has")
    if not len(values):
        size = -(-sum(bits) // 8)
        return values.new_empty(0, size, dtype=torch.uint8), values.new_empty(values.shape, dtype=torch.int8)
    if values.device.type != "cpu":
        parts = [_searched(part, bits, weights, levels) for part in values.split(_ROWS)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    rows, columns = values.shape
    blocks = functional.pad(values.float(), (0, 0, 0, -rows % 16)).view(-1, 16, columns).transpose(1, 2).contiguous()
    size = -(-sum(bits) // 8)
    streams, found = np.zeros((len(blocks) * 16, size), np.uint8), np.empty((len(blocks) * 16, columns), np.int8)
    window = levels.shape[1].bit_length() - 1
    search, threads = _compiled(), torch.get_num_threads()
    widths, own = np.array(bits, np.int64), weights.float().contiguous().numpy()
    given = blocks.numpy(), widths, own, levels.float().numpy(), levels.numpy(), window, streams, found
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(search, *given, first, threads) for first in range(threads)]:
            done.result()
    return torch.from_numpy(streams[:rows]), torch.from_numpy(found[:rows])


def _searched(values: Tensor, bits: Sequence[int], weights: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """The same by torch's operators, on any device; for `_ROWS` rows or so."""
    (rows, columns), states = values.shape, levels.shape[1]
    window, known = states.bit_length() - 1, levels.float()
    costs = torch.full((rows, states), 1e30, device=values.device)
    costs[:, 0] = 0
    parents: list[Tensor] = []
    for column, own in enumerate(bits):
        least, parent = costs.view(rows, 1 << own, -1).min(1)
        parents.append(parent.to(torch.uint8))
        errors = (values[:, column : column + 1].float() - known[min(own, 1)]).square_() * weights[column]
        costs = (least.unsqueeze(2) + errors.view(rows, -1, 1 << own)).view(rows, states)
    state = costs.argmin(1)
    found, stream = torch.empty(rows, columns, dtype=torch.int8, device=values.device), []
    for column in reversed(range(columns)):
        own = bits[column]
        found[:, column] = levels[min(own, 1)][state]
        stream += [state >> bit & 1 for bit in range(own)]
        rest = state >> own
        state = rest | parents[column].gather(1, rest.unsqueeze(1)).squeeze(1).long() << window - own
    flags = functional.pad(torch.stack(stream[::-1], 1), (0, -len(stream) % 8)).view(rows, -1, 8)
    return (flags << torch.arange(7, -1, -1, device=values.device)).sum(2).to(torch.uint8), found


@functools.cache
def _compiled() -> Callable[..., None]:
    """The search, compiled when it is first wanted, in some seconds.

    It has no threads of numba's own, which would set those of torch, and leaves Python's free to run.
    """
    import numba

    from orientc.methods.vectors import (
        added_error,
        all_floats,
        all_ints,
        load,
        smaller,
        store,
        store_bytes,
        where_less,
    )

    def search_block(
        values: Any, bits: Any, weights: Any, levels: Any, numbers: Any, window: Any,
        streams: Any, found: Any, before: Any, after: Any, parents: Any,
    ) -> None:  # fmt: skip
        columns, states = len(bits), 1 << window
        for state in range(states):
            store(before, state * 16, all_floats(np.float32(1e30)))
        nothing = all_floats(np.float32(0))
        store(before, 0, nothing)
        # A state's error is that of the state it came from, `before[state >> shift]`, and of the last column.
        shift, last, table, weight = 0, nothing, 0, nothing
        for column in range(columns):
            own = bits[column]
            rest = states >> own
            for low in range(rest):
                best = added_error(load(before, (low >> shift) * 16), last, levels[table, low], weight)
                parent = all_ints(0)
                for high in range(1, 1 << own):
                    state = high * rest + low
                    cost = added_error(load(before, (state >> shift) * 16), last, levels[table, state], weight)
                    parent = where_less(cost, best, all_ints(high), parent)
                    best = smaller(cost, best)
                store(after, low * 16, best)
                if own > 0:
                    store_bytes(parents, (column * (states >> 1) + low) * 16, parent)
            before, after = after, before
            shift, table = own, min(own, 1)
            last, weight = load(values, column * 16), all_floats(weights[column])
        ends, least, lowest = np.empty(16, np.float32), np.zeros(16, np.int64), np.full(16, np.float32(3e38))
        for state in range(states):
            store(ends, 0, added_error(load(before, (state >> shift) * 16), last, levels[table, state], weight))
            for row in range(16):
                if ends[row] < lowest[row]:
                    lowest[row], least[row] = ends[row], state
        total = 0
        for column in range(columns):
            total += bits[column]
        for row in range(16):
            at = total
            state = np.int64(least[row])  # type: ignore[assignment]
            for column in range(columns - 1, -1, -1):
                own = bits[column]
                found[row, column] = numbers[min(own, 1), state]
                for bit in range(own):
                    at -= 1
                    streams[row, at >> 3] |= ((state >> bit) & 1) << (7 - (at & 7))
                if own > 0:
                    low = state >> own
                    state = low | (np.int64(parents[(column * (states >> 1) + low) * 16 + row]) << (window - own))

    compiled = numba.njit(nogil=True, inline="never", error_model="numpy")(search_block)

    def search(
        blocks: Any, bits: Any, weights: Any, levels: Any, numbers: Any, window: Any,
        streams: Any, found: Any, first: Any, step: Any,
    ) -> None:  # fmt: skip
        columns, states = blocks.shape[1], 1 << window
        before, after = np.empty(states * 16, np.float32), np.empty(states * 16, np.float32)
        parents = np.empty(columns * (states >> 1) * 16, np.uint8)
        for block in range(first, blocks.shape[0], step):
            rows = slice(block * 16, block * 16 + 16)
            compiled(
                blocks[block].reshape(-1), bits, weights, levels, numbers, window,
                streams[rows], found[rows], before, after, parents,
            )  # fmt: skip

    found: Callable[..., None] = numba.njit(nogil=True, error_model="numpy")(search)
    return found
