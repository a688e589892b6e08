"""`perplexity` against `transformers.Trainer.evaluate` on the same lines, and what its divergences cost.

For one head policy against one run of the Trainer, for both against two, for both and the original against three; with
KL and without. In bfloat16 against itself.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainingArguments

from orientc.evaluation import masked_lm, perplexity, texts
from orientc.evaluation.scoring import Example, collate
from orientc.evaluation.side_by_side import Compressed, SideBySide
from orientc.methods import svd
from orientc.models.source import ModelSource
from orientc.models.substitute import substituted
from orientc.storage.records import ORIGINAL
from sections.measuring import Row, seconds, side_by_side, table_of, times_less

BATCH = 4  # lines at a time for the Trainer


def rows(options: argparse.Namespace) -> Iterator[Row]:
    source = ModelSource.resolve(options.model)
    model = perplexity.load(source, "float32", torch.device(options.device))
    limit = min(source.tokenizer.model_max_length, 512)
    text = texts.from_file(options.text).content
    lines = masked_lm.select(text, source.tokenizer, max_ids=limit, seed=0, limit=options.lines).examples
    table = svd.truncated_svd(table_of(options), options.rank[0])
    both = Compressed.of(model, table, ["input-only", "tied"])
    trainer, made = _trainer(model, lines), _made(model, lines)
    with_table: Callable[[str], Any] = partial(_evaluate, model, table, trainer)
    calls: dict[str, Callable[[], Any]] = {
        "trainer": trainer.evaluate,
        "trainer input-only": partial(with_table, "input-only"),
        "trainer tied": partial(with_table, "tied"),
        "original": made.score,
        "tied": partial(made.score, Compressed.of(model, table, ["tied"]), original=False, kl=False),
        "both": partial(made.score, both, original=False, kl=False),
        "both with KL": partial(made.score, both, original=False),
        "all": partial(made.score, both, kl=False),
        "all with KL": partial(made.score, both),
    }
    few = argparse.Namespace(**vars(options) | {"repeats": options.fit_repeats})
    taken, found = side_by_side(calls, few)
    recomputed = _from_logits(trainer)
    score = found["original"][ORIGINAL]
    case = f"{len(lines)} lines, {options.device}, {options.threads} thread(s)"
    policies = taken["trainer input-only"] + taken["trainer tied"]
    for ours, against, what, wanted in (
        ("original", taken["trainer"], "the original", "≥ 3×, losses equal to 1e-4"),
        ("tied", taken["trainer tied"], "one policy", "≥ 3×"),
        ("both", policies, "both policies", "≥ 4×"),
        ("both with KL", policies, "both policies with KL", "stated"),
        ("all", policies + taken["trainer"], "the original and both policies", "≥ 4×"),
        ("all with KL", policies + taken["trainer"], "the original and both policies with KL", "≥ 4×"),
    ):
        yield Row(
            "perplexity",
            f"{what}: {case}, against Trainer.evaluate, batch {BATCH}",
            seconds(taken[ours]),
            seconds(against),
            times_less(taken[ours], against),
            wanted,
            f"loss {score.loss:.6f}, from the Trainer's logits {recomputed:.6f} ({score.loss - recomputed:+.1e}); the "
            f"Trainer's own figure {found['trainer']['eval_loss']:.6f}"
            if ours == "original"
            else "",
        )
    divergence = found["all with KL"]["tied"].divergence
    for without, held in (("all", "all with KL"), ("both", "both with KL")):
        there = "the original measured too" if without == "all" else "the original's record there"
        yield Row(
            "perplexity",
            f"what KL costs for both policies, {there}",
            seconds(taken[held]),
            seconds(taken[without]),
            f"{taken[held] / taken[without] - 1:+.0%}",
            "stated",
            ", ".join(f"{name} {value:.4f}" for name, value in divergence.items()),
        )
    if options.bf16:
        model.to(torch.bfloat16)
        half_taken, half_found = side_by_side({"ours": _made(model, lines).score}, few)
        half, spent = half_found["ours"][ORIGINAL], half_taken["ours"]
        yield Row(
            "perplexity",
            f"bfloat16 against float32, {options.device}",
            seconds(spent),
            seconds(taken["original"]),
            times_less(spent, taken["original"]),
            "difference stated",
            f"loss {half.loss:.6f}, perplexity {half.perplexity / score.perplexity - 1:+.3%}",
        )


def _made(model: PreTrainedModel, lines: Sequence[Example]) -> SideBySide:
    return SideBySide(model, lines, tokens=perplexity.tokens_at_once(perplexity.MASKED, model.device), pad_id=0)


def _evaluate(model: PreTrainedModel, table: Any, trainer: Trainer, head: str) -> Any:
    with substituted(model, table, head):
        return trainer.evaluate()


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
