from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.coded import CASES, DIM, KEPT, VOCAB, filled, made, wide
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from orientc.modeling import factors as factors_module
from orientc.modeling.decoding import block_positions, latent_block, latent_blocks, latents_of_rows
from orientc.modeling.factors import Factors
from orientc.modeling.layout import TRELLIS, WINDOWS, Layout
from orientc.modeling.modules import CompressedEmbedding, CompressedHead
from orientc.modeling.packing import pack

EVERY = pytest.mark.parametrize(("coding", "shape", "options"), CASES)
CODED = [case for case in CASES if case[0] != "plain"]


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factors_module, "CHUNK", 5)


class Made(TorchDispatchMode):
    """Notes how many numbers each tensor has that is made meanwhile, floats and others apart."""

    def __init__(self) -> None:
        super().__init__()
        self.floats, self.others = [0], [0]

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        found = function(*arguments, **(options or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                (self.floats if leaf.is_floating_point() else self.others).append(leaf.numel())
        return found


# -- rows and products


@pytest.mark.parametrize("codec", ["per-group", "per-channel"])
def test_rows_are_read_from_codes_of_all_widths_beside_one_another(codec: str) -> None:
    """Each number times 1 plus 0 is its code; the last group is shorter, and some have no bits."""
    bits, group, rows = (3, 8, 0, 1, 5, 5, 2, 0, 7, 4, 6, 3), 5, 9
    rank = len(bits) * group - 2
    widths = [min(group, rank - group * place) for place in range(len(bits))]
    generator = torch.Generator().manual_seed(0)
    codes = [torch.randint(1 << own, (rows, wide), generator=generator) for own, wide in zip(bits, widths, strict=True)]
    packed = torch.cat([pack(part, own) for part, own in zip(codes, bits, strict=True) if own], dim=1)
    layout = Layout(
        rows, rank, rank, decoder=False, codec=codec, group_size=group, bits=(bits,), row_group_sizes=(rows,)
    )
    shape = layout.shapes["latents.0.scales"][1]
    tensors = {
        "latents.0.codes": packed,
        "latents.0.scales": torch.ones(shape),
        "latents.0.offsets": torch.zeros(shape),
    }
    factors = Factors(layout, tensors)
    expected = torch.cat(codes, dim=1).float()
    assert torch.equal(factors.dense(), expected)
    assert torch.equal(factors.products(torch.eye(rank)), expected.T)


@EVERY
def test_a_lookup_gives_rows_of_the_table(coding: str, shape: str, options: dict[str, Any]) -> None:
    factors = made(coding, shape, **options)
    dense = factors.dense()
    assert dense.shape == (VOCAB, DIM)
    ids = torch.tensor([[3, 0, 28, 3], [17, 5, 1, 0]])
    torch.testing.assert_close(factors.rows(ids), dense[ids])
    torch.testing.assert_close(factors.rows(ids[0, 0]), dense[3])
    assert factors.rows(ids[:, :0]).shape == (2, 0, DIM)
    torch.testing.assert_close(torch.cat(list(factors.chunks(6))), dense)
    if options["kept"]:
        stored = factors.tensors["kept.ids"].long()
        assert torch.equal(dense[stored], factors.tensors["kept.rows"])


@pytest.mark.usefixtures("short_blocks")
@EVERY
def test_the_head_gives_products_with_rows_of_the_table(coding: str, shape: str, options: dict[str, Any]) -> None:
    factors = made(coding, shape, **options)
    states = torch.randn(2, 3, DIM, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(factors.products(states), states @ factors.dense().T, atol=1e-4, rtol=1e-4)
    assert torch.equal(factors.products(states[0, 0]), factors.products(states[0, 0]))
    assert factors.products(states[0, 0]).shape == (VOCAB,)


@pytest.mark.parametrize(("coding", "shape", "options"), CODED)
def test_the_blocks_are_the_latents(coding: str, shape: str, options: dict[str, Any]) -> None:
    factors = made(coding, shape, **options)
    layout, tensors = factors.layout, factors.tensors
    blocks = [latent_block(layout, tensors, row_group, start, 4) for row_group, start in latent_blocks(layout, 4)]
    assert max(map(len, blocks)) == 4
    ids = torch.arange(layout.rows)
    order = block_positions(layout, tensors)
    stacked = torch.cat(blocks)
    if order is not None:
        others = torch.ones(VOCAB, dtype=torch.bool)
        if layout.kept:
            others[tensors["kept.ids"].long()] = False
        stacked = stacked[order[others]]
    torch.testing.assert_close(stacked, latents_of_rows(layout, tensors, ids))


@EVERY
def test_ids_that_the_table_does_not_have_are_refused(coding: str, shape: str, options: dict[str, Any]) -> None:
    factors = made(coding, shape, **options)
    for id in (-1, VOCAB, 1 << 32):
        with pytest.raises((IndexError, RuntimeError)):
            factors.rows(torch.tensor([0, id]))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("bits", [((8, 8, 1, 0, 3, 8),), ((0,) * 6,), ((0,) * 6, (0, 8, 0, 0, 8, 8)), ((0,) * 6,) * 2])
def test_streams_of_any_length_are_read_row_by_row(bits: tuple[tuple[int, ...], ...], window: int) -> None:
    sizes = (5, 7)[: len(bits)]
    own = {"codec": TRELLIS, "group_size": 1, "window": window, "bits": bits, "row_group_sizes": sizes}
    factors = filled(Layout(sum(sizes), 6, 6, decoder=False, **own)).map(wide)
    expected = torch.empty(sum(sizes), 6)
    tensors = {name: tensor.numpy() for name, tensor in factors.tensors.items()}
    row_groups = tensors.get("latents.row_groups", np.zeros(sum(sizes)))
    for number, streams in enumerate(factors.layout.streams):
        stored = tensors["latents.codes"][streams.start : streams.end].reshape(streams.rows, streams.size)
        flags = np.pad(np.unpackbits(stored, axis=1), ((0, 0), (window, 0)))
        for column, end in enumerate(np.cumsum(bits[number])):
            found = flags[:, end : end + window] @ (1 << np.arange(window)[::-1])
            levels = tensors["latents.levels"][min(1, bits[number][column]), found] * np.float32(1)
            scale, offset = (tensors[f"latents.{name}"][number, column] for name in ("scales", "offsets"))
            expected[torch.from_numpy(np.flatnonzero(row_groups == number)), column] = torch.from_numpy(
                levels * scale + offset
            )
    for rows in (factors.rows(torch.arange(sum(sizes))), factors.table()):
        torch.testing.assert_close(rows, expected)
    for id in (-1, sum(sizes)):
        with pytest.raises((IndexError, RuntimeError)):
            factors.rows(torch.tensor([0, id]))


@pytest.mark.parametrize("kept", [0, KEPT])
@pytest.mark.parametrize("coding", ["one row group", "row groups", "trellis"])
def test_a_graph_gives_the_rows_whichever_are_asked_for(coding: str, kept: int) -> None:
    """Made from two ids, asked for all of them and for one."""
    factors = made(coding, "linear", kept=kept)
    lookup = CompressedEmbedding(factors)
    length = torch.export.Dim("length", min=1)
    example = torch.tensor([VOCAB - 1, 3])
    graph = torch.export.export(lookup, (example,), dynamic_shapes=({0: length},)).module()
    for ids in (torch.arange(VOCAB), torch.tensor([7])):
        torch.testing.assert_close(graph(ids), lookup(ids))


@pytest.mark.slow
@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("kept", [0, KEPT])
@pytest.mark.parametrize("coding", ["one row group", "row groups", "trellis"])
def test_a_graph_gives_the_products_of_any_number_of_states(coding: str, kept: int) -> None:
    """Made from two states, given one."""
    head = CompressedHead(made(coding, "bias", kept=kept))
    states = torch.randn(2, DIM, generator=torch.Generator().manual_seed(1))
    length = torch.export.Dim("length", min=1)
    graph = torch.export.export(head, (states,), dynamic_shapes=({0: length},)).module()
    for given in (states, states[:1]):
        torch.testing.assert_close(graph(given), head(given))


def test_a_table_of_nothing_but_kept_rows_is_a_table() -> None:
    factors = made("plain", "linear", kept=VOCAB)
    torch.testing.assert_close(factors.dense(), factors.tensors["kept.rows"])
    states = torch.randn(2, DIM)
    torch.testing.assert_close(factors.products(states), states @ factors.dense().T)


@pytest.mark.parametrize("coding", ["plain", "one row group", "row groups", "trellis"])
def test_a_row_of_zeros_stays_zero_in_half_precision(coding: str) -> None:
    factors = made(coding, "linear", kept=2)
    zeroed = {
        name: torch.zeros_like(tensor) if tensor.is_floating_point() and name != "decoder.weight" else tensor
        for name, tensor in factors.tensors.items()
    }
    half = factors.with_tensors(zeroed).map(lambda tensor: tensor.half() if tensor.is_floating_point() else tensor)
    assert half.rows(torch.arange(VOCAB)).abs().max() == 0
    assert half.products(torch.ones(DIM).half()).abs().max() == 0


def test_scales_in_float16_beside_wider_floats_are_as_good_as_widened() -> None:
    """As an artifact has them; a model's modules hold one float type."""
    for coding, shape in (("row groups", "linear"), ("trellis", "bias"), ("one row group", "linear")):
        factors = made(coding, shape)
        scales = [name for name in factors.tensors if name.endswith(("scales", "offsets"))]
        mixed = factors.with_tensors(
            {name: tensor.half() if name in scales else tensor for name, tensor in factors.tensors.items()}
        )
        ids = torch.arange(VOCAB)
        assert torch.equal(mixed.rows(ids), mixed.dense())
        states = torch.randn(2, DIM)
        torch.testing.assert_close(CompressedHead(mixed)(states), states @ mixed.dense().T, atol=1e-4, rtol=1e-4)


# -- gradients


def grown(factors: Factors) -> Factors:
    return factors.map(lambda tensor: tensor.clone().requires_grad_() if tensor.is_floating_point() else tensor)


@EVERY
def test_gradients_reach_every_float_through_lookup_and_head(coding: str, shape: str, options: dict[str, Any]) -> None:
    one, other = grown(made(coding, shape, **options)), grown(made(coding, shape, **options))
    states = torch.randn(3, DIM, generator=torch.Generator().manual_seed(1))
    target = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(2))
    (one.products(states) * target).sum().backward()
    ((states @ other.rows(torch.arange(VOCAB)).T) * target).sum().backward()
    for name, tensor in one.tensors.items():
        assert tensor.is_floating_point() == (tensor.grad is not None), name
        if tensor.grad is not None:
            torch.testing.assert_close(tensor.grad, other.tensors[name].grad, atol=1e-3, rtol=1e-3)


@EVERY
def test_what_is_stored_of_the_padding_row_gets_no_gradient(coding: str, shape: str, options: dict[str, Any]) -> None:
    factors = made(coding, shape, **options)
    for padding in {4, int(factors.tensors["kept.ids"][1]) if options["kept"] else 4}:
        lookup = CompressedEmbedding(factors.map(torch.clone), padding_idx=padding)
        lookup(torch.tensor([padding, padding])).sum().backward()
        own = [name for name, _ in lookup.named_parameters() if not name.startswith("decoder")]
        for name in own:
            gradient = lookup.get_parameter(name).grad
            assert gradient is None or gradient.abs().sum() == 0, name
        lookup(torch.arange(VOCAB)).sum().backward()
        assert any((grad := lookup.get_parameter(name).grad) is not None and grad.abs().sum() > 0 for name in own)


@pytest.mark.parametrize(("coding", "shape", "options"), CODED)
def test_codes_and_ids_are_parameters_that_do_not_train(coding: str, shape: str, options: dict[str, Any]) -> None:
    lookup = CompressedEmbedding(made(coding, shape, **options))
    for parameter in lookup.parameters():
        assert parameter.requires_grad == parameter.is_floating_point()
    head = CompressedHead(lookup.factors)
    shared = dict(head.named_parameters())
    assert all(parameter is shared[name] for name, parameter in lookup.named_parameters())
    moved = lookup.to(torch.float64)
    assert {str(parameter.dtype) for parameter in moved.parameters()} <= {"torch.float64", "torch.uint8", "torch.int32"}
    torch.testing.assert_close(moved(torch.arange(VOCAB)).float(), moved.factors.dense(), atol=1e-4, rtol=1e-4)


# -- memory


@pytest.mark.parametrize("coding", ["plain", "one row group", "row groups", "trellis"])
def test_a_tied_head_never_has_the_table(monkeypatch: pytest.MonkeyPatch, coding: str) -> None:
    monkeypatch.setattr(factors_module, "CHUNK", 64)
    vocab = 3000
    factors = made(coding, "linear", vocab=vocab, kept=KEPT)
    with Made() as noted:
        factors.products(torch.randn(2, DIM))
    of_the_latents = vocab * factors.rank if coding == "plain" else 0  # a view
    assert max(noted.floats) <= max(3 * vocab, of_the_latents) < vocab * DIM


@pytest.mark.parametrize("coding", ["plain", "one row group", "row groups", "trellis"])
@pytest.mark.parametrize("shape", ["bare", "linear"])
def test_a_lookup_dequantizes_only_the_rows_it_is_asked_for(coding: str, shape: str) -> None:
    vocab = 3000
    factors = made(coding, shape, vocab=vocab, kept=KEPT)
    lookup = CompressedEmbedding(factors)
    with Made() as noted, torch.no_grad():
        lookup(torch.tensor([[5, 2999], [7, 5]]))
    assert max(noted.floats) < 1000
    assert max(noted.others) <= vocab
