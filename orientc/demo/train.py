"""How the demo model was made: `python -m orientc.demo.train --help`.

A small BERT is trained as a masked language model on docstrings (see `corpus.py`), masked by the very
protocol it is scored with. The last checkpoint is kept whatever its score: the curve beside the model is
for looking at, nothing is selected by it.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from orientc.demo.corpus import digest, evaluation_paragraphs, training_paragraphs
from orientc.evaluation.masked_lm import Line, WholeWordMasker, select
from orientc.evaluation.scoring import Example, collate, losses_of
from orientc.evaluation.side_by_side import SideBySide
from orientc.storage.records import ORIGINAL

VOCAB = 11_264
MAX_IDS = 128
SPECIALS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """An uncased WordPiece tokenizer in BERT's form."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIALS["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=list(SPECIALS.values()))
    )
    cls, sep = SPECIALS["cls"], SPECIALS["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_IDS,
        **{f"{role}_token": token for role, token in SPECIALS.items()},
    )


def new_model(seed: int) -> BertForMaskedLM:
    """3.6 million parameters, 2.2 of them in the table."""
    set_seed(seed)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCAB,
            hidden_size=192,
            num_hidden_layers=3,
            num_attention_heads=3,
            intermediate_size=768,
            max_position_embeddings=MAX_IDS,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


class Lines(Dataset[tuple[Line, int]]):
    """Tokenized paragraphs; an item says how often it was drawn before, so that masks differ each time."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self.draws: collections.Counter[int] = collections.Counter()

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> tuple[Line, int]:
        self.draws[index] += 1
        return self.lines[index], self.draws[index]


class MaskedTrainer(Trainer):
    """Transformers' trainer with logits at masked positions only, and batches of lines of like length."""

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any
    ) -> Tensor:
        """Mean cross-entropy over the batch's masked tokens."""
        return losses_of(model, inputs).mean()

    def _get_train_sampler(self, train_dataset: Lines | None = None) -> LengthGroupedSampler:
        assert isinstance(self.train_dataset, Lines)
        lengths = [len(line.ids) for line in self.train_dataset.lines]
        return LengthGroupedSampler(self.args.per_device_train_batch_size, lengths=lengths)


class Curve(TrainerCallback):
    """Held-out perplexity every so many steps."""

    def __init__(self, held_out: list[Example], every: int) -> None:
        self.held_out, self.every, self.points = held_out, every, list[dict[str, float]]()
        self.start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score, remember, print."""
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            model = kwargs["model"]
            result = SideBySide(model, self.held_out, tokens=8192, pad_id=0).score()[ORIGINAL]
            model.train()
            self.points.append(
                {
                    "step": state.global_step,
                    "perplexity": round(result.perplexity, 2),
                    "minutes": round((time.perf_counter() - self.start) / 60, 1),
                }
            )
            print(json.dumps(self.points[-1]), flush=True)  # noqa: T201


def unigram_perplexity(lines: list[Line], held_out: list[Example]) -> float:
    """Perplexity on the held-out targets of a model that knows token counts alone (add-one smoothed)."""
    counts = collections.Counter(token for line in lines for token in line.ids[1:-1])
    total = sum(counts.values()) + VOCAB
    losses = [math.log(total / (counts[target] + 1)) for example in held_out for target in example.targets]
    return math.exp(math.fsum(losses) / len(losses))


def train(
    model: BertForMaskedLM, lines: list[Line], masker: WholeWordMasker, curve: Curve, options: argparse.Namespace
) -> None:
    """Train `model` in place, with fresh masks each time a line is drawn."""

    def masked_batch(drawn: list[tuple[Line, int]]) -> dict[str, Tensor]:
        return collate([masker.mask(line, f"{options.seed}:{draw}") for line, draw in drawn], pad_id=0)

    with tempfile.TemporaryDirectory() as scratch:
        MaskedTrainer(
            model=model,
            args=TrainingArguments(
                output_dir=scratch,
                num_train_epochs=options.epochs,
                per_device_train_batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=500,
                weight_decay=0.01,
                adam_beta2=0.98,
                bf16=True,
                use_cpu=not torch.cuda.is_available(),
                remove_unused_columns=False,
                seed=options.seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_steps=options.curve_every,
            ),
            train_dataset=Lines(lines),
            data_collator=masked_batch,
            callbacks=[curve],
        ).train()


def main() -> None:
    """Train and write the model folder."""
    parser = argparse.ArgumentParser(prog="python -m orientc.demo.train", description="Train the demo model.")
    parser.add_argument("folder", type=Path, help="where the model goes")
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--curve-every", type=int, default=500, help="steps between two points of the curve")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    texts = training_paragraphs()
    tokenizer = train_tokenizer(texts)
    masker = WholeWordMasker(tokenizer, MAX_IDS)
    lines = masker.tokenize(texts, range(len(texts)))
    digests = frozenset(digest(texts[line.number]) for line in lines)
    held_out = select("\n".join(evaluation_paragraphs(digests)), tokenizer, max_ids=MAX_IDS, seed=options.seed).examples
    facts = {
        "lines": len(lines),
        "tokens_per_epoch": sum(len(line.ids) for line in lines),
        "settings": {name: value for name, value in vars(options).items() if name != "folder"},
        "unigram_perplexity": round(unigram_perplexity(lines, held_out), 1),
    }
    print(json.dumps(facts), flush=True)  # noqa: T201

    model, curve = new_model(options.seed), Curve(held_out, options.curve_every)
    train(model, lines, masker, curve, options)
    model.to(torch.float16).save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)
    (options.folder / "seen.bin").write_bytes(b"".join(sorted(digests)))
    (options.folder / "training.json").write_text(json.dumps(facts | {"curve": curve.points}, indent=1))


if __name__ == "__main__":
    main()
