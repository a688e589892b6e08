"""Perplexity of a model, uncompressed and with a compressed table: text in, records out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from orientc import processes, records
from orientc.artifact import Artifact
from orientc.errors import EvaluationError, UsageError
from orientc.evaluate import causal, masked
from orientc.evaluate.progress import Progress
from orientc.evaluate.scoring import Example, score
from orientc.evaluate.subjects import base_table, described_artifact, described_model
from orientc.evaluate.texts import Text
from orientc.models import ModelSource, usable_positions
from orientc.records import Record
from orientc.sizes import TIED, UNTIED
from orientc.substitution import head_policies, substituted
from orientc.versions import versions

KIND = "perplexity"
MASKED, CAUSAL = "masked", "causal"
LARGEST_WINDOW = 1024
BATCH = {MASKED: 32, CAUSAL: 2}


@dataclass(frozen=True)
class Settings:
    """What may be asked for; None stands for the protocol's default.

    `limit` counts kept lines (masked) or text tokens (causal); `window` and `stride` are text tokens, `bos` puts
    the BOS token before each window (causal only); `seed` draws the masks (masked only). `dtype` is what the
    model computes in. The figures do not depend on `batch_size`, in lines or windows.
    """

    limit: int | None = None
    window: int | None = None
    stride: int | None = None
    bos: bool = True
    seed: int = 0
    batch_size: int | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value no evaluation can use."""
        for name in ("limit", "window", "stride", "batch_size"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**31:
                raise UsageError(f"{name} must be at least 1 (and below 2³¹), not {value}")
        if self.window and self.stride and self.stride > self.window:
            raise UsageError(f"stride {self.stride} is above window {self.window}: tokens between would be skipped")


def protocol_of(source: ModelSource) -> str:
    """Masked or causal, by the checkpoint's architecture. Raises `EvaluationError` where it is neither."""
    name = type(source.skeleton).__name__
    if source.config.is_encoder_decoder:
        raise EvaluationError(
            f"{source.id} ({name}) is an encoder-decoder, which has no perplexity of its own: "
            "name a masked or causal language model"
        )
    masked_names = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    pretraining = modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES.get(source.config.model_type)
    if name.endswith("ForMaskedLM") or name in masked_names.values():
        return MASKED
    if name == pretraining and source.config.model_type in masked_names and name.endswith("ForPreTraining"):
        return MASKED
    if name.endswith("ForCausalLM") or name in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        return CAUSAL
    raise EvaluationError(
        f"{source.id} ({name}) has no language-model head, so it has no perplexity: name a checkpoint saved with "
        "one; orientc inspect shows an artifact's own distances"
    )


def load(source: ModelSource, dtype: str, device: torch.device) -> PreTrainedModel:
    """The model with the head its protocol scores, on `device`."""
    auto = {MASKED: transformers.AutoModelForMaskedLM, CAUSAL: transformers.AutoModelForCausalLM}
    model = source.load(auto[protocol_of(source)], dtype=getattr(torch, dtype))
    return model.to(device)


def examples(
    source: ModelSource, model: PreTrainedModel, text: Text, settings: Settings
) -> tuple[list[Example], dict[str, Any]]:
    """What is scored, and the settings in full as a record carries them."""
    positions = usable_positions(model)
    if protocol_of(source) == MASKED:
        return _masked_examples(source, text, settings, positions)
    return _causal_examples(source, text, settings, positions)


def evaluate(
    source: ModelSource,
    text: Text,
    settings: Settings,
    *,
    folder: Path,
    device: torch.device,
    compressed: tuple[Path, Artifact] | None = None,
    heads: str = "both",
    again: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """Records of the uncompressed model and, with an artifact, of each head policy; each is written as it is yielded.

    A record of the same evaluation by the same versions that lies in `folder` is reused unless `again`. `heads` is
    "input-only", "tied" or "both"; an untied model has "untied" alone. An artifact of another table raises
    `ArtifactMismatchError` unless `force`.
    """
    progress = progress or Progress()
    info = base_table(source, compressed[1] if compressed else None, force=force, progress=progress)
    model = load(source, settings.dtype, device)
    scored, full_settings = examples(source, model, text, settings)
    if not scored:
        raise EvaluationError(
            f"{text.name} has nothing to score: too little text for the {full_settings['protocol']} protocol"
        )
    blank = Record(
        kind=KIND,
        model=described_model(source, info),
        artifact=None,
        head=TIED if info.tied else UNTIED,
        text={"name": text.name, "sha256": text.sha256},
        settings=full_settings,
        metrics={},
        seconds=0.0,
        versions=versions(),
    )

    def measured(record: Record, name: str) -> Record:
        found = processes.from_main(lambda: None if again else records.reusable(record, folder))
        if found:
            return found
        progress.stage(name, len(scored))
        start = time.perf_counter()
        result = score(
            model,
            scored,
            batch_size=settings.batch_size or BATCH[full_settings["protocol"]],
            pad_id=source.tokenizer.pad_token_id or 0,
            on_batch=progress.advance,
        )
        metrics = {"perplexity": result.perplexity, "loss": result.loss, "tokens": result.tokens}
        record = replace(record, metrics=metrics, seconds=round(time.perf_counter() - start, 3))
        if processes.is_main():
            records.write(record, folder)
        return record

    yield measured(blank, records.ORIGINAL)
    if compressed:
        path, artifact = compressed
        described = described_artifact(path, artifact)
        for head in _wanted(head_policies(model), heads):
            with substituted(model, artifact, head):
                yield measured(replace(blank, artifact=described, head=head), head)


def _masked_examples(
    source: ModelSource, text: Text, settings: Settings, positions: int | None
) -> tuple[list[Example], dict[str, Any]]:
    for name in ("window", "stride"):
        if getattr(settings, name) is not None:
            raise EvaluationError(f"{source.id} is a masked language model: {name} is for causal ones")
    tokenizer = source.tokenizer
    if tokenizer.mask_token_id is None or not tokenizer.is_fast:
        raise EvaluationError(f"the tokenizer of {source.id} has no mask token or no word boundaries to go by")
    max_ids = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)
    found = masked.examples(text.content, tokenizer, max_ids=max_ids, seed=settings.seed, limit=settings.limit)
    full = {"protocol": MASKED, "limit": settings.limit, "seed": settings.seed, "max_ids": max_ids}
    return found, full | {"dtype": settings.dtype}


def _causal_examples(
    source: ModelSource, text: Text, settings: Settings, positions: int | None
) -> tuple[list[Example], dict[str, Any]]:
    largest = (positions or LARGEST_WINDOW + 1) - 1
    window = settings.window or min(LARGEST_WINDOW, largest)
    if window > largest and positions:
        raise EvaluationError(f"window {window} is above what {source.id} has positions for: choose at most {largest}")
    stride = settings.stride or window
    if stride > window:
        raise EvaluationError(f"stride {stride} is above window {window}: tokens between would be skipped")
    tokenizer = source.tokenizer
    bos_id = tokenizer.bos_token_id if settings.bos else None
    ids = tokenizer(text.content, add_special_tokens=False, verbose=False)["input_ids"][: settings.limit]
    full = {
        "protocol": CAUSAL,
        "limit": settings.limit,
        "window": window,
        "stride": stride,
        "bos": bos_id is not None,
        "dtype": settings.dtype,
    }
    return causal.windows(ids, window=window, stride=stride, bos_id=bos_id), full


def _wanted(policies: tuple[str, ...], heads: str) -> tuple[str, ...]:
    if heads == "both":
        return policies
    if heads not in policies:
        raise EvaluationError(f"the head does not share the table, so there is no {heads} figure: leave --head out")
    return (heads,)
