"""A causal protocol is for models that don't see what they predict; their names don't say whether they do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.architectures import build
from support.data import SENTENCES
from transformers import PreTrainedTokenizerFast

from orientc.calibration.calibrate import calibrate
from orientc.compression.svd import svd
from orientc.distillation.tune import tune
from orientc.errors import EvaluationError
from orientc.evaluation.causal_lm import sees_later_tokens
from orientc.evaluation.perplexity import perplexity
from orientc.evaluation.texts import Text

TEXT = Text("text", "\n".join(SENTENCES * 4))
DECODERS = ["BertLMHeadModel", "RobertaForCausalLM", "ElectraForCausalLM", "MegatronBertForCausalLM"]


def decoder(name: str, **config: Any) -> Any:
    """A random model of a class that is causal by its configuration alone."""
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return kind(kind.config_class(**{"vocab_size": 97, "max_position_embeddings": 64} | sizes | config)).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["xlnet", "xlm", "flaubert"])
def test_architectures_that_see_all_tokens_are_found(name: str, dtype: torch.dtype) -> None:
    assert sees_later_tokens(build(name).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "opt", "bloom", "mamba2-untied", "qwen2-moe-untied"])
def test_causal_architectures_pass(name: str, dtype: torch.dtype) -> None:
    assert not sees_later_tokens(build(name).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", DECODERS)
def test_the_same_class_is_one_or_the_other_by_its_configuration(name: str, dtype: torch.dtype) -> None:
    assert sees_later_tokens(decoder(name, is_decoder=False).to(dtype))
    assert not sees_later_tokens(decoder(name, is_decoder=True).to(dtype))


def test_no_command_gives_causal_figures_of_a_model_that_sees_later_tokens(
    tmp_path: Path, wordpiece: PreTrainedTokenizerFast
) -> None:
    for is_decoder in (False, True):
        folder = tmp_path / f"bert-{is_decoder}"
        decoder("BertLMHeadModel", vocab_size=len(wordpiece), is_decoder=is_decoder).save_pretrained(folder)
        wordpiece.save_pretrained(folder)
    seeing, causal = str(tmp_path / "bert-False"), str(tmp_path / "bert-True")
    made = svd(seeing, rank=4, device="cpu", out=tmp_path / "a.safetensors")
    refused = pytest.raises(EvaluationError, match="sees the tokens that it is to predict")
    with refused:
        perplexity(seeing, text=TEXT, device="cpu", out=tmp_path)
    with refused:
        calibrate(seeing, text=TEXT, tokens=256, device="cpu", out=tmp_path)
    with refused:
        tune(made.path, text=TEXT, steps=1, device="cpu", out=tmp_path / "tuned.safetensors")
    shutil.rmtree(seeing)
    assert perplexity(causal, text=TEXT, device="cpu", out=tmp_path).protocol == "causal"
