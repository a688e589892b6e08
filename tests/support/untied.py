"""Tiny models with more tables than one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from orientc.demo import corpus
from orientc.evaluation.texts import Text
from orientc.modeling.factors import Factors
from orientc.modeling.swap import keep_apart, module_of, table_of
from orientc.models.source import ModelSource
from orientc.models.tables import tables_of
from support.architectures import ARCHITECTURES, OTHERS, VOCAB, WIDTH, build, inputs_of

ROWS = 10_000  # of Gemma 3n's embeddings for each layer: no fewer are a table
KEPT = 400  # paragraphs that no model is trained on
DECODER_ROWS = 61  # of Marian's decoder, which has a vocabulary of its own
_GEMMA3N: dict[str, Any] = {
    "vocab_size": VOCAB, "vocab_size_per_layer_input": ROWS, "hidden_size": WIDTH, "hidden_size_per_layer_input": 4,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "altup_num_inputs": 2, "laurel_rank": 4, "num_kv_shared_layers": 0, "max_position_embeddings": 64,
    "pad_token_id": 0, "layer_types": ["full_attention", "full_attention"], "activation_sparsity_pattern": [0.0, 0.0],
}  # fmt: skip
_CASES = [*ARCHITECTURES, *OTHERS]
_WITHOUT_HEAD = ("-encoder", "-classifier")
_ALWAYS_TIED = ("t5", "t5-unscaled", "mt5", "umt5")
OWN_HEAD = [name for name in _CASES if name.endswith("-untied")]  # as the architecture is by default, or often
UNTIED = [
    f"{name}-untied"  # which no test elsewhere has
    for name in _CASES
    if not name.endswith(("-untied", "-scaled", *_WITHOUT_HEAD))
    and name not in _ALWAYS_TIED
    and f"{name}-untied" not in OWN_HEAD
]
THREE = [f"{name}-untied" for name in ("bart", "marian", "m2m-100", "mbart", "pegasus")]  # tables, and one unused
SPECIAL = ["mt5-two-tensors", "marian-two-tables", "marian-three-tables", "gemma3n"]


def several(name: str) -> PreTrainedModel:
    """A model whose head has a table of its own, or that has embeddings for each layer; random, but for its kind."""
    torch.manual_seed(0)
    if name == "mt5-two-tensors":  # published so, and the class ties
        model = build("mt5")
        keep_apart(model, ["lm_head.weight"])
        nn.init.normal_(model.lm_head.weight)
        return model
    if name in ("marian-two-tables", "marian-three-tables"):
        arguments = OTHERS["marian"][2] | {"decoder_vocab_size": DECODER_ROWS}
        arguments |= {"tie_word_embeddings": name == "marian-two-tables"}
        arguments |= {"pad_token_id": 60, "decoder_start_token_id": 60, "eos_token_id": 0}
        config = transformers.MarianConfig(**arguments, share_encoder_decoder_embeddings=False)
        return _felt(transformers.MarianMTModel(config))
    if name == "gemma3n":
        return _felt(transformers.Gemma3nForCausalLM(transformers.Gemma3nTextConfig(**_GEMMA3N)))
    return _felt(build(name.removesuffix("-untied"), untied=True)) if name in UNTIED else build(name)


def save_translator(name: str, folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """An encoder-decoder with two tables, "mt5-two-tensors" or "marian-two-tables", saved with its tokenizer.

    Marian's decoder has more rows than its encoder.
    """
    torch.manual_seed(0)
    size, model_class, config_class, arguments = len(tokenizer), *(ARCHITECTURES | OTHERS)[name.partition("-")[0]]
    arguments = arguments | {"vocab_size": size, "pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 4}
    if name == "marian-two-tables":
        arguments |= {"decoder_vocab_size": size + 8, "share_encoder_decoder_embeddings": False}
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**arguments))
    if name == "mt5-two-tensors":
        keep_apart(model, ["lm_head.weight"])
        nn.init.normal_(model.lm_head.weight)
    _felt(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def _felt(model: PreTrainedModel) -> PreTrainedModel:
    """A model of numbers large enough that every table makes a difference to what it computes."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def lossless(model: PreTrainedModel) -> dict[str, Factors]:
    """All tables of a model as compressed tables that lose nothing."""
    return {name: Factors.plain(table_of(module_of(model, name)).detach().clone()) for name in tables_of(model)}


def untie(model: str | Path, folder: Path) -> Path:
    """Save a model with a head whose table is its own, with the lookup's numbers; and its tokenizer."""
    source = ModelSource.resolve(str(model))
    tied = source.load(None, dtype=torch.float32)
    config = tied.config
    config.tie_word_embeddings = False
    apart = type(tied)(config)
    apart.load_state_dict(tied.state_dict())  # under both names
    apart.save_pretrained(folder)
    source.tokenizer.save_pretrained(folder)
    return folder


def save_untied(folder: Path, tokenizer: PreTrainedTokenizerFast, *, width: int = 32, steps: int = 0) -> Path:
    """A causal language model whose head has a table of its own, saved with its tokenizer.

    Untrained unless `steps` are taken; these are on docstrings of the standard library, and nothing of them is random
    but by a seed.
    """
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=2 * width, max_position_embeddings=128, bos_token_id=0, eos_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    if steps:
        _train(model, tokenizer, steps)
    else:
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(8)  # predictions that are not all even
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def word_pieces(size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of docstrings."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(_paragraphs()[KEPT : KEPT + 4000], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>")


def docstrings() -> Text:
    """Text like that which models are trained on, and none of it, for calibration."""
    return Text("docstrings", "\n".join(_paragraphs()[:KEPT]))


@cache
def _paragraphs() -> list[str]:
    return corpus.calibration_paragraphs()


def _train(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, steps: int, length: int = 64) -> None:
    ids = tokenizer("\n".join(_paragraphs()[KEPT:]), add_special_tokens=False, verbose=False)["input_ids"]
    stream, draw = torch.tensor(ids), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(steps):
        starts = torch.randint(0, len(stream) - length, (16,), generator=draw)
        batch = torch.stack([stream[start : start + length] for start in starts.tolist()])
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def outputs(model: PreTrainedModel) -> Tensor:
    """A model's logits on a batch, whose targets are within Marian's own vocabulary."""
    batch = inputs_of(model, padded=False)
    if "decoder_input_ids" in batch:
        batch["decoder_input_ids"] = batch["decoder_input_ids"] % DECODER_ROWS
    with torch.no_grad():
        found: Tensor = model(**batch).logits
    return found
