"""Tokenizers and models of a few thousand parameters."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from support.data import SENTENCES


def wordpiece() -> PreTrainedTokenizerFast:
    """An uncased WordPiece tokenizer in BERT's form: long words in two pieces, unknown ones in letters.

    Its 120 tokens are put together by hand: the library's trainer orders pieces anew in every process.
    """
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for sentence in SENTENCES for word in sentence.lower().split()})
    letters = sorted(set("".join(words)))
    whole = [word for word in words if 1 < len(word) < 6]
    halves = [
        piece for word in words if len(word) > 5 for piece in (word[: len(word) // 2], f"##{word[len(word) // 2 :]}")
    ]
    pieces = [*specials, *letters, *(f"##{letter}" for letter in letters), *whole, *halves]
    pieces += [f"[unused{number}]" for number in range(120 - len(pieces))]
    tokenizer = Tokenizer(models.WordPiece({piece: id for id, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def bytes_bpe() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in GPT-2's form, with a BOS token it does not add by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>")


def save_bert(folder: Path, wordpiece: PreTrainedTokenizerFast, width: int = 32) -> None:
    """A tied masked language model of a few thousand parameters, saved with its tokenizer."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(wordpiece),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=64,
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    wordpiece.save_pretrained(folder)


def save_gpt2(folder: Path, bytes_bpe: PreTrainedTokenizerFast) -> None:
    """A tied causal language model of a few thousand parameters, saved with its tokenizer."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(bytes_bpe), n_embd=32, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    bytes_bpe.save_pretrained(folder)


def save_t5(folder: Path, wordpiece: PreTrainedTokenizerFast) -> None:
    """A tied encoder-decoder of a few thousand parameters, saved with its tokenizer, which ends a text with [SEP]."""
    torch.manual_seed(0)
    tokenizer = copy.deepcopy(wordpiece)
    end = ("[SEP]", wordpiece.convert_tokens_to_ids("[SEP]"))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[end])
    tokenizer.eos_token = "[SEP]"
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=1,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=end[1],
        decoder_start_token_id=0,
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def cut_table(folder: Path, copy: Path, rows: int) -> Path:
    """Copy a folder whose model then has a table of `rows` rows, and a tokenizer that may know more tokens."""
    shutil.copytree(folder, copy)
    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, config.architectures[0]).from_pretrained(folder)
    model.resize_token_embeddings(rows)
    model.save_pretrained(copy)
    return copy
