from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from support.coded import made
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from orientc.modeling.factors import Factors, decode
from orientc.modeling.modules import CompressedEmbedding, CompressedHead, embedding_scale

GENERATOR = torch.Generator().manual_seed(0)
LATENTS, WEIGHT, BIAS = (torch.randn(*shape, generator=GENERATOR) for shape in ((50, 4), (12, 4), (12,)))
EVERY_FORM = [
    Factors.plain(LATENTS),
    Factors.plain(LATENTS, WEIGHT),
    Factors.plain(LATENTS, WEIGHT, BIAS),
    Factors.plain(LATENTS, WEIGHT, BIAS, "elu"),
]


class Made(TorchDispatchMode):
    """Keeps every tensor that is made meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[torch.Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        found = function(*arguments, **(options or {}))
        self.tensors += [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        return found

    def places(self, numel: int) -> set[int]:
        """Where tensors of so many numbers are."""
        return {tensor.data_ptr() for tensor in self.tensors if tensor.numel() == numel}


@pytest.mark.parametrize("factors", EVERY_FORM)
def test_the_lookup_equals_an_embedding_of_the_dense_table(factors: Factors) -> None:
    ids = torch.tensor([[0, 7, 49], [3, 3, 1]])
    dense = nn.Embedding.from_pretrained(factors.dense())
    torch.testing.assert_close(CompressedEmbedding(factors)(ids), dense(ids))
    torch.testing.assert_close(CompressedEmbedding(factors, embed_scale=2.5)(ids), 2.5 * dense(ids))


@pytest.mark.parametrize("factors", EVERY_FORM)
@pytest.mark.parametrize("bias", [None, nn.Parameter(torch.linspace(-1, 1, 50))])
def test_the_head_equals_a_projection_by_the_dense_table(factors: Factors, bias: nn.Parameter | None) -> None:
    hidden = torch.randn(2, 3, factors.dim)
    expected = nn.functional.linear(hidden, factors.dense(), bias)
    torch.testing.assert_close(CompressedHead(factors, bias)(hidden), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("factors", EVERY_FORM[:3])
@pytest.mark.parametrize("bias", [None, nn.Parameter(torch.linspace(-1, 1, 50))])
def test_the_head_makes_one_tensor_of_the_logits_size(factors: Factors, bias: nn.Parameter | None) -> None:
    head, hidden = CompressedHead(factors, bias), torch.randn(30, factors.dim)
    with torch.no_grad(), Made() as made:
        logits = head(hidden)
    assert made.places(logits.numel()) == {logits.data_ptr()}


@pytest.mark.parametrize("factors", EVERY_FORM)
def test_the_heads_gradients_are_those_of_a_projection(factors: Factors) -> None:
    bias = nn.Parameter(torch.linspace(-1, 1, 50))
    head, hidden = CompressedHead(factors, bias), torch.randn(2, 3, factors.dim, requires_grad=True)
    own = {name: parameter.detach().clone().requires_grad_() for name, parameter in head.named_parameters()}
    names = {"latents": "latents", "decoder_weight": "weight", "decoder_bias": "bias"}
    table = decode(**{names[name]: own.get(name) for name in names}, activation=factors.activation)
    states = hidden.detach().clone().requires_grad_()
    aim = torch.randn(2, 3, 50)
    (head(hidden).softmax(-1) * aim).sum().backward()
    (nn.functional.linear(states, table, own["bias"]).softmax(-1) * aim).sum().backward()
    torch.testing.assert_close(hidden.grad, states.grad, atol=1e-5, rtol=1e-4)
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.grad, own[name].grad, atol=1e-5, rtol=1e-4)


def test_under_autocast_the_head_gives_what_a_projection_gives() -> None:
    bias = nn.Parameter(torch.linspace(-1, 1, 50))
    with torch.autocast("cpu", torch.bfloat16):
        logits = CompressedHead(EVERY_FORM[2], bias)(torch.randn(3, 12))
        assert logits.dtype == nn.functional.linear(torch.randn(3, 12), EVERY_FORM[2].dense(), bias).dtype


def test_the_padding_row_gets_no_gradient() -> None:
    lookup = CompressedEmbedding(Factors.plain(LATENTS, WEIGHT), padding_idx=3)
    lookup(torch.tensor([3, 4])).sum().backward()
    assert lookup.latents.grad is not None
    assert lookup.latents.grad[3].abs().sum() == 0
    assert lookup.latents.grad[4].abs().sum() > 0


def test_modules_share_parameters_and_keep_sharing_them_when_moved() -> None:
    lookup = CompressedEmbedding(Factors.plain(LATENTS, WEIGHT, BIAS))
    model = nn.ModuleDict({"lookup": lookup, "head": CompressedHead(lookup.factors)}).to(torch.float64)
    assert len(list(model.parameters())) == 3
    assert model["lookup"].latents is model["head"].latents
    assert model["head"].latents.dtype == torch.float64


def test_codes_are_shared_when_moved_and_neither_cast_nor_trained() -> None:
    lookup = CompressedEmbedding(made("row groups", "linear", kept=4))
    model = nn.ModuleDict({"lookup": lookup, "head": CompressedHead(lookup.factors)})
    whole = {name: tensor for name, tensor in lookup.state_dict().items() if not tensor.is_floating_point()}
    assert {tensor.dtype for tensor in whole.values()} == {torch.uint8, torch.int32}
    model.requires_grad_(True).half().to(torch.bfloat16)
    ours, theirs = (dict(model[name].named_buffers()) for name in ("lookup", "head"))
    assert ours.keys() == theirs.keys() == whole.keys()
    assert all(ours[name] is theirs[name] and torch.equal(ours[name], whole[name]) for name in whole)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    copied = pickle.loads(pickle.dumps(model))
    assert copied["lookup"].latents_0_codes is copied["head"].latents_0_codes


def test_decoding_in_blocks_is_decoding() -> None:
    factors = EVERY_FORM[-1]
    whole = decode(factors.latents, factors.weight, factors.bias, factors.activation)
    torch.testing.assert_close(torch.cat(list(factors.chunks(7))), whole)
    assert factors.numbers == 50 * 4 + 12 * 4 + 12
    assert factors.to(torch.float16).nbytes == 2 * factors.numbers


def test_the_scale_of_an_embedding_is_read_from_it() -> None:
    from transformers.models.bart.modeling_bart import BartScaledWordEmbedding
    from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

    assert embedding_scale(nn.Embedding(3, 4)) == 1.0
    assert embedding_scale(BartScaledWordEmbedding(3, 4, 0, embed_scale=2.0)) == 2.0
    with torch.device("meta"):
        assert embedding_scale(Gemma3TextScaledWordEmbedding(3, 4, 0, embed_scale=3.0)) == 3.0


@pytest.mark.parametrize("value", [torch.zeros(50, 12), nn.Parameter(torch.zeros(50, 12))])
def test_the_weight_is_read_only(value: torch.Tensor) -> None:
    lookup = CompressedEmbedding(EVERY_FORM[2])
    before = lookup.weight
    with pytest.raises(AttributeError, match=r"the weight of a compressed table is decoded .* can't be assigned"):
        lookup.weight = value
    assert torch.equal(lookup.weight, before)
