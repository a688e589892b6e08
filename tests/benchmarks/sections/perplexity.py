"""`perplexity` against `transformers.Trainer.evaluate` on the same masked lines, and in bfloat16 against itself."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainingArguments

from orientc.evaluation import masked_lm, perplexity, texts
from orientc.evaluation.scoring import Example, Score, collate, score
from orientc.models.source import ModelSource
from sections.measuring import Row, seconds, side_by_side, times_less

BATCH = 4  # lines at a time for the Trainer


def rows(options: argparse.Namespace) -> Iterator[Row]:
    source = ModelSource.resolve(options.model)
    model = perplexity.load(source, "float32", torch.device(options.device))
    limit = min(source.tokenizer.model_max_length, 512)
    lines = masked_lm.select(
        texts.from_file(options.text).content, source.tokenizer, max_ids=limit, seed=0, limit=options.lines
    ).examples
    trainer, ours = _trainer(model, lines), partial(_score, model, lines)
    calls = {"ours": ours, "trainer": trainer.evaluate}
    few = argparse.Namespace(**vars(options) | {"repeats": options.fit_repeats})
    taken, found = side_by_side(calls, few)
    recomputed = _from_logits(trainer)
    yield Row(
        "perplexity",
        f"{len(lines)} lines, {options.device}, {options.threads} thread(s), against Trainer.evaluate, batch {BATCH}",
        seconds(taken["ours"]),
        seconds(taken["trainer"]),
        times_less(taken["ours"], taken["trainer"]),
        "≥ 3× on a CPU, losses equal to 1e-4",
        f"loss {found['ours'].loss:.6f}, from the Trainer's logits {recomputed:.6f} "
        f"({found['ours'].loss - recomputed:+.1e}); the Trainer's own figure {found['trainer']['eval_loss']:.6f}",
    )
    if options.bf16:
        model.to(torch.bfloat16)
        half_taken, half_found = side_by_side({"ours": ours}, few)
        half, spent = half_found["ours"], half_taken["ours"]
        yield Row(
            "perplexity",
            f"bfloat16 against float32, {options.device}",
            seconds(spent),
            seconds(taken["ours"]),
            times_less(spent, taken["ours"]),
            "difference stated",
            f"loss {half.loss:.6f}, perplexity {half.perplexity / found['ours'].perplexity - 1:+.3%}",
        )


def _score(model: PreTrainedModel, lines: Sequence[Example]) -> Score:
    return score(model, lines, tokens=perplexity.tokens_at_once(perplexity.MASKED, model.device), pad_id=0)


def _trainer(model: PreTrainedModel, lines: Sequence[Example]) -> Trainer:
    """The lines as labels, in the order of the text, as a user of the Trainer would have them."""

    def batch(examples: Sequence[Example]) -> dict[str, Tensor]:
        made = collate(examples, 0)
        labels = torch.full_like(made["input_ids"], -100)
        labels[made["positions"]] = made["targets"]
        return {"input_ids": made["input_ids"], "attention_mask": made["attention_mask"], "labels": labels}

    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),
        per_device_eval_batch_size=BATCH,
        prediction_loss_only=True,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        use_cpu=model.device.type == "cpu",
    )
    transformers.logging.set_verbosity_error()
    return Trainer(model, arguments, data_collator=batch, eval_dataset=list(lines))


@torch.inference_mode()
def _from_logits(trainer: Trainer) -> float:
    """The mean loss over all masked tokens, made from the logits of the Trainer's own batches."""
    total: list[float] = []
    count = 0
    for batch in trainer.get_eval_dataloader():
        inputs: dict[str, Any] = trainer._prepare_inputs(batch)
        labels = inputs["labels"]
        logits = trainer.model(**inputs).logits[labels != -100]
        total.append(float(torch.nn.functional.cross_entropy(logits.double(), labels[labels != -100], reduction="sum")))
        count += int((labels != -100).sum())
    return math.fsum(total) / count
