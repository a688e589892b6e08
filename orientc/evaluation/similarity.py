"""How far compression turns sentence vectors: for encoders without a language-model head, and without any training.

Sentences go through the model uncompressed and compressed; the cosine between both vectors of a sentence says what
compression did to it. Where sentence pairs come with scores (STS-B), Spearman's correlation of the scores with the
pair's own cosine is taken too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from orientc.errors import EvaluationError, UsageError
from orientc.evaluation.choices import POOLINGS
from orientc.evaluation.finetuning import tokenizer_for
from orientc.evaluation.glue import data as glue
from orientc.evaluation.glue.tasks import TASKS
from orientc.evaluation.recording import RecordedMeasurement
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource, usable_positions
from orientc.models.substitute import head_policies, substituted
from orientc.storage import records
from orientc.storage.artifact import Artifact
from orientc.storage.records import Record
from orientc.storage.sizes import UNTIED
from orientc.storage.table_info import TableInfo
from orientc.utils import distributed
from orientc.utils.progress import Progress

KIND = "similarity"
Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs with scores, and the name they go by in records."""

    name: str
    sha256: str
    first: Sequence[str]
    second: Sequence[str]
    scores: Sequence[float]


@dataclass(frozen=True)
class Settings:
    """How sentences become vectors; None stands for what the model's folder says, else for the mean of all tokens."""

    pooling: str | None = None
    max_length: int | None = None
    batch_size: int = 64
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value no evaluation can use."""
        if self.pooling not in (None, *POOLINGS):
            raise UsageError(f"--pooling must be one of {', '.join(POOLINGS)}, not {self.pooling!r}")
        for name in ("max_length", "batch_size"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**31:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}")


def pool(states: Tensor, mask: Tensor, how: str) -> Tensor:
    """Sentence vectors `[batch, dim]` from token states `[batch, length, dim]` and a mask `[batch, length]`.

    "mean" and "max" are over the tokens of the mask, "cls" is the first of them, "last" the last.
    """
    kept = mask.unsqueeze(-1).to(states.dtype)
    if how == "mean":
        return (states * kept).sum(1) / kept.sum(1)
    if how == "max":
        return states.masked_fill(kept == 0, -torch.inf).amax(1)
    positions = mask.argmax(1) if how == "cls" else mask.shape[1] - 1 - mask.flip(1).argmax(1)
    return states[torch.arange(len(states), device=states.device), positions]


class Measurement(RecordedMeasurement):
    """Sentence vectors of one model, on sentences or on pairs with scores; it is loaded for the first new figure."""

    kind = KIND

    def __init__(
        self,
        source: ModelSource,
        sentences: Text | Pairs,
        settings: Settings,
        *,
        folder: Path,
        device: torch.device,
        again: bool = False,
        force: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.sentences, self.settings = sentences, settings
        full = full_settings(source, settings)
        super().__init__(
            source, sentences, full, folder=folder, device=device, again=again, force=force, progress=progress
        )

    @cached_property
    def _model(self) -> PreTrainedModel:
        auto_class = transformers.AutoModel
        model = self.source.load(auto_class, dtype=getattr(torch, self.settings.dtype), new_head=True)
        return model.to(self.device)

    @cached_property
    def _lines(self) -> list[str]:
        if isinstance(self.sentences, Pairs):
            return [*self.sentences.first, *self.sentences.second]
        return [line for line in self.sentences.content.split("\n") if line.strip()]

    @cached_property
    def _original(self) -> Vectors:
        return self._vectors(records.ORIGINAL)

    def _original_head(self, info: TableInfo) -> str:
        return UNTIED  # no language-model head is in use

    def _heads(self, heads: str) -> tuple[str, ...]:
        return (UNTIED,)

    def _measured(self, record: Record, artifact: Artifact | None) -> tuple[dict[str, Any], float]:
        start = time.perf_counter()
        original = vectors = self._original
        if artifact:
            with substituted(self._model, artifact, head_policies(self._model)[0]):
                vectors = self._vectors(record.file_name.partition(".")[0])
        cosines = _cosines(original, vectors)
        metrics: dict[str, Any] = {
            "cosine": float(cosines.mean()),
            "cosine_p5": float(np.percentile(cosines, 5)),
            "sentences": len(cosines),
        }
        if isinstance(self.sentences, Pairs):
            metrics["spearman"] = _spearman(vectors, self.sentences.scores)
        return metrics, time.perf_counter() - start

    @torch.inference_mode()
    def _vectors(self, name: str) -> Vectors:
        """A vector for each line, `[lines, dim]`; lines of like length share a batch."""
        self.progress.stage(name, len(self._lines))
        tokenizer = tokenizer_for(self.source)
        encoded = tokenizer(self._lines, truncation=True, max_length=self.full_settings["max_length"])["input_ids"]
        order = sorted(range(len(encoded)), key=lambda line: len(encoded[line]))
        size = self.settings.batch_size
        found: list[tuple[int, Any]] = []
        for number, start in enumerate(range(0, len(order), size)):
            lines = order[start : start + size]
            if number % distributed.count() == distributed.index():
                batch = tokenizer.pad({"input_ids": [encoded[line] for line in lines]}, return_tensors="pt")
                batch = {key: value.to(self.device) for key, value in batch.items()}
                states = self._model(**batch).last_hidden_state
                pooled = pool(states.float(), batch["attention_mask"], self.full_settings["pooling"])
                found += zip(lines, pooled.cpu().numpy(), strict=True)
            self.progress.advance(len(lines))
        ordered = sorted(distributed.gather(found), key=lambda entry: entry[0])
        return np.array([vector for _, vector in ordered], dtype=np.float64)


def full_settings(source: ModelSource, settings: Settings) -> dict[str, Any]:
    """Nothing left to a default: pooling and length are those of a sentence encoder's folder, where it is one."""
    own = _sentence_settings(source)
    positions = usable_positions(source.skeleton)
    limit = settings.max_length or own.get("max_length") or source.tokenizer.model_max_length
    return {
        "pooling": settings.pooling or own.get("pooling") or "mean",
        "max_length": min(limit, source.tokenizer.model_max_length, positions or limit),
        "dtype": settings.dtype,
    }


