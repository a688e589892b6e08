"""Put a calibration together: token counts, the prior, importance matrices and what they were measured on."""

from __future__ import annotations

from typing import Any

import torch

from orientc.calibration import fisher, frequencies
from orientc.calibration.config import FEWEST, CalibrationConfig
from orientc.calibration.fisher import ImportanceMatrices
from orientc.calibration.tokenized_text import CAUSAL, CLASSES, MASKED, SENTENCE, TokenizedText
from orientc.errors import CalibrationError
from orientc.evaluation import masked_lm, perplexity
from orientc.evaluation.sentences import Sentences
from orientc.models.fingerprint import check_unchanged
from orientc.models.source import ModelSource
from orientc.models.tokens import check_ids, padding_id
from orientc.storage.calibration import Calibration, CalibrationDescription
from orientc.storage.table_info import TableInfo
from orientc.utils.progress import Progress

_BATCH = {MASKED: 16, CAUSAL: 1, SENTENCE: 32, CLASSES: 32}  # lines or windows at a time


def full_settings(config: CalibrationConfig, tokenized: TokenizedText | None, fingerprint: str) -> dict[str, Any]:
    """Everything that decides what a calibration of a model holds; `tokenized` is None without a text."""
    settings: dict[str, Any] = {"fingerprint": fingerprint, "frequency": config.frequency}
    if tokenized:
        settings |= {"tokens": config.tokens, "seed": config.seed}
        settings |= {"text": tokenized.text.name, "text_sha256": tokenized.text.sha256}
        settings |= {"objective": tokenized.objective, **tokenized.settings}
    return settings


def measure(
    source: ModelSource,
    tokenized: TokenizedText | None,
    config: CalibrationConfig,
    table: TableInfo,
    *,
    fingerprint: str,
    device: torch.device,
    progress: Progress,
) -> Calibration:
    """Count tokens and measure importance matrices.

    Args:
        source: the model.
        tokenized: the text; None for counts by `config.frequency` alone.
        config: what was asked for.
        table: facts of the model's table.
        fingerprint: the model's, from before anything of it was read.
        device: where the model runs.
        progress: told of stages and steps.

    Returns:
        Counts float32 `[vocab]`, a prior of the same sum by Zipf's law, and with a text the importance matrices: M and,
        for a tied head, H, float32 `[dim, dim]`.

    Raises:
        CalibrationError: for a text with too little to measure, or a model whose numbers are not finite.
        ModelError: where the model was changed meanwhile.
    """
    counted = 0
    if config.frequency:
        check_ids(source, [frequencies.special_ids(source.tokenizer)])
        counts = frequencies.counts(config.frequency, source.tokenizer, table.vocab)
    else:
        assert tokenized
        counts = tokenized.counts(table.vocab, progress)
        counted = int(counts.sum())
    found = _importance(source, tokenized, config, table.tied, device, progress) if tokenized else None
    matrices = found.present if found else {}
    check_unchanged(source, fingerprint)
    prior = frequencies.zipf(source.tokenizer, table.vocab)
    description = CalibrationDescription(
        base=table,
        objective=tokenized.objective if tokenized else None,
        text=tokenized.text.name if tokenized else None,
        text_sha256=tokenized.text.sha256 if tokenized else None,
        frequency=config.frequency,
        counted=counted,
        measured=found.positions if found else 0,
        metrics=tuple(matrices),
        settings=full_settings(config, tokenized, fingerprint),
        seed=config.seed,
    )
    return Calibration(
        counts.float(),
        prior=(prior * (counts.sum() / prior.sum())).float() if prior.any() else None,
        description=description,
        **matrices,
    )


def _importance(
    source: ModelSource,
    tokenized: TokenizedText,
    config: CalibrationConfig,
    tied: bool,
    device: torch.device,
    progress: Progress,
) -> ImportanceMatrices:
    examples, positions = tokenized.examples(config.tokens, config.seed)
    if positions < FEWEST:
        lines = f" in lines of at least {masked_lm.MIN_IDS}" if tokenized.objective == MASKED else ""
        raise CalibrationError(
            f"{tokenized.text.name} has {positions} tokens to measure{lines}, at least {FEWEST} are needed: "
            "name a longer text"
        )
    progress.stage("measuring importance", len(examples))
    common: dict[str, Any] = {
        "special_ids": tokenized.tokenizer.all_special_ids,
        "pad_id": padding_id(source),
        "seed": config.seed,
        "batch_size": _BATCH[tokenized.objective],
        "on_batch": progress.advance,
    }
    if tokenized.objective == SENTENCE:
        how = Sentences(source)
        vectors = how.vectors(source.tokenizer, device).requires_grad_(False)
        found = fisher.of_sentences(how.load(torch.float32, device), examples, pool=vectors, **common)
    elif tokenized.objective == CLASSES:
        classifier = source.load(None, dtype=torch.float32).to(device)
        classifier.config.get_text_config().pad_token_id = padding_id(source)  # one may look for the last token by it
        found = fisher.of_classifier(classifier, examples, **common)
    else:
        model = perplexity.load(source, "float32", device)
        found = fisher.of_language_model(model, examples, tied=tied, **common)
    if not all(matrix.isfinite().all() for matrix in found.present.values()):
        raise CalibrationError(f"{source.id} gives numbers that are not finite on {tokenized.text.name}")
    return found
