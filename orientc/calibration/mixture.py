"""The text that a model is calibrated on, or several, each with a weight."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from orientc.calibration.tokenized_text import TokenizedText
from orientc.errors import UsageError
from orientc.evaluation import texts
from orientc.evaluation.protocols import reads_pairs
from orientc.evaluation.scoring import Example
from orientc.evaluation.texts import COLUMN, Text
from orientc.models.source import ModelSource
from orientc.utils.progress import Progress

Given = str | Path | Text


@dataclass(frozen=True)
class Mixture:
    """Texts and their weights. A text's share is its weight's part of the sum, however long the text is.

    Attributes:
        parts: texts and weights, in any order of size.
    """

    parts: tuple[tuple[Text, float], ...]

    @classmethod
    def of(
        cls,
        source: ModelSource,
        text: Given | Mixture | Sequence[str | Path] | None = None,
        dataset: str | Sequence[str] | None = None,
        column: str = COLUMN,
        languages: str | None = None,
    ) -> Mixture:
        """The texts that are named, or the one that a model is calibrated on where none is.

        Args:
            source: the model.
            text: UTF-8 files, each FILE or FILE=WEIGHT; or a text or mixture, which is taken as it is.
            dataset: texts out of data sets, each NAME[:CONFIG][:SPLIT], with or without =WEIGHT.
            column: the data sets' column that holds the text.
            languages: of pairs, what source and target are called, as "en,de".

        Raises:
            UsageError: for a weight that is no number above 0, or a column without a data set.
            EvaluationError: where a text can't be had.
        """
        if isinstance(text, Mixture):
            return text
        files: list[Given] = [text] if isinstance(text, str | Path | Text) else [*(text or ())]
        sets = [dataset] if isinstance(dataset, str) else [*(dataset or ())]
        if not sets and column != COLUMN:
            raise UsageError("`column` is one of a data set: name that with `dataset`")
        if not files and not sets:
            return cls(((texts.default_calibration_text(source), 1.0),))
        found = []
        for file in files:
            if isinstance(file, Text):
                found.append((texts.for_model(source, file, languages), 1.0))
                continue
            name, weight = (str(file), 1.0) if Path(file).exists() else weighted(str(file), "text")
            found.append((texts.for_model(source, texts.from_file(name), languages), weight))
        for entry in sets:
            name, weight = weighted(entry, "dataset")
            read = texts.from_dataset(name, column, pairs=reads_pairs(source))
            found.append((texts.for_model(source, read, languages), weight))
        return cls(tuple(found))

    @property
    def shares(self) -> list[float]:
        """Each text's share, in the order of `parts`."""
        whole = sum(weight for _, weight in self.parts)
        return [weight / whole for _, weight in self.parts]

    @property
    def name(self) -> str:
        """The texts' names, with the weights that are not 1."""
        return " + ".join(
            text.name if weight == 1 or len(self.parts) == 1 else f"{text.name}={weight:g}"
            for text, weight in self.parts
        )

    @property
    def sha256(self) -> str:
        """The hash of the text, or of all texts' hashes with their shares."""
        (first, _), *others = self.parts
        if not others:
            return first.sha256
        listed = (f"{text.sha256} {share!r}\n" for (text, _), share in zip(self.parts, self.shares, strict=True))
        return hashlib.sha256("".join(listed).encode()).hexdigest()


def weighted(named: str, field: str) -> tuple[str, float]:
    """Split NAME=WEIGHT; a name alone has weight 1.

    Raises `UsageError` that names `field` for a weight that is no number above 0.
    """
    name, sign, weight = named.rpartition("=")
    if not sign:
        return named, 1.0
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not name or not 0 < value < math.inf:
        raise UsageError(f"`{field}` {named!r}: what stands behind = is a weight, a number above 0")
    return name, value


def _endless(text: TokenizedText, seed: int) -> Iterator[Example]:
    for number in itertools.count(seed):
        example = None
        for example in text.stream(number):
            yield example
        if example is None:
            return


class TokenizedMixture:
    """The texts of a mixture as one model reads them; raises as `TokenizedText` does.

    Attributes:
        texts: the mixture.
        objective, settings: as those of a `TokenizedText`; they are the same for all texts.
    """

    def __init__(
        self, source: ModelSource, mixture: Mixture, languages: str | None = None, objective: str | None = None
    ) -> None:
        self.texts = mixture
        self._parts = [TokenizedText(source, text, objective, languages) for text, _ in mixture.parts]
        self.objective, self.settings = self._parts[0].objective, self._parts[0].settings

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self._parts[0].tokenizer

    def counts(self, vocab: int, progress: Progress) -> Tensor:
        """Count each token as `TokenizedText.counts` does, the counts of each text scaled to its share of the sum."""
        return self._mixed([part.counts(vocab, progress) for part in self._parts])

    def decoder_counts(self) -> Tensor | None:
        """The same of `TokenizedText.decoder_counts`."""
        found = [part.decoder_counts() for part in self._parts]
        return self._mixed([counts for counts in found if counts is not None]) if found[0] is not None else None

    def _mixed(self, found: Sequence[Tensor]) -> Tensor:
        """Counts of each text scaled to its share of the sum."""
        if len(found) == 1:
            return found[0]
        whole = sum(float(counts.sum()) for counts in found)
        scaled = [
            counts * (share * whole / counts.sum()) for counts, share in zip(found, self.texts.shares, strict=True)
        ]
        return torch.stack(scaled).sum(0)

    def tell_left_out(self, progress: Progress) -> None:
        """Say what of the texts no input has, as `counts` does too."""
        for part in self._parts:
            part.tell_left_out(progress)

    def stream(self, seed: int) -> Iterator[Example]:
        """Yield inputs without end, each text's as many that it has its share of the ids; none where a text has none.

        Each pass over a text has an order and masks of its own, drawn by `seed` and the number of the pass.
        """
        streams = [_endless(part, seed) for part in self._parts]
        taken = [0.0] * len(streams)  # ids by share
        while True:
            least = taken.index(min(taken))
            example = next(streams[least], None)
            if example is None:
                return
            taken[least] += len(example.input_ids) / self.texts.shares[least]
            yield example

    def examples(self, tokens: int, seed: int, progress: Progress) -> tuple[list[Example], int]:
        """Take inputs until each text has its share of `tokens` positions, or all of its own; and how many they have.

        What a text of several has too few of is said.
        """
        found: list[Example] = []
        positions = 0
        for part, share in zip(self._parts, self.texts.shares, strict=True):
            wanted = round(share * tokens)
            own, count = part.examples(wanted, seed)
            if count < wanted and len(self._parts) > 1:
                progress.warn(f"{part.text.name} has {count} tokens to measure, its share would be {wanted}")
            found += own
            positions += count
        return found, positions
