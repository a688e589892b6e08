"""Quantized bodies: kept as they are, dequantized with a word, or refused; never taken for what they are not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support import quantized
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from orientc.errors import ModelError
from orientc.models import compact
from orientc.models.source import ModelSource

IDS = torch.arange(3, 21)[None]


@pytest.fixture
def plain(tmp_path: Path, bytes_bpe: PreTrainedTokenizerFast) -> Path:
    return quantized.llama(tmp_path / "plain", bytes_bpe)


def loaded(model: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return ModelSource.resolve(model).load(None, dtype=dtype)


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    return model(IDS).logits.float()


def refusal(model: Path) -> str:
    with pytest.raises(ModelError) as raised:
        loaded(model)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fp8_is_dequantized_in_one_type_whatever_the_machine(
    dtype: torch.dtype, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = loaded(plain)
    found = {}
    for gpu in (False, True):  # with one, transformers would keep the codes
        monkeypatch.setattr("torch.cuda.is_available", lambda gpu=gpu: gpu)
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
        folder = quantized.fp8(quantized.llama(plain.with_name(f"fp8-{gpu}"), ModelSource.resolve(plain).tokenizer))
        found[gpu] = loaded(folder, dtype)
        assert ModelSource.resolve(folder).dequantized_from == "fp8"
        assert {parameter.dtype for parameter in found[gpu].parameters()} == {dtype}
    assert torch.equal(logits(found[False]), logits(found[True]))
    weights = [model.model.layers[0].mlp.up_proj.weight.float() for model in (found[False], expected)]
    assert 0 < (weights[0] - weights[1]).abs().max() < 2**-4 * weights[1].abs().max()


def test_what_is_saved_of_a_dequantized_body_is_the_floats_it_became(plain: Path, tmp_path: Path) -> None:
    """transformers would quantize it again, and not say so in the configuration."""
    model = loaded(quantized.fp8(plain))
    compact.save(model, tmp_path / "saved", "tied")
    again, info = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(info.values()), info
    assert torch.equal(logits(again), logits(model))
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())


def test_a_body_that_needs_no_dequantizing_is_kept(plain: Path) -> None:
    source = ModelSource.resolve(quantized.bitnet(plain))
    assert source.dequantized_from is None
    weight = source.load(None, dtype=torch.float32).model.layers[0].mlp.up_proj.weight
    assert (weight.dtype, *weight.shape) == (torch.uint8, 16, 32)


@pytest.mark.parametrize(("kind", "said"), [("Q8_0", "Q8_0"), ("F32", None), ("F16", None)])
def test_a_gguf_body_is_dequantized_whatever_is_installed(
    kind: str, said: str | None, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    path = quantized.gguf_file(plain, tmp_path / "model.gguf", kind)
    asked: list[bool] = []
    before = transformers.GgufConfig.__init__

    def noted(self: Any, gguf_file: str | None = None, dequantize: bool = False, **options: Any) -> None:
        asked.append(dequantize)  # without it, the package kernels decides
        before(self, gguf_file, dequantize, **options)

    monkeypatch.setattr(transformers.GgufConfig, "__init__", noted)
    model = loaded(path)
    assert asked == [True]
    assert ModelSource.resolve(path).dequantized_from == said
    assert {type(module).__name__ for module in model.model.layers[0].mlp.children()} >= {"Linear"}
    expected = load_file(plain / "model.safetensors")["model.layers.0.mlp.up_proj.weight"].float()
    assert (model.model.layers[0].mlp.up_proj.weight - expected).abs().max() <= 2**-7 * expected.abs().max()


# -- refused


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("gptq", "optimum"),
        ("awq", "gptqmodel"),
        ("bitsandbytes", "bitsandbytes"),
        ("compressed-tensors", "compressed_tensors"),
        ("torchao", "torchao"),
        ("hqq", "hqq"),
    ],
)
def test_a_package_that_is_not_installed_is_one_line(method: str, package: str, plain: Path) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    quantized.declare(plain, {"quant_method": method, "bits": 4, "load_in_4bit": method == "bitsandbytes"})
    told = refusal(plain)
    assert told.startswith(f"{plain}, which is quantized ({method}), can't be loaded: it needs ")
    assert package.replace("_", "-") in told.partition("pip install ")[2].split()


@pytest.mark.parametrize("values", [{"quant_method": "own"}, {"bits": 4}, {}])
def test_a_method_that_nobody_knows_is_refused(values: dict[str, Any], plain: Path) -> None:
    """transformers would pass it over, and take the codes for weights."""
    quantized.declare(quantized.fp8(plain), values)
    assert "in a way that this version of transformers does not know" in refusal(plain)


@pytest.mark.parametrize("make", [quantized.fp8, quantized.bitnet])
@pytest.mark.parametrize("pickled", [False, True])
def test_codes_of_which_the_configuration_says_nothing_are_refused(make: Any, pickled: bool, plain: Path) -> None:
    quantized.declare(make(plain), None)
    if make is quantized.bitnet:  # of the shape that a plain model has
        state = load_file(plain / "model.safetensors")
        wide = {key: tensor.repeat(4, 1) if "_proj.weight" in key and tensor.dim() == 2 else tensor
                for key, tensor in state.items()}  # fmt: skip
        save_file(wide, plain / "model.safetensors", metadata={"format": "pt"})
    if pickled:
        torch.save(load_file(plain / "model.safetensors"), plain / "pytorch_model.bin")
        (plain / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"proj.weight holds codes\), but its config.json does not say how"):
        ModelSource.resolve(plain, allow_pickle=pickled).load(None, dtype=torch.float32)
