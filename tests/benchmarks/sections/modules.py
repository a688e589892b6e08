"""Lookup and tied head of a compressed table against the dense modules: time, and memory the allocator hands out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from orientc.methods import per_group, svd
from orientc.methods.importance import Importance
from orientc.methods.transform_coding import transform_code
from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedEmbedding, CompressedHead
from orientc.storage.sizes import MB
from sections.measuring import Row, peak_bytes, seconds, side_by_side, table_of, times_less


def in_codes(table: Tensor, rank: int, bits: int) -> Factors:
    """Latents in codes, a scale for each group of 64 columns of a row."""
    return per_group.quantize_per_group(
        svd.truncated_svd(table, rank), [[bits] * -(-rank // 64)], group_size=64, importance=torch.eye(rank)
    ).map(wide)


def in_columns(table: Tensor, rank: int, bits: int) -> Factors:
    """Latents in trellis codes of so many bits on average."""
    nbytes = len(table) * rank * bits // 8 + table.shape[1] * (rank + 100)
    factors = transform_code(table, nbytes, Importance.plain(table), dtype=torch.float16)
    assert factors is not None
    return factors.map(wide)


def wide(tensor: Tensor) -> Tensor:
    """Floats in float32, as modules hold them."""
    return tensor.float() if tensor.is_floating_point() else tensor


# Ways to hold the factors, by name.
MAKERS: dict[str, Callable[[Tensor, int], Factors]] = {
    "float32": svd.truncated_svd,
    "float32 with a bias": partial(svd.truncated_svd, center=True),
    **{f"{bits} bits": partial(in_codes, bits=bits) for bits in (8, 4, 3, 2)},
    "4 bits, scales by columns": partial(in_columns, bits=4),
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
                wanted = "faster than dense" if share >= 4 and "bits" not in kind else ""
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
