"""Calibrate a model: token counts of a text or of a frequency list, and how much the model feels its table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from orientc.calibration import fisher, frequencies
from orientc.calibration.fisher import Sensitivity
from orientc.calibration.tokenized_text import CAUSAL, MASKED, SENTENCE, Passages, objective_of
from orientc.errors import CalibrationError, UsageError
from orientc.evaluation import masked_lm, perplexity, texts
from orientc.evaluation.texts import Text
from orientc.models.source import DEMO, ModelSource
from orientc.models.table import read_table
from orientc.storage.calibration import Calibration, CalibrationDescription
from orientc.storage.table_info import TableInfo
from orientc.utils.devices import pick_device
from orientc.utils.progress import Progress

FEWEST = 256  # measured tokens; by fewer a importance of some hundred dimensions says little
_BATCH = {MASKED: 16, CAUSAL: 1, SENTENCE: 32}


@dataclass(frozen=True)
class Settings:
    """What may be asked for.

    `tokens` is how many are measured at least, where the text has as many (it ends with a whole line or window);
    `frequency` takes the counts from elsewhere than the text: "zipf" or "wordfreq:en"; `seed` draws the pieces of the
    text, masks and labels.
    """

    tokens: int = 16384
    frequency: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value nothing can be measured by."""
        if not FEWEST <= self.tokens < 2**31:
            raise UsageError(f"--tokens must be at least {FEWEST} (and below 2³¹), not {self.tokens}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed must be from 0 to 2³² − 1, not {self.seed}")
        if self.frequency is not None:
            frequencies.check(self.frequency)


def text_for(
    source: ModelSource,
    *,
    path: Path | None = None,
    dataset: str | None = None,
    column: str = "text",
    frequency: str | None = None,
) -> Text | None:
    """What a model is calibrated on: a file or a data set where one is named, no text where a frequency is.

    Else, never what it is scored on, WikiText-103's validation set; for `demo`, which needs no hub, docstrings. Raises
    `UsageError` for two texts, `EvaluationError` where one can't be had, and `CalibrationError` for a model that can't
    be measured, before a text is fetched for nothing.
    """
    if path is not None and dataset is not None:
        raise UsageError("--text and --dataset both name a text: give one of them")
    if path is None and dataset is None and frequency is not None:
        return None
    objective_of(source)
    if path is not None:
        return texts.from_file(path)
    if dataset is not None:
        return texts.from_dataset(dataset, column)
    return texts.demo_calibration() if source.id == DEMO else texts.wikitext("validation")


class Plan:
    """A calibration that is settled but not made: its full `settings` are those of its file.

    Without a text the counts come from a frequency list, and nothing is measured. Raises `CalibrationError` or
    `EvaluationError` where the model can't be calibrated so.
    """

    def __init__(self, source: ModelSource, text: Text | None, settings: Settings) -> None:
        if text is None and settings.frequency is None:
            raise UsageError("a calibration needs a text or a --frequency")
        self.source, self.text, self.asked = source, text, settings
        self.passages = Passages(source, text.content) if text else None
        self.settings: dict[str, Any] = {"frequency": settings.frequency}
        if text and self.passages:
            self.settings |= {"tokens": settings.tokens, "seed": settings.seed}
            self.settings |= {"text": text.name, "text_sha256": text.sha256}
            self.settings |= {"objective": self.passages.objective, **self.passages.settings}

    def run(self, info: TableInfo, *, device: torch.device, progress: Progress | None = None) -> Calibration:
        """Count and measure. `info` is of the model's table.

        Raises `CalibrationError` for a text with too little to measure, or a model that gives no finite numbers.
        """
        progress = progress or Progress()
        passages, frequency = self.passages, self.asked.frequency
        counted = 0
        if frequency:
            counts = frequencies.counts(frequency, self.source.tokenizer, info.vocab)
        else:
            assert passages
            counts = passages.counts(info.vocab, progress)
            counted = int(counts.sum())
        measured = self._measured(passages, info.tied, device, progress) if passages else None
        metrics = (
            {"input_importance": measured.input_importance, "head_importance": measured.head_importance}
            if measured
            else {}
        )
        held: dict[str, Tensor] = {name: importance for name, importance in metrics.items() if importance is not None}
        description = CalibrationDescription(
            base=info,
            objective=passages.objective if passages else None,
            text=self.text.name if self.text else None,
            text_sha256=self.text.sha256 if self.text else None,
            frequency=frequency,
            counted=counted,
            measured=measured.positions if measured else 0,
            metrics=tuple(held),
            settings=self.settings,
            seed=self.asked.seed,
        )
        prior = frequencies.zipf(self.source.tokenizer, info.vocab)
        if prior.any():
            held["prior"] = (prior * (counts.sum() / prior.sum())).float()
        return Calibration(counts.float(), description=description, **held)

    def _measured(self, passages: Passages, tied: bool, device: torch.device, progress: Progress) -> Sensitivity:
        assert self.text
        examples, positions = passages.examples(self.asked.tokens, self.asked.seed)
        if positions < FEWEST:
            lines = f" in lines of at least {masked_lm.MIN_IDS}" if passages.objective == MASKED else ""
            raise CalibrationError(
                f"{self.text.name} has {positions} tokens to measure{lines}, at least {FEWEST} are needed: "
                "name a longer text"
            )
        progress.stage("measuring sensitivity", len(examples))
        common: dict[str, Any] = {
            "special_ids": passages.tokenizer.all_special_ids,
            "pad_id": passages.tokenizer.pad_token_id or 0,
            "seed": self.asked.seed,
            "batch_size": _BATCH[passages.objective],
            "on_batch": progress.advance,
        }
        if passages.objective == SENTENCE:
            model = self.source.load(transformers.AutoModel, dtype=torch.float32, new_head=True).to(device)
            found = fisher.of_sentences(model, examples, pooling=passages.settings["pooling"], **common)
        else:
            model = perplexity.load(self.source, "float32", device)
            found = fisher.of_language_model(model, examples, tied=tied, **common)
        for importance in (found.input_importance, found.head_importance):
            if importance is not None and not importance.isfinite().all():
                raise CalibrationError(f"{self.source.id} gives numbers that are not finite on {self.text.name}")
        return found


def calibrate(
    model: str,
    *,
    text: str | Path | Text | None = None,
    tokens: int = 16384,
    frequency: str | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Count a model's tokens in a text and measure how much it feels its table.

    `model` is a model argument, `text` a UTF-8 file or a `Text`; with neither a text nor a `frequency` ("zipf",
    "wordfreq:en") it is WikiText-103's validation set, with a frequency alone nothing is measured. About `tokens` of
    the text are measured, all of it is counted. Raises `UsageError`, `ModelError`, `CalibrationError` or
    `EvaluationError`.
    """
    settings = Settings(tokens, frequency, seed)
    source, chosen = ModelSource.resolve(model), pick_device(device)
    if not isinstance(text, Text):
        text = text_for(source, path=Path(text) if text is not None else None, frequency=frequency)
    return Plan(source, text, settings).run(read_table(source).info, device=chosen, progress=progress)
