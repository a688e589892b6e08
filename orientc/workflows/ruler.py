"""One measure of one model on one text: what artifacts, and a folder that was exported, lose by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from orientc.errors import EvaluationError
from orientc.evaluation import statistics
from orientc.evaluation.blocks import block_sums
from orientc.evaluation.configs import PerplexityConfig, SimilarityConfig
from orientc.evaluation.figures import sample
from orientc.evaluation.glue.finetuned import FinetunedMeasurement, Rows
from orientc.evaluation.perplexity import PerplexityMeasurement
from orientc.evaluation.setup import Setup
from orientc.evaluation.similarity import Pairs, SimilarityMeasurement, cosines
from orientc.evaluation.texts import Text
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies
from orientc.storage.records import Record
from orientc.workflows.tolerance import PERPLEXITY, SIMILARITY, SPEARMAN

# the figure of a record that a measure without rows is
_FIGURES = {PERPLEXITY: "perplexity", SIMILARITY: "cosine", SPEARMAN: "spearman"}


@dataclass(frozen=True)
class Outcome:
    """What a smaller model loses by a measure.

    Attributes:
        original: The uncompressed model's figure.
        here: The smaller model's.
        difference: How much worse it is, in nats per token for perplexity, else as a share.
        error: The difference's standard error; both were measured on the same text, so that it is a paired one.
        also: Other figures of the smaller model, by name.
    """

    original: float
    here: float
    difference: float
    error: float
    also: Mapping[str, float] = field(default_factory=dict)


class Ruler:
    """A measure of a model on a text.

    Args:
        setup: The model, and how it is evaluated.
        measure: "perplexity", "similarity", "spearman", or a task's name.
        text: The text, the sentence pairs that Spearman's correlation needs, or the task's rows.
        limit: Measure on so many lines, tokens (causal), pairs or rows.
        languages: Of an encoder-decoder's pairs, the languages of a multilingual tokenizer.
    """

    def __init__(
        self, setup: Setup, measure: str, text: Text | Pairs | Rows, limit: int | None, languages: str | None = None
    ) -> None:
        self._setup, self.measure, self.text, self._limit = setup, measure, text, limit
        self._languages = languages
        # made at once: it refuses a model that it can't measure
        self._measurement = self._measurement_of(setup)

    def artifact(self, subject: Subject) -> Outcome:
        """What the model loses with artifacts in the places of its tables, under the head policy that it ships with."""
        original = self.original
        policy = head_policies(self._setup.source.skeleton, subject.tables)[-1]
        [record] = self._measurement.compressed(subject, policy)
        return self._outcome(original, record)

    def written(self, write: Callable[[Path], object]) -> Outcome:
        """What a folder loses that is written for this alone."""
        with TemporaryDirectory() as place:
            write(folder := Path(place) / "model")
            return self.folder(ModelSource.resolve(folder))

    def folder(self, folder: ModelSource) -> Outcome:
        """What an exported folder loses against the model.

        No record of it is left: among the model's records it would stand for another model, uncompressed.
        """
        with TemporaryDirectory() as records:
            setup = Setup(folder, Path(records), self._setup.device, progress=self._setup.progress)
            exported = self._measurement_of(setup)
            if self.measure != SIMILARITY:
                return self._outcome(self.original, exported.original())
            assert isinstance(self._measurement, SimilarityMeasurement)
            assert isinstance(exported, SimilarityMeasurement)
            found = cosines(self._measurement.vectors, exported.vectors)
            known = sample("cosine", block_sums({"sentences": np.ones(len(found)), "cosine": found}))
            error = known.estimate().standard_error if known else 0.0
            return Outcome(1.0, float(found.mean()), float(1 - found.mean()), error)

    @property
    def before(self) -> float:
        """The uncompressed model's figure; a mean cosine is that of vectors with themselves."""
        return 1.0 if self.measure == SIMILARITY else float(self.original.metrics[self._figure])

    @cached_property
    def original(self) -> Record:
        """The uncompressed model's record."""
        return self._measurement.original()

    @property
    def _figure(self) -> str:
        """The measure's name in a record."""
        return self.text.figure if isinstance(self.text, Rows) else _FIGURES[self.measure]

    def _measurement_of(self, setup: Setup) -> PerplexityMeasurement | SimilarityMeasurement | FinetunedMeasurement:
        if isinstance(self.text, Rows):
            return FinetunedMeasurement(setup, self.text, self._limit)
        if self.measure == PERPLEXITY:
            assert isinstance(self.text, Text)
            return PerplexityMeasurement(
                setup, PerplexityConfig(limit=self._limit, kl=False, languages=self._languages), self.text
            )
        return SimilarityMeasurement(setup, SimilarityConfig(limit=self._limit), self.text)

    def _outcome(self, original: Record, record: Record) -> Outcome:
        difference, error = self._lost(original, record)
        name = self._figure
        also: dict[str, float] = {}
        if self.measure == SPEARMAN and record.artifact:
            also = {"cosine": float(record.metrics["cosine"])}
        elif isinstance(self.text, Rows):
            also = {other: float(value) for other, value in record.metrics.items() if other != name}
        return Outcome(float(original.metrics[name]), float(record.metrics[name]), difference, error, also)

    def _lost(self, original: Record, record: Record) -> tuple[float, float]:
        """How much worse a record of the same text is, and the standard error of that, by the paired test.

        Raises `EvaluationError` where there is too little text to tell an error from.
        """
        name = "loss" if self.measure == PERPLEXITY else self._figure  # a difference in nats
        if math.isinf(float(record.metrics[name])):
            return math.inf, 0.0
        before, after = sample(name, original.blocks), sample(name, record.blocks)
        found = statistics.paired(after, before) if before and after else None
        if found is None:
            raise EvaluationError("there is too little text to tell an error from: name a longer one with `text`")
        worse = found.value if self.measure == PERPLEXITY else -found.value
        # where no answer changes, the next one may
        least = 1 / len(self._measurement.rows) if isinstance(self._measurement, FinetunedMeasurement) else 0.0
        return worse, max(found.standard_error, least)
