from __future__ import annotations

import copy

import pytest
import torch
import transformers
from support.architectures import ARCHITECTURES, build, inputs_of, outputs_of, policies
from support.coded import made
from torch import Tensor, nn
from transformers import PreTrainedModel

from orientc.errors import SubstitutionError
from orientc.methods import svd
from orientc.modeling.factors import Factors
from orientc.modeling.modules import CompressedEmbedding, CompressedHead, CompressedTable
from orientc.models.substitute import head_policies, substitute, substituted

CASES = [(name, head) for name in ARCHITECTURES for head in policies(name)]


def factors_of(model: PreTrainedModel, activation: str | None = None) -> Factors:
    fitted = svd.truncated_svd(model.get_input_embeddings().weight.detach(), 5, center=True)
    return Factors.plain(fitted.latents, fitted.weight, fitted.bias, activation)


def coded(coding: str = "trellis") -> Factors:
    """A random table in codes, of GPT-2's size."""
    table = build("gpt2").get_input_embeddings()
    return made(coding, "bias", vocab=table.num_embeddings, dim=table.embedding_dim, kept=4)


def with_dense_table(model: PreTrainedModel, factors: Factors, head: str) -> PreTrainedModel:
    """The same model in its own architecture, the reconstructed table in place of the original."""
    model = copy.deepcopy(model)
    table = model.get_input_embeddings().weight
    if head != "input-only":
        table.data.copy_(factors.dense())
        return model
    dense = nn.Parameter(factors.dense())
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.weight is table:
            module.weight = dense
    return model


def compressed_modules(model: PreTrainedModel) -> dict[str, CompressedTable]:
    return {name: module for name, module in model.named_modules() if isinstance(module, CompressedTable)}


def states(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "head", "activation"), [(*case, (None, "elu")[number % 2]) for number, case in enumerate(CASES)]
)
def test_outputs_equal_those_with_the_reconstructed_dense_table(name: str, head: str, activation: str | None) -> None:
    model = build(name)
    factors = factors_of(model, activation)
    original = outputs_of(model)
    expected = outputs_of(with_dense_table(model, factors, head))
    actual = outputs_of(substitute(model, factors, head))
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    assert (actual - original).abs().max() > 1e-4  # compression was felt at all


@pytest.mark.parametrize(("name", "head"), CASES)
def test_gradients_reach_the_factors_and_equal_those_through_the_dense_table(name: str, head: str) -> None:
    model = build(name)
    factors = factors_of(model)
    through_dense = with_dense_table(model, factors, head)
    weights = torch.linspace(-1, 1, outputs_of(model).shape[-1])
    (outputs_of(through_dense, padded=False) * weights).sum().backward()
    (outputs_of(substitute(model, factors, head), padded=False) * weights).sum().backward()
    gradient = through_dense.get_input_embeddings().weight.grad
    lookup = model.get_input_embeddings()
    # for rows Z·Wᵀ + b with gradient G:  d/dZ = G·W,  d/dW = Gᵀ·Z,  d/db = Σ G
    close = {"atol": 1e-3, "rtol": 1e-3}
    torch.testing.assert_close(lookup.latents.grad, gradient @ factors.weight, **close)
    torch.testing.assert_close(lookup.decoder_weight.grad, gradient.T @ factors.latents, **close)
    torch.testing.assert_close(lookup.decoder_bias.grad, gradient.sum(0), **close)