def _sentence_settings(source: ModelSource) -> dict[str, Any]:
    """Pooling and length of a sentence-transformers folder; nothing for any other."""
    found: dict[str, Any] = {}
    pooling, length = source.file("1_Pooling/config.json"), source.file("sentence_bert_config.json")
    try:
        if length:
            found["max_length"] = json.loads(length.read_text(encoding="utf-8")).get("max_seq_length")
        if pooling:
            modes = json.loads(pooling.read_text(encoding="utf-8"))
            names = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max", "lasttoken": "last"}
            chosen = [how for mode, how in names.items() if modes.get(f"pooling_mode_{mode}")]
            if len(chosen) != 1:
                raise EvaluationError(f"{source.id} pools in a way orientc does not know: choose one with --pooling")
            found["pooling"] = chosen[0]
    except (OSError, ValueError, AttributeError) as error:
        raise EvaluationError(f"{source.id} has settings for sentences that can't be read: {error}") from None
    return found


def _cosines(first: Vectors, second: Vectors) -> Vectors:
    """Cosine of each row of one with the same row of the other; 0 where a vector is zero."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products: Vectors = np.einsum("nd,nd->n", first, second)
    cosines: Vectors = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return cosines


def _spearman(vectors: Vectors, scores: Sequence[float]) -> float:
    """Rank correlation of the scores with the cosines of the pairs, whose first sentences are the first half."""
    from scipy import stats

    first, second = np.split(vectors, 2)
    return float(stats.spearmanr(_cosines(first, second), scores).statistic)


def stsb(folder: Path | None) -> Pairs:
    """STS-B's dev set from a folder, or through the hub. Raises `EvaluationError` where it is not to be had."""
    data = glue.load(TASKS["stsb"], folder, train=False)
    rows = data.evaluation[""]
    return Pairs(f"{data.name}/stsb/dev", data.sha256, rows["sentence1"][:], rows["sentence2"][:], rows["label"][:])
