"""TRL: supervised fine-tuning of a model whose table is in codes, with LoRA and in full."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from support.data import SENTENCES

trl = pytest.importorskip("trl")
peft = pytest.importorskip("peft")
datasets = pytest.importorskip("datasets")


@pytest.mark.parametrize("lora", [True, False])
def test_it_is_fine_tuned_saved_and_loaded(coded_decoder: Path, tmp_path: Path, lora: bool) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(coded_decoder, trust_remote_code=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(coded_decoder, trust_remote_code=False)
    tokenizer.pad_token = tokenizer.eos_token
    config = trl.SFTConfig(
        str(tmp_path / "out"), max_steps=12, per_device_train_batch_size=4, learning_rate=1e-2, report_to=[],
        use_cpu=True, bf16=False, max_length=32, logging_steps=4,
    )  # fmt: skip
    adapter = peft.LoraConfig(target_modules=["c_attn"], task_type="CAUSAL_LM") if lora else None
    data = datasets.Dataset.from_dict({"text": SENTENCES * 4})
    trainer = trl.SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer, peft_config=adapter)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    ids = torch.arange(5, 25).reshape(2, 10)
    trainer.save_model(str(tmp_path / "saved"))
    if lora:
        base = transformers.AutoModelForCausalLM.from_pretrained(coded_decoder, trust_remote_code=True)
        again = peft.PeftModel.from_pretrained(base, tmp_path / "saved")
    else:
        again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved", trust_remote_code=True)
    with torch.no_grad():
        expected = trainer.model.eval()(input_ids=ids).logits
        torch.testing.assert_close(again.eval()(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
