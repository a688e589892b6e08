"""Lookup and tied head of a compressed table against the dense modules: time, and memory the allocator hands out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from orientc.factors import Factors
from orientc.methods import svd
from orientc.modules import CompressedEmbedding, CompressedHead
from orientc.sizes import MB
from sections.measuring import Row, peak_bytes, seconds, side_by_side, table_of, times_less

# Ways to hold the factors, by name; other widths of numbers belong here.
MAKERS: dict[str, Callable[[Tensor, int], Factors]] = {
    "float32": svd.fit,
    "float32 with a bias": partial(svd.fit, center=True),
}


@torch.inference_mode()
def rows(options: argparse.Namespace) -> Iterator[Row]:
    table = table_of(options)
    vocab, dim = table.shape
    dense = nn.Embedding(vocab, dim, _weight=table)
    projection = nn.Linear(dim, vocab, bias=False)
    projection.weight = dense.weight
    torch.manual_seed(0)
    for kind, make in MAKERS.items():
        for share in (8, 4, 2):
            factors = make(table, dim // share)
            lookup, head = CompressedEmbedding(factors), CompressedHead(factors)
            for tokens in options.tokens:
                ids = torch.randint(vocab, (tokens,), device=table.device)
                hidden = torch.randn(tokens, dim, device=table.device)
                case = f"{kind}, rank dim/{share} = {dim // share}, {tokens} tokens"
                yield _row("lookup", case, partial(lookup, ids), partial(dense, ids), table, options, "stated")
                wanted = "faster than dense" if share >= 4 else ""
                calls = partial(head, hidden), partial(projection, hidden)
                yield _row("tied head", case, *calls, table, options, wanted)


def _row(
    section: str,
    case: str,
    ours: Callable[[], Tensor],
    dense: Callable[[], Tensor],
    table: Tensor,
    options: argparse.Namespace,
    wanted: str,
) -> Row:
    result = ours().nbytes  # and both are warm
    dense()
    once, _ = side_by_side({"dense": dense}, argparse.Namespace(**vars(options) | {"repeats": 1}))
    inner = max(1, min(1000, int(0.02 / once["dense"])))
    taken, _ = side_by_side({"ours": ours, "dense": dense}, options, inner=inner)
    above = peak_bytes(ours) - result
    return Row(
        section,
        case,
        seconds(taken["ours"]),
        seconds(taken["dense"]),
        times_less(taken["ours"], taken["dense"]),
        wanted,
        f"allocates {above / MB:.2f} MB beside its result of {result / MB:.2f} MB; the table has "
        f"{table.nbytes / MB:.1f} MB" + ("" if above < table.nbytes else ": AS MUCH AS THE TABLE"),
    )
