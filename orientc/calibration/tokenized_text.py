"""A text as a model's tokenizer gives it: counts of its tokens, and the inputs that are measured or trained on.

What inputs are depends on the objective: a masked model's lines, masked as its perplexity protocol does; a causal
model's windows behind a BOS token; an encoder-decoder's pairs; whole lines for sentence vectors. They come in a
shuffled order, so that a part of the text is representative of all of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orientc.errors import CalibrationError
from orientc.evaluation import causal_lm, finetuning, masked_lm, perplexity, protocols, seq2seq
from orientc.evaluation.configs import PerplexityConfig
from orientc.evaluation.left_out import Cut, cut, in_words, other_line_ends
from orientc.evaluation.masked_lm import WholeWordMasker
from orientc.evaluation.pairs import Pair, languages_of, parse
from orientc.evaluation.scoring import Example, decoder_inputs
from orientc.evaluation.sentences import Sentences
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource
from orientc.models.tokens import check_ids, drawable_ids
from orientc.utils.progress import Progress

T = TypeVar("T")

MASKED, CAUSAL, SEQ2SEQ, SENTENCE, CLASSES = (
    protocols.MASKED,
    protocols.CAUSAL,
    protocols.SEQ2SEQ,
    "sentence",
    "classes",
)
LONGEST = 256  # tokens of an input: the fewer and longer inputs are, the less of the text they represent
_MASKS = 0.8 * masked_lm.SHARE  # of a masked model's tokens, the share that its input has as masks
_BATCH = 512  # lines tokenized at a time


def objective_of(source: ModelSource) -> str:
    """What a model's importance matrices are measured by: by its protocol, "classes", or "sentence" without a head.

    Raises `CalibrationError` for an encoder-decoder that does not write text.
    """
    protocol = protocols.head_protocol(source)
    if source.is_encoder_decoder and protocol is None:
        raise CalibrationError(
            f"{source.id} is an encoder-decoder that does not write text for text, whose importance matrices can't be "
            "measured: calibrate it with a "
            "`frequency` and no text, for counts alone"
        )
    return protocol or (CLASSES if finetuning.is_classifier(source) else SENTENCE)


class TokenizedText:
    """One text as one model reads it.

    Args:
        source: The model.
        text: The text.
        objective: What the model is read for, in the place of what it was saved for: "sentence" for a classifier.
        languages: Of pairs, the languages of a multilingual tokenizer, as "en,de".

    Attributes:
        objective: "masked", "causal" or "seq2seq" with a language-model head, "classes" with one for whole texts, else
            "sentence".
        settings: how the text is cut up: `max_ids` or `window` tokens, and `bos`, `languages`, or `pooling` and what
            else a sentence encoder's folder says.

    Raises:
        CalibrationError: for an encoder-decoder that does not write text, or languages where there are no pairs.
        EvaluationError: where the model can't be evaluated, as a masked one without a mask token.
    """

    def __init__(
        self, source: ModelSource, text: Text, objective: str | None = None, languages: str | None = None
    ) -> None:
        self._source, self.tokenizer, self.text = source, source.tokenizer, text
        self.objective = objective or objective_of(source)
        if languages is not None and self.objective != SEQ2SEQ:
            raise CalibrationError(f"{source.id} is no encoder-decoder: `languages` is for the pairs that those read")
        if self.objective == SENTENCE:
            self._sentences = Sentences(source)
            longest = min(self._sentences.texts.max_length or source.longest, source.longest)
            self.settings = {"max_ids": min(LONGEST, longest)} | self._sentences.settings
        elif self.objective == CLASSES:
            self.settings = {"max_ids": min(LONGEST, source.longest)}
        elif self.objective == SEQ2SEQ:
            full = perplexity.full_settings(source, PerplexityConfig(languages=languages))
            self.tokenizer = seq2seq.tokenizer_of(source, languages_of(languages))
            self.settings = {"max_ids": min(LONGEST, full["max_ids"])}
            self.settings |= {name: full[name] for name in ("languages",) if name in full}
        else:
            full = perplexity.full_settings(source, PerplexityConfig())
            if self.objective == MASKED:
                self.settings = {"max_ids": min(LONGEST, full["max_ids"])}
            else:
                self.settings = {"window": min(LONGEST, full["window"]), "bos": full["bos"]}

    def counts(self, vocab: int, progress: Progress) -> Tensor:
        """Count each token in the inputs that the whole text makes, special ones too: float64 `[vocab]`.

        Of pairs that is both sides, and the sources alone where a decoder looks tokens up in another table.

        Raises `ModelError` where the tokenizer gives a token that the table has no row for.
        """
        own = [self._bos if self.objective == CAUSAL else None, self._mask]
        check_ids(self._source, [[token_id for token_id in own if token_id is not None]])
        if self.objective == CAUSAL:
            counts = np.bincount(self._stream, minlength=vocab)
            if self._bos is not None:
                counts[self._bos] += -(-len(self._stream) // self.settings["window"])
        elif self.objective == SEQ2SEQ:
            apart, batches = self._source.decoder_rows is not None, self._pairs_ids(progress)
            counts = _counted(vocab, (sources if apart else [*sources, *targets] for sources, targets in batches))
        else:
            counts = _counted(vocab, self._lines_ids(progress))
        check_ids(self._source, [[len(counts) - 1]])
        total = torch.from_numpy(counts).double()
        if self._mask is not None:
            total[self._mask] += torch.round(_MASKS * total.sum())
        return total

    def decoder_counts(self) -> Tensor | None:
        """The counts of what a decoder looks up, float64 `[rows]`; None where that is no table of its own.

        Raises `ModelError` as `counts` does.
        """
        rows = self._source.decoder_rows if self.objective == SEQ2SEQ else None
        if rows is None:
            return None
        counts = _counted(rows, (targets for _, targets in self._pairs_ids(Progress())))  # `counts` tells what is cut
        check_ids(self._source, [[len(counts) - 1]], decoded=True)
        return torch.from_numpy(counts).double()

    def tell_left_out(self, progress: Progress) -> None:
        """Say what of the text no input has, as `counts` does too."""
        if self.objective != CAUSAL:
            for _ in self._lines_ids(progress):
                pass

    def examples(self, tokens: int, seed: int) -> tuple[list[Example], int]:
        """Take inputs until they have `tokens` positions without a special token, or all; and how many they have."""
        special = frozenset(self.tokenizer.all_special_ids)
        found: list[Example] = []
        positions = 0
        for example in self.stream(seed):
            if positions >= tokens:
                break
            found.append(example)
            read = (*example.input_ids, *(example.targets if example.decoded else ()))
            positions += sum(token_id not in special for token_id in read)
        return found, positions

    def stream(self, seed: int) -> Iterator[Example]:
        """Yield all inputs, each once, in an order and with masks drawn by `seed`.

        Raises `ModelError` where the tokenizer gives a token that the table has no row for.
        """
        kinds = {MASKED: self._masked, CAUSAL: self._windows, SEQ2SEQ: self._paired}
        kinds |= dict.fromkeys((SENTENCE, CLASSES), self._whole_lines)
        for example in kinds[self.objective](seed):
            check_ids(self._source, [example.input_ids])
            check_ids(self._source, [example.targets], decoded=example.decoded)
            yield example

    @cached_property
    def _lines(self) -> list[str]:
        return [line for line in self.text.content.split("\n") if line.strip()]

    def _lines_ids(self, progress: Progress) -> Iterator[list[list[int]]]:
        """Ids of all lines, some lines at a time; at the end what was cut away is said."""
        if told := other_line_ends(self.text):
            progress.warn(told)
        progress.stage("counting tokens", len(self._lines))
        lost, max_ids = Cut(), self.settings["max_ids"]
        for lines in _batches(self._lines):
            ids = self._ids(lines)
            lost += cut(self.tokenizer, [*map(len, ids)], max_ids, lines)
            yield ids
            progress.advance(len(lines))
        phrase = f"{{}} tokens of {lost.texts} lines that are cut to {max_ids} tokens are left out"
        if told := in_words(self.text.name, {phrase: lost.tokens}):
            progress.warn(told)

    @cached_property
    def _pairs(self) -> list[Pair]:
        pairs = parse(self.text.name, self.text.content)
        return [pair for pair in pairs if all(side.strip() for side in pair)]

    def _pairs_ids(self, progress: Progress) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
        """Ids that encoder and decoder look up, of all pairs, some at a time; at the end what was cut away is said."""
        progress.stage("counting tokens", len(self._pairs))
        lost = Cut()
        for pairs in _batches(self._pairs):
            sources: list[list[int]] = []
            targets: list[list[int]] = []
            for example, own in seq2seq.examples(self.tokenizer, pairs, self.settings["max_ids"]):
                read = decoder_inputs(self._source.outline, torch.tensor([example.targets]))
                sources.append(example.input_ids)
                targets.append(read[0].tolist())
                lost += own
            yield sources, targets
            progress.advance(len(pairs))
        phrase = f"{{}} tokens of {lost.texts} sources or targets that are cut to {self.settings['max_ids']} tokens"
        if told := in_words(self.text.name, {f"{phrase} are left out": lost.tokens}):
            progress.warn(told)

    def _paired(self, seed: int) -> Iterator[Example]:
        pairs = _shuffled(self._pairs, seed)
        return (example for example, _ in seq2seq.examples(self.tokenizer, pairs, self.settings["max_ids"]))

    @cached_property
    def _stream(self) -> NDArray[np.int64]:
        """All tokens of the text, one after the other."""
        encoded = self.tokenizer(self.text.content, add_special_tokens=False, verbose=False)["input_ids"]
        return np.array(encoded, dtype=np.int64)

    @property
    def _bos(self) -> int | None:
        return self.tokenizer.bos_token_id if self.settings["bos"] else None

    @property
    def _mask(self) -> int | None:
        return self.tokenizer.mask_token_id if self.objective == MASKED else None

    def _ids(self, lines: Sequence[str]) -> list[list[int]]:
        texts = self._sentences.prepared(lines) if self.objective == SENTENCE else list(lines)
        ids: list[list[int]] = self.tokenizer(texts, truncation=True, max_length=self.settings["max_ids"])["input_ids"]
        return ids

    def _masked(self, seed: int) -> Iterator[Example]:
        masker = WholeWordMasker(self.tokenizer, self.settings["max_ids"], drawable_ids(self._source))
        for batch in _batches(_shuffled([*enumerate(self._lines)], seed)):
            numbers, lines = zip(*batch, strict=True)
            masks = (masker.mask(line, seed) for line in masker.tokenize(lines, numbers))
            yield from (example for example in masks if example.positions)

    def _windows(self, seed: int) -> Iterator[Example]:
        window = self.settings["window"]
        for start in _shuffled(range(0, len(self._stream), window), seed):
            ids = self._stream[start : start + window].tolist()
            yield from causal_lm.windows(ids, window=window, stride=window, bos_id=self._bos)

    def _whole_lines(self, seed: int) -> Iterator[Example]:
        for batch in _batches(_shuffled(self._lines, seed)):
            yield from (Example(ids, [], []) for ids in self._ids(batch))


def _counted(vocab: int, batches: Iterable[Sequence[Sequence[int]]]) -> NDArray[np.int64]:
    """How often each token is there, of as many as the table has rows, or the highest asks for."""
    counts = np.zeros(vocab, dtype=np.int64)
    for lines in batches:
        found = np.bincount(np.concatenate([np.array(ids, dtype=np.int64) for ids in lines]))
        counts = np.pad(counts, (0, max(0, len(found) - len(counts))))
        counts[: len(found)] += found
    return counts


def _shuffled(values: Sequence[T], seed: int) -> list[T]:
    return random.Random(seed).sample(values, len(values))


def _batches(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))
