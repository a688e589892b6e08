"""Perplexity of a model, uncompressed and with a compressed table: text in, records out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from orientc.errors import EvaluationError, UsageError
from orientc.evaluation import causal_lm, masked_lm
from orientc.evaluation.recording import RecordedMeasurement
from orientc.evaluation.scoring import Example, score
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource, usable_positions
from orientc.models.substitute import head_policies, substituted
from orientc.storage import records
from orientc.storage.artifact import Artifact
from orientc.storage.records import Record
from orientc.storage.sizes import TIED, UNTIED
from orientc.storage.table_info import TableInfo
from orientc.utils.progress import Progress

KIND = "perplexity"
MASKED, CAUSAL = "masked", "causal"
LARGEST_WINDOW = 1024
# More tokens at once than a CPU's caches hold cost it time. Of a causal text every token is scored, and the logits of
# one are as wide as the vocabulary.
CPU_TOKENS = 1_024
DEVICE_TOKENS = {MASKED: 16_384, CAUSAL: 4_096}


@dataclass(frozen=True)
class Settings:
    """What may be asked for; None stands for the protocol's default.

    `limit` counts kept lines (masked) or text tokens (causal); `window` and `stride` are text tokens, `bos` puts
    the BOS token before each window (causal only); `seed` draws the masks (masked only). `dtype` is what the
    model computes in. The figures do not depend on `batch_size`, the most lines or windows that go in at once.
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
    if protocol := head_protocol(source):
        return protocol
    raise EvaluationError(
        f"{source.id} ({name}) has no language-model head, so it has no perplexity: name a checkpoint saved with "
        "one, or measure its sentence vectors with orientc similarity"
    )


def head_protocol(source: ModelSource) -> str | None:
    """Masked or causal, by the language-model head the checkpoint has; None where it has none."""
    name = type(source.skeleton).__name__
    masked_names = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    pretraining = modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES.get(source.config.model_type)
    if name.endswith("ForMaskedLM") or name in masked_names.values():
        return MASKED
    if name == pretraining and source.config.model_type in masked_names and name.endswith("ForPreTraining"):
        return MASKED
    if name.endswith("ForCausalLM") or name in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        return CAUSAL
    return None


def load(source: ModelSource, dtype: str, device: torch.device) -> PreTrainedModel:
    """The model with the head its protocol scores, on `device`."""
    auto = {MASKED: transformers.AutoModelForMaskedLM, CAUSAL: transformers.AutoModelForCausalLM}
    model = source.load(auto[protocol_of(source)], dtype=getattr(torch, dtype))
    return model.to(device)


def tokens_at_once(protocol: str, device: torch.device) -> int:
    """How many tokens go through a model at once, padding counted."""
    return CPU_TOKENS if device.type == "cpu" else DEVICE_TOKENS[protocol]


class Measurement(RecordedMeasurement):
    """Perplexity of one model on one text; the model is loaded, and the text cut up, for the first new figure.

    Raises `UsageError` or `EvaluationError` for settings that the model's protocol can't use.
    """

    kind = KIND

    def __init__(
        self,
        source: ModelSource,
        text: Text,
        settings: Settings,
        *,
        folder: Path,
        device: torch.device,
        again: bool = False,
        force: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.text, self.settings = text, settings
        full = full_settings(source, settings)
        super().__init__(source, text, full, folder=folder, device=device, again=again, force=force, progress=progress)

    @cached_property
    def _model(self) -> PreTrainedModel:
        return load(self.source, self.settings.dtype, self.device)

    @cached_property
    def _examples(self) -> list[Example]:
        found = _examples(self.source, self.text, self.full_settings)
        if not found:
            raise EvaluationError(
                f"{self.text.name} has nothing to score: too little text for the {self.full_settings['protocol']} "
                "protocol"
            )
        return found

    def _original_head(self, info: TableInfo) -> str:
        return TIED if info.tied else UNTIED

    def _heads(self, heads: str) -> tuple[str, ...]:
        return _wanted(head_policies(self.source.skeleton), heads)

    def _measured(self, record: Record, artifact: Artifact | None) -> tuple[dict[str, Any], float]:
        if artifact is None:
            return self._scored(records.ORIGINAL)
        with substituted(self._model, artifact, record.head):
            return self._scored(record.head)

    def _scored(self, name: str) -> tuple[dict[str, Any], float]:
        self.progress.stage(name, len(self._examples))
        start = time.perf_counter()
        result = score(
            self._model,
            self._examples,
            tokens=tokens_at_once(self.full_settings["protocol"], self.device),
            batch_size=self.settings.batch_size,
            pad_id=self.source.tokenizer.pad_token_id or 0,
            on_batch=self.progress.advance,
        )
        metrics = {"perplexity": result.perplexity, "loss": result.loss, "tokens": result.tokens}
        return metrics, time.perf_counter() - start


def full_settings(source: ModelSource, settings: Settings) -> dict[str, Any]:
    """What a record carries: nothing left to a default. Raises `EvaluationError` for what the protocol can't use."""
    protocol, positions = protocol_of(source), usable_positions(source.skeleton)
    own = {"protocol": protocol, "limit": settings.limit}
    if protocol == MASKED:
        return own | _masked_settings(source, settings, positions) | {"dtype": settings.dtype}
    return own | _causal_settings(source, settings, positions) | {"dtype": settings.dtype}


def _masked_settings(source: ModelSource, settings: Settings, positions: int | None) -> dict[str, Any]:
    for name in ("window", "stride"):
        if getattr(settings, name) is not None:
            raise EvaluationError(f"{source.id} is a masked language model: {name} is for causal ones")
    tokenizer = source.tokenizer
    if tokenizer.mask_token_id is None or not tokenizer.is_fast:
        raise EvaluationError(f"the tokenizer of {source.id} has no mask token or no word boundaries to go by")
    return {"seed": settings.seed, "max_ids": min(tokenizer.model_max_length, positions or tokenizer.model_max_length)}


def _causal_settings(source: ModelSource, settings: Settings, positions: int | None) -> dict[str, Any]:
    largest = (positions or LARGEST_WINDOW + 1) - 1
    window = settings.window or min(LARGEST_WINDOW, largest)
    if window > largest and positions:
        raise EvaluationError(f"window {window} is above what {source.id} has positions for: choose at most {largest}")
    stride = settings.stride or window
    if stride > window:
        raise EvaluationError(f"stride {stride} is above window {window}: tokens between would be skipped")
    return {"window": window, "stride": stride, "bos": settings.bos and source.tokenizer.bos_token_id is not None}


def _examples(source: ModelSource, text: Text, full: dict[str, Any]) -> list[Example]:
    """What is scored."""
    tokenizer = source.tokenizer
    if full["protocol"] == MASKED:
        return masked_lm.examples(
            text.content, tokenizer, max_ids=full["max_ids"], seed=full["seed"], limit=full["limit"]
        )
    ids = tokenizer(text.content, add_special_tokens=False, verbose=False)["input_ids"][: full["limit"]]
    bos_id = tokenizer.bos_token_id if full["bos"] else None
    return causal_lm.windows(ids, window=full["window"], stride=full["stride"], bos_id=bos_id)


def _wanted(policies: tuple[str, ...], heads: str) -> tuple[str, ...]:
    if heads == "both":
        return policies
    if heads not in policies:
        raise EvaluationError(f"the head does not share the table, so there is no {heads} figure: leave --head out")
    return (heads,)