@pytest.mark.parametrize(("name", "head"), CASES)
def test_nothing_else_changes_and_leaving_the_context_restores_the_model(name: str, head: str) -> None:
    model = build(name)
    before, expected = states(model), outputs_of(model)
    tied = dict(model.all_tied_weights_keys)
    with substituted(model, factors_of(model), head):
        replaced = compressed_modules(model)
        inside = model.state_dict()
        kept = [key for key in inside if not any(key.startswith(f"{prefix}.") for prefix in replaced)]
        assert kept
        assert all(torch.equal(inside[key], before[key]) for key in kept)
        heads = [module for module in replaced.values() if isinstance(module, CompressedHead)]
        assert len(heads) == (1 if head == "tied" else 0)
        assert all(module.latents is next(iter(replaced.values())).latents for module in replaced.values())
    assert not compressed_modules(model)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert model.all_tied_weights_keys == tied
    torch.testing.assert_close(outputs_of(model), expected, atol=0, rtol=0)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_a_policy_that_does_not_fit_the_model_is_refused_and_leaves_it_whole(name: str) -> None:
    model = build(name)
    assert head_policies(model) == policies(name)
    before = states(model)
    for head in {"input-only", "tied", "head-only", "both"} - set(policies(name)):
        with pytest.raises(SubstitutionError, match="head policy"):
            substitute(model, factors_of(model), head)
    assert not compressed_modules(model)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_tying_again_and_training_a_step_keep_the_model_working(name: str) -> None:
    model = build(name)
    head = head_policies(model)[-1]
    factors = factors_of(model)
    latents = factors.latents.clone()
    expected = outputs_of(substitute(model, factors, head))
    model.tie_weights()
    torch.testing.assert_close(outputs_of(model), expected, atol=0, rtol=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    outputs_of(model).square().mean().backward()
    optimizer.step()
    shared = {id(module.latents) for module in compressed_modules(model).values()}
    assert len(shared) == 1
    assert torch.equal(factors.latents, latents)  # the artifact's own tensors are not the model's
    assert (outputs_of(model) - expected).abs().max() > 0


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_a_substituted_model_generates_as_with_the_dense_table(name: str) -> None:
    model = build(name)
    factors = factors_of(model)
    dense = with_dense_table(model, factors, "tied")
    prompt = {"input_ids": torch.tensor([[5, 6, 7]]), "max_new_tokens": 8, "do_sample": False}
    expected = dense.generate(**prompt)
    assert torch.equal(substitute(model, factors, "tied").generate(**prompt), expected)


def test_the_bias_of_a_masked_lm_head_survives_and_stays_tied() -> None:
    model = build("bert")
    bias = model.cls.predictions.bias
    substitute(model, factors_of(model), "tied")
    model.tie_weights()
    assert model.cls.predictions.decoder.bias is bias
    assert bias.abs().max() > 0


def test_scale_and_padding_of_the_lookup_are_kept() -> None:
    gemma = build("gemma3")
    lookup = substitute(gemma, factors_of(gemma), "tied").get_input_embeddings()
    assert isinstance(lookup, CompressedEmbedding)
    assert lookup.embed_scale == pytest.approx(32**0.5)
    assert lookup.padding_idx == 0
    bart = build("bart-scaled")
    substitute(bart, factors_of(bart), "tied")
    assert bart.model.encoder.embed_tokens.embed_scale == pytest.approx(32**0.5)


def test_new_modules_take_the_tables_dtype() -> None:
    model = build("llama").to(torch.bfloat16)
    substitute(model, factors_of(model), "tied")
    assert model.get_input_embeddings().latents.dtype == torch.bfloat16
    assert outputs_of(model).dtype == torch.bfloat16


@pytest.mark.parametrize("head", ["input-only", "tied"])
def test_a_head_that_reads_the_tables_weight_is_refused(head: str) -> None:
    config = transformers.DebertaV2Config(
        vocab_size=97, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, legacy=False
    )
    model = transformers.DebertaV2ForMaskedLM(config).eval()
    with pytest.raises(SubstitutionError, match="legacy=False"):
        substitute(model, factors_of(model), head)
    model(input_ids=torch.arange(5, 10)[None])  # still whole


def test_another_models_shape_is_refused() -> None:
    model = build("bert")
    with pytest.raises(SubstitutionError, match="97 × 16"):
        substitute(model, svd.truncated_svd(torch.randn(97, 16), 3), "tied")


def test_an_embedding_that_does_more_than_look_up_is_refused() -> None:
    class Odd(nn.Embedding):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).tanh()

    model = build("bert")
    odd = Odd(97, 32)
    odd.weight = model.get_input_embeddings().weight
    model.set_input_embeddings(odd)
    with pytest.raises(SubstitutionError, match="Odd"):
        substitute(model, factors_of(model), "tied")


def test_the_linear_tied_head_and_lookup_never_build_the_dense_table() -> None:
    """Peak memory of a pass: far below one dense table of 200 000 × 512 floats (410 MB)."""
    latents, weight = torch.randn(200_000, 4), torch.randn(512, 4)
    factors = Factors.plain(latents, weight, torch.randn(512))
    lookup, head = CompressedEmbedding(factors), CompressedHead(factors)
    with torch.profiler.profile(profile_memory=True) as profile, torch.no_grad():
        head(lookup(torch.tensor([[1, 2, 3]])))
    largest = max(abs(event.cpu_memory_usage) for event in profile.events())
    assert largest < 200_000 * 512 * 4 / 20


def test_inputs_reach_the_padding_row() -> None:
    """The architectures' batch holds the padding index, so its row is looked up in every test above."""
    model = build("roberta")
    assert (inputs_of(model)["input_ids"] == model.config.pad_token_id).any()


def test_a_compressed_table_is_not_resized() -> None:
    model = copy.deepcopy(substitute(build("gpt2"), coded(), "tied"))
    for request in ({"new_num_tokens": 98}, {"pad_to_multiple_of": 64}):
        with pytest.raises(NotImplementedError, match=r"^a compressed table can't be resized: resize the original"):
            model.resize_token_embeddings(**request)
    assert model.resize_token_embeddings() is model.resize_token_embeddings(97) is model.get_input_embeddings()


# -- in which form a head runs


@pytest.mark.parametrize("resident", ["int8", "dense"])
def test_a_model_runs_with_its_head_in_any_form_and_saves_its_codes(resident: str) -> None:
    models = [substitute(build("gpt2"), coded(), "tied", resident=form) for form in ("codes", resident)]
    torch.testing.assert_close(*(outputs_of(model).detach() for model in models), atol=1e-4, rtol=1e-4)
    (head,) = [module for module in compressed_modules(models[1]).values() if isinstance(module, CompressedHead)]
    assert head.resident.form.name == resident
    ours, theirs = (states(model) for model in models)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("coding", "resident", "message"),
    [
        ("row groups", "int8", "no scales by column"),
        ("plain", "int8", "no codes"),
        ("trellis", "int4", "codes, int8"),
    ],
)
def test_a_form_that_a_head_can_not_have_is_refused(coding: str, resident: str, message: str) -> None:
    model = build("gpt2")
    before = outputs_of(model)
    with pytest.raises(SubstitutionError, match=message):
        substitute(model, coded(coding), "tied", resident=resident)
    assert torch.equal(outputs_of(model), before)
