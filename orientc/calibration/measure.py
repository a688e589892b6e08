"""Put a calibration together: token counts, the prior, importance matrices and what they were measured on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from orientc.calibration import fisher, frequencies
from orientc.calibration.config import FEWEST, PER_DIMENSION, CalibrationConfig
from orientc.calibration.fisher import ImportanceMatrices
from orientc.calibration.mixture import TokenizedMixture
from orientc.calibration.tokenized_text import CAUSAL, CLASSES, MASKED, SENTENCE, SEQ2SEQ
from orientc.errors import CalibrationError
from orientc.evaluation import masked_lm, perplexity
from orientc.evaluation.sentences import Sentences
from orientc.modeling.table_names import HEAD, INPUT
from orientc.models.device_map import DeviceMap, check_gradients, inputs_device
from orientc.models.fingerprint import check_unchanged
from orientc.models.source import ModelSource
from orientc.models.table import table_info
from orientc.models.tables import table_named, tables_of
from orientc.models.tokens import check_ids, padding_id
from orientc.storage.calibration import MATRICES, Calibration, CalibrationDescription, HeadTable
from orientc.storage.table_info import TableInfo
from orientc.utils.progress import Progress

_BATCH = {MASKED: 16, CAUSAL: 1, SEQ2SEQ: 16, SENTENCE: 32, CLASSES: 32}  # lines, windows or pairs at a time


def measures_own_head(source: ModelSource, tokenized: TokenizedMixture | None, config: CalibrationConfig) -> bool:
    """Whether the head of a model has a table of its own whose importance is to be measured.

    Raises `NoTableError` where that is asked for, and it has none.
    """
    if config.table == HEAD:
        table_named(source.skeleton, HEAD, source.id)
    predicts = tokenized is not None and tokenized.objective in (MASKED, CAUSAL, SEQ2SEQ)
    return predicts and config.table != INPUT and HEAD in tables_of(source.skeleton)


def full_settings(
    source: ModelSource, config: CalibrationConfig, tokenized: TokenizedMixture | None, fingerprint: str
) -> dict[str, Any]:
    """Everything that decides what a calibration of a model holds; `tokenized` is None without a text."""
    settings: dict[str, Any] = {"fingerprint": fingerprint, "frequency": config.frequency}
    if tokenized:
        settings |= {"tokens": config.tokens, "seed": config.seed}
        settings |= {"text": tokenized.texts.name, "text_sha256": tokenized.texts.sha256}
        settings |= {"objective": tokenized.objective, **tokenized.settings}
    if measures_own_head(source, tokenized, config):
        settings["own_head"] = True
    return settings


def measure(
    source: ModelSource,
    tokenized: TokenizedMixture | None,
    config: CalibrationConfig,
    table: TableInfo,
    *,
    fingerprint: str,
    place: torch.device | DeviceMap,
    progress: Progress,
) -> Calibration:
    """Count tokens and measure importance matrices.

    Args:
        source: the model.
        tokenized: the texts; None for counts by `config.frequency` alone.
        config: what was asked for.
        table: facts of the model's table.
        fingerprint: the model's, from before anything of it was read.
        place: where the model runs.
        progress: told of stages and steps.

    Returns:
        Counts float32 `[vocab]`, a prior of the same sum by Zipf's law, and with a text the importance matrices: M and,
        for a head that is compressed, H, float32 `[dim, dim]`, and what it expects of each token, in the sum of the
        counts.

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
    own_head = measures_own_head(source, tokenized, config)
    head = table_info(source, HEAD) if own_head else None
    found = _importance(source, tokenized, config, table.tied or own_head, place, progress) if tokenized else None
    tensors = found.present if found else {}
    if found and found.head_counts is not None:
        tensors["head_counts"] = _as_many(_looked_up_too(found, tokenized), counts)
    check_unchanged(source, fingerprint)
    prior = frequencies.zipf(source.tokenizer, table.vocab)
    description = CalibrationDescription(
        base=table,
        objective=tokenized.objective if tokenized else None,
        text=tokenized.texts.name if tokenized else None,
        text_sha256=tokenized.texts.sha256 if tokenized else None,
        frequency=config.frequency,
        counted=counted,
        measured=found.positions if found else 0,
        metrics=tuple(name for name in MATRICES if name in tensors),
        head=HeadTable(head.sha256, head.vocab, head.dim) if head else None,
        settings=full_settings(source, config, tokenized, fingerprint),
        seed=config.seed,
    )
    return Calibration(
        counts.float(),
        prior=_as_many(prior, counts) if prior.any() else None,
        description=description,
        **tensors,
    )


def _looked_up_too(found: ImportanceMatrices, tokenized: TokenizedMixture | None) -> Tensor:
    """How often a head expects each token, with how often a decoder looks it up where it does so in the same table."""
    assert found.head_counts is not None
    assert tokenized
    if found.head_share == 1 or (looked_up := tokenized.decoder_counts()) is None:
        return found.head_counts
    expected = found.head_counts / found.head_counts.sum()
    return found.head_share * expected + (1 - found.head_share) * looked_up / looked_up.sum()


def _as_many(frequencies: Tensor, counts: Tensor) -> Tensor:
    """Frequencies of tokens scaled to the sum of their counts, float32."""
    return (frequencies * (counts.sum() / frequencies.sum())).float()


def _importance(
    source: ModelSource,
    tokenized: TokenizedMixture,
    config: CalibrationConfig,
    head: bool,
    place: torch.device | DeviceMap,
    progress: Progress,
) -> ImportanceMatrices:
    examples, positions = tokenized.examples(config.tokens, config.seed, progress)
    if positions < FEWEST:
        lines = f" in lines of at least {masked_lm.MIN_IDS}" if tokenized.objective == MASKED else ""
        raise CalibrationError(
            f"{tokenized.texts.name} has {positions} tokens to measure{lines}, at least {FEWEST} are needed: "
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
        model = how.load(torch.float32, place)
        check_gradients(model)
        vectors = how.vectors(source.tokenizer, inputs_device(model)).requires_grad_(False)
        found = fisher.of_sentences(model, examples, pool=vectors, **common)
    elif tokenized.objective == CLASSES:
        classifier = source.load(None, dtype=torch.float32, place=place)
        check_gradients(classifier)
        classifier.config.get_text_config().pad_token_id = padding_id(source)  # one may look for the last token by it
        found = fisher.of_classifier(classifier, examples, **common)
    else:
        model = perplexity.load(source, "float32", place)
        check_gradients(model)
        found = fisher.of_language_model(model, examples, head=head, **common)
    if found.positions < PER_DIMENSION * len(found.input_importance):
        progress.warn(_thin(found, "measure more `tokens`" if positions >= config.tokens else "name a longer text"))
    return found


def _thin(found: ImportanceMatrices, advice: str) -> str:
    """What is said of a calibration of few positions."""
    shares = {"input": found.input_shrinkage, "head": found.head_shrinkage}
    taken = ", ".join(f"{float(share):.0%} ({name})" for name, share in shares.items() if share is not None)
    return (
        f"{found.positions} positions are few for importance matrices of {len(found.input_importance)} dimensions, "
        f"{PER_DIMENSION} each would do: they are shrunk towards their diagonals by {taken}; {advice}"
    )
