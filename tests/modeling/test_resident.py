from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.coded import DIM, KEPT, RANK, VOCAB, layout, made
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from orientc.modeling import factors as factors_module
from orientc.modeling import resident as resident_module
from orientc.modeling.factors import FEW, Factors
from orientc.modeling.modules import CompressedEmbedding, CompressedHead
from orientc.modeling.resident import FORMS, ResidentTable, resident_form

COLUMNS = "trellis"  # the coding whose scales go by columns
LINEAR = [(shape, kept) for shape in ("bare", "linear", "bias") for kept in (0, KEPT)]


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (factors_module, resident_module):
        monkeypatch.setattr(module, "CHUNK", 5)


class Made(TorchDispatchMode):
    """Notes what matrices are multiplied meanwhile, and how many numbers the largest tensor of floats has."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Tensor] = []
        self.largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        found = function(*arguments, **(options or {}))
        tensors = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]
        if str(function).startswith(("aten.mm", "aten.addmm", "aten.mv", "aten.bmm")):
            self.products += tensors
        floats = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        self.largest = max([self.largest, *(leaf.numel() for leaf in floats)])
        return found


def head_of(factors: Factors, form: str = "codes") -> CompressedHead:
    own = factors.map(lambda tensor: tensor.clone())
    return CompressedHead(own, form=resident_form(form, factors.layout))


def table_of(factors: Factors, dtype: torch.dtype) -> Factors:
    return factors.map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


@pytest.mark.parametrize("form", ["int8", "dense"])
@pytest.mark.parametrize(("shape", "kept"), LINEAR)
def test_logits_are_those_of_the_codes(form: str, shape: str, kept: int) -> None:
    factors = made(COLUMNS, shape, kept=kept)
    states = torch.randn(2, 3, DIM)
    expected = head_of(factors)(states).detach()
    head = head_of(factors, form)
    with torch.no_grad():
        found = head(states)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
    torch.testing.assert_close(head(states), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["int8", "dense"])
def test_in_a_half_type_predictions_are_those_of_the_codes(form: str, dtype: torch.dtype) -> None:
    factors = table_of(made(COLUMNS, "linear", kept=KEPT), dtype)
    states = (0.3 * torch.randn(FEW + 1, DIM)).to(dtype)
    with torch.no_grad():
        logits = head_of(factors, form)(states)
        assert logits.dtype == dtype
        codes = head_of(factors)(states)
        few = [head_of(factors, name)(states[:FEW]) for name in ("codes", "int8")]
        assert (few[0] == few[1]).float().mean() > 0.95  # what is rounded is the logits alone
    ours, theirs = (entry.double().log_softmax(-1) for entry in (logits, codes))
    assert float((theirs.exp() * (theirs - ours)).sum(-1).mean()) < 1e-4


def test_a_head_in_int8_makes_no_table_of_floats() -> None:
    head, states = head_of(made(COLUMNS, "linear"), "int8"), torch.randn(1, DIM)
    with torch.no_grad(), Made() as first:
        head(states)
    with torch.no_grad(), Made() as made_then:
        head(states)
    # five rows at a time, the logits, and the decoder, which is whole numbers as well
    assert max(first.largest, made_then.largest) <= max(5 * DIM, VOCAB, DIM * RANK) < VOCAB * RANK


@pytest.mark.parametrize("coding", ["trellis", "row groups", "one row group"])
@pytest.mark.parametrize("kept", [0, KEPT])
def test_float16_in_codes_is_multiplied_in_float32_on_a_cpu(coding: str, kept: int) -> None:
    """Its product with a weight that is not row-major takes thirty times as long there."""
    factors = table_of(made(coding, "bias", kept=kept), torch.float16)
    states = torch.randn(3, DIM).half()
    with Made() as meanwhile:
        logits = head_of(factors)(states)
    assert {tensor.dtype for tensor in meanwhile.products} == {torch.float32}
    exact = torch.nn.functional.linear(states.float(), factors.dense())
    torch.testing.assert_close(logits, exact.half(), atol=2e-2, rtol=2e-3)


# -- training


@pytest.mark.parametrize("form", ["int8", "dense"])
@pytest.mark.parametrize(("shape", "kept"), LINEAR)
def test_gradients_are_those_of_the_codes(form: str, shape: str, kept: int) -> None:
    factors = made(COLUMNS, shape, kept=kept)
    states, aim = torch.randn(3, DIM), torch.randn(3, VOCAB)
    found = []
    for head in (head_of(factors), head_of(factors, form)):
        own = states.clone().requires_grad_()
        (head(own).softmax(-1) * aim).sum().backward()
        found.append([own.grad, *(parameter.grad for parameter in head.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("form", ["int8", "dense"])
def test_a_frozen_head_passes_gradients_on(form: str) -> None:
    factors = made(COLUMNS, "linear", kept=KEPT)
    head, states = head_of(factors, form).requires_grad_(False), torch.randn(3, DIM, requires_grad=True)
    head(states).sum().backward()
    torch.testing.assert_close(states.grad, factors.dense().sum(0).expand(3, -1), atol=1e-4, rtol=1e-4)


def _other_codes(head: CompressedHead) -> None:
    head.load_state_dict(head.state_dict() | {"latents_codes": head.latents_codes.flip(0)})


def _other_scales(head: CompressedHead) -> None:
    with torch.no_grad():
        head.latents_scales.mul_(2)


def _averaged(head: CompressedHead) -> None:
    """As averages of weights are kept: no version is counted."""
    for parameter in head.parameters():
        parameter.data.mul_(0.5)


def _new_tensor(head: CompressedHead) -> None:
    head.latents_codes = head.latents_codes.flip(0)


@pytest.mark.parametrize("form", ["int8", "dense"])
@pytest.mark.parametrize(
    "change", [_other_codes, _other_scales, _averaged, _new_tensor, lambda head: head.to(torch.float64)]
)
def test_what_changes_in_the_table_changes_the_logits(form: str, change: Callable[[CompressedHead], object]) -> None:
    heads = [head_of(made(COLUMNS, "linear", kept=KEPT), name) for name in ("codes", form)]
    states = torch.randn(3, DIM)
    with torch.no_grad():
        before = heads[1](states)
        for head in heads:
            change(head)
        codes, ours = (head(states.to(head.latents_scales.dtype)) for head in heads)
    torch.testing.assert_close(ours, codes, atol=1e-5, rtol=1e-5)
    assert ours.dtype != before.dtype or not torch.allclose(ours, before)


# -- what is kept


@pytest.mark.parametrize("form", ["int8", "dense"])
def test_what_is_saved_and_copied_is_the_table_alone(form: str) -> None:
    head, plain = head_of(made(COLUMNS, "linear"), form), head_of(made(COLUMNS, "linear"))
    before = pickle.dumps(head)
    with torch.no_grad():
        logits = head(torch.ones(1, DIM))
    assert head.state_dict().keys() == plain.state_dict().keys()
    assert len(pickle.dumps(head)) == len(before)
    with torch.no_grad():
        assert torch.equal(pickle.loads(before)(torch.ones(1, DIM)), logits)


def test_a_form_is_made_once() -> None:
    table, factors = ResidentTable(FORMS["int8"]), made(COLUMNS, "linear")
    held = table.table(factors)
    assert table.table(factors) is held
    table.drop()
    assert table.table(factors) is not held


@pytest.mark.parametrize(
    ("coding", "shape", "message"),
    [
        ("plain", "linear", "the latents are no codes"),
        ("row groups", "linear", r"the codes \(per-group\) have no scales by column"),
        (COLUMNS, "elu", "an activation follows the decoder"),
    ],
)
def test_int8_is_refused_where_scales_can_not_be_folded(coding: str, shape: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"as int8: {message}; choose codes or dense"):
        resident_form("int8", layout(coding, shape))
    assert resident_form("dense", layout(coding, shape)).name == "dense"


@pytest.mark.parametrize("name", ["int4", "", None, 8])
def test_other_forms_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="resident as codes, int8, dense, not as"):
        resident_form(name, layout(COLUMNS, "linear"))


# -- the weight


@pytest.mark.parametrize("coding", ["plain", "row groups", "trellis"])
@pytest.mark.parametrize("kept", [0, KEPT])
@pytest.mark.parametrize("kind", [CompressedEmbedding, CompressedHead])
def test_the_weight_is_the_table_decoded(coding: str, kept: int, kind: Any) -> None:
    module = kind(made(coding, "bias", kept=kept))
    torch.testing.assert_close(module.weight, module.factors.dense())
    assert module.half().weight.dtype == torch.float16
    assert (module.to("meta").weight.shape, module.weight.device.type) == ((VOCAB, DIM), "meta")
    assert not any("weight" in {*name.split(".")} for name in module.state_dict())


def test_a_gradient_of_the_weight_reaches_what_trains() -> None:
    modules = [CompressedHead(made(COLUMNS, "linear", kept=KEPT).map(torch.clone)) for _ in range(2)]
    states = torch.randn(3, DIM)
    modules[0](states).sigmoid().sum().backward()
    torch.nn.functional.linear(states, modules[1].weight).sigmoid().sum().backward()
    for one, other in zip(*(module.parameters() for module in modules), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("value", [torch.ones(VOCAB, DIM), torch.nn.Parameter(torch.ones(VOCAB, DIM))])
def test_the_weight_can_not_be_assigned(value: Tensor) -> None:
    with pytest.raises((AttributeError, KeyError), match="weight"):
        CompressedHead(made(COLUMNS, "linear")).weight = value
