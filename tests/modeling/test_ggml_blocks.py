from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from orientc.methods.ggml_packing import as_blocks
from orientc.modeling.factors import Factors
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.modeling.layout import GGML, Layout
from orientc.modeling.modules import CompressedEmbedding, CompressedHead

EVERY = pytest.mark.parametrize("block", BLOCK_TYPES)
ROWS, WIDTH = 7, 512


def random(block: str, rows: int = ROWS) -> Factors:
    """A table of random bytes in blocks; scales in float16, as an artifact has them."""
    generator = torch.Generator().manual_seed(0)
    layout = Layout(rows, WIDTH, WIDTH, decoder=False, codec=GGML, block=block)
    layout.check()
    tensors: dict[str, Tensor] = {
        "latents.codes": torch.randint(256, layout.shapes["latents.codes"][1], generator=generator, dtype=torch.uint8),
        "latents.scales": torch.randn(layout.shapes["latents.scales"][1], generator=generator).half(),
    }
    return Factors(layout, tensors)


def by_gguf(factors: Factors) -> Tensor:
    """The table as gguf-py reads its blocks."""
    gguf: Any = pytest.importorskip("gguf")
    blocks = as_blocks(
        BLOCK_TYPES[factors.layout.block], factors.tensors["latents.codes"], factors.tensors["latents.scales"]
    )
    kind = gguf.GGMLQuantizationType[factors.layout.block]
    return torch.from_numpy(gguf.dequantize(blocks.numpy(), kind))


@EVERY
def test_blocks_are_read_as_gguf_reads_them(block: str) -> None:
    factors = random(block)
    assert torch.equal(factors.dense(), by_gguf(factors))


@EVERY
def test_blocks_take_the_bytes_that_gguf_says(block: str) -> None:
    gguf: Any = pytest.importorskip("gguf")
    kind = BLOCK_TYPES[block]
    assert (kind.width, kind.nbytes) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[block]]
    assert random(block).nbytes == ROWS * WIDTH // kind.width * kind.nbytes


@EVERY
def test_lookup_and_head_run_from_blocks(block: str) -> None:
    factors = random(block)
    wide = factors.map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)
    dense, lookup = factors.dense(), CompressedEmbedding(wide)
    ids = torch.tensor([[6, 0], [3, 3]])
    assert torch.equal(lookup(ids), dense[ids])
    states = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1)) / WIDTH
    head = CompressedHead(lookup.factors)
    torch.testing.assert_close(head(states), states @ dense.T, rtol=1e-4, atol=1e-2)
    (head(states).square().sum() + lookup(ids).square().sum()).backward()
    scales = lookup.get_parameter("latents_scales")
    assert scales.grad is not None
    assert scales.grad.abs().sum() > 0


@pytest.mark.parametrize("id", [-1, ROWS])
def test_ids_that_the_table_does_not_have_are_refused(id: int) -> None:
    with pytest.raises((IndexError, RuntimeError)):
        random("Q4_0").rows(torch.tensor([id]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"block": "Q9_9"}, "Q9_9"),
        ({"block": ""}, "blocks are of type"),
        ({"block": "Q4_K", "rank": 288, "dim": 288}, "no whole number of blocks of 256"),
        ({"group_size": 32}, "in groups at once"),
        ({"codec": "plain"}, "blocks at once"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(changes: dict[str, Any], said: str) -> None:
    values: dict[str, Any] = {"vocab": 3, "dim": 64, "rank": 64, "decoder": False, "codec": GGML, "block": "Q4_0"}
    with pytest.raises(ValueError, match=said):
        Layout.from_dict(values | changes)
