"""PEFT: adapters on a model whose table is in codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

peft = pytest.importorskip("peft")

IDS = torch.arange(5, 25).reshape(2, 10)


def load(folder: Path, auto: str = "AutoModelForCausalLM") -> transformers.PreTrainedModel:
    return getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True)


def steps(model: torch.nn.Module, count: int = 3) -> list[float]:
    """A few steps of training on one batch; returns the losses."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=1e-2), []
    for _ in range(count):
        loss = model(input_ids=IDS, labels=IDS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model.eval()(input_ids=IDS).logits


def test_lora_learns_is_saved_and_merges(coded_decoder: Path, tmp_path: Path) -> None:
    model = peft.get_peft_model(load(coded_decoder), peft.LoraConfig(target_modules=["c_attn"], task_type="CAUSAL_LM"))
    losses = steps(model)
    assert losses[-1] < losses[0]
    expected = logits(model)
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(load(coded_decoder), tmp_path / "adapter")
    torch.testing.assert_close(logits(again), expected)
    merged = again.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(load(tmp_path / "merged")), logits(merged))


@pytest.mark.parametrize("kept", [["lm_head"], ["wte"]])
def test_a_module_saved_whole_is_the_compressed_one(coded_decoder: Path, tmp_path: Path, kept: list[str]) -> None:
    config = peft.LoraConfig(target_modules=["c_attn"], task_type="CAUSAL_LM", modules_to_save=kept)
    model = peft.get_peft_model(load(coded_decoder), config)
    losses = steps(model)
    assert losses[-1] < losses[0]
    expected = logits(model)
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(load(coded_decoder), tmp_path / "adapter")
    torch.testing.assert_close(logits(again), expected)


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_prompts_and_prefixes_are_tuned(coded_decoder: Path, kind: str) -> None:
    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = peft.get_peft_model(load(coded_decoder), config)
    losses = steps(model, 6)
    assert losses[-1] < losses[0]
