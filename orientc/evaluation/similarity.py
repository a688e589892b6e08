"""How far compression turns sentence vectors; for encoders without a language-model head, without any training.

Sentences go through the model uncompressed and compressed; the cosine between both vectors of a sentence says what
compression did to it. Where sentence pairs come with scores (STS-B), Spearman's correlation of the scores with the
pair's own cosine is taken too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from orientc.errors import EvaluationError, UsageError
from orientc.evaluation import texts
from orientc.evaluation.blocks import block_sums, correlated
from orientc.evaluation.configs import SimilarityConfig
from orientc.evaluation.glue import data as glue
from orientc.evaluation.glue.metrics import spearman
from orientc.evaluation.glue.tasks import TASKS
from orientc.evaluation.left_out import Cut, cut, in_words, other_line_ends, present
from orientc.evaluation.measurement import Blocks, Measurement
from orientc.evaluation.scoring import NOT_NUMBERS, Example, collate
from orientc.evaluation.sentences import Sentences, Vectors
from orientc.evaluation.setup import Setup, prepare, tokenizer_for
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource
from orientc.models.substitute import substituted
from orientc.models.tokens import check_ids, padding_id
from orientc.storage import records
from orientc.storage.artifact import Artifact
from orientc.storage.records import Record
from orientc.storage.sizes import INPUT_ONLY
from orientc.utils import distributed
from orientc.utils.documents import document
from orientc.utils.progress import Progress

KIND = "similarity"
DEV = "dev"  # the set of STS-B that is measured on by default
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs with scores, and the name they go by in records."""

    name: str
    sha256: str
    first: Sequence[str]
    second: Sequence[str]
    scores: Sequence[float]

    def first_pairs(self, count: int | None) -> Pairs:
        """The same pairs, or the first of them where there are more than `count`."""
        return replace(self, first=self.first[:count], second=self.second[:count], scores=self.scores[:count])


@dataclass(frozen=True)
class Similarities:
    """What `similarity` found: a record of the uncompressed model, then that of an artifact."""

    records: tuple[Record, ...]

    @property
    def text(self) -> str:
        """Name of the text that was measured on."""
        return str((self.records[0].text or {})["name"])

    def as_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        return document("similarity", {"records": [record.as_dict() for record in self.records]})


def similarity(
    subject: str | Path | ModelSource | Sequence[str | Path],
    *,
    text: str | Path | Text | None = None,
    data: str | Path | None = None,
    limit: int | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    batch_size: int = 64,
    dtype: str = "float32",
    model: str | Path | ModelSource | None = None,
    force: bool = False,
    device: str | None = None,
    device_map: str | Path | None = None,
    max_memory: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Similarities:
    """Measure how far compression turns sentence vectors; for encoders without a language-model head.

    Args:
        subject: A model (hub id, folder, `.gguf` file, "demo") or the path of an artifact; or artifacts of several of a
            model's tables.
        text: UTF-8 file of sentences, one a line, or such a text; STS-B's dev set with its scores unless given.
        data: Folder that STS-B is in, as for `glue`; `nyu-mll/glue` from the hub unless given.
        limit, pooling, max_length, batch_size, dtype: See `SimilarityConfig`.
        model: Base model of an artifact, where it is not the one the artifact names.
        force: Go on, with a warning, where the artifact was made from another table.
        device: Name of a device; accelerate picks one unless given.
        device_map, max_memory: A model larger than one device is spread over several, see `DeviceMap.read`.
        out: Runs folder for the records; those of an artifact go beside it unless given.
        overwrite: Measure again what was measured before.
        revision, allow_pickle, trust_remote_code: See `ModelSource.resolve`.
        progress: Whom to tell how it goes.

    Returns:
        The records, which are also written.

    Raises:
        UsageError: For an option no evaluation can use, or both `text` and `data`.
        EvaluationError: For a model that can't be measured, or unusable sentences.
        ModelError, ArtifactError, DeviceError, OutputError: Where one of them can't be had or written.
    """
    if text is not None and data is not None:
        raise UsageError("`text` takes sentences, `data` STS-B with its scores: give one of them")
    config = SimilarityConfig(limit, pooling, max_length, batch_size, dtype)
    setup, found = prepare(
        subject,
        model=model,
        force=force,
        device=device,
        device_map=device_map,
        max_memory=max_memory,
        out=out,
        overwrite=overwrite,
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )
    with distributed.main_first():
        sentences = stsb(data) if text is None else text if isinstance(text, Text) else texts.from_file(text)
    return Similarities(SimilarityMeasurement(setup, config, sentences).all(found))


class SimilarityMeasurement(Measurement):
    """Sentence vectors of one model, to be compared with those that each of its artifacts gives.

    Args:
        setup: The model, and how it is evaluated.
        config: Options.
        sentences: Sentences, one a line, or pairs of them with scores.

    Raises:
        EvaluationError: For a model folder whose pooling is not known.
    """

    kind, names = KIND, ("cosine", "cosine_p5", "sentences")

    def __init__(self, setup: Setup, config: SimilarityConfig, sentences: Text | Pairs) -> None:
        self.sentences, self.config = sentences, config
        self._scored = sentences.first_pairs(config.limit) if isinstance(sentences, Pairs) else None
        self._how = Sentences(setup.source, config.pooling)
        if isinstance(sentences, Text) and (told := other_line_ends(sentences)):
            setup.progress.warn(told)
        super().__init__(
            setup,
            sentences,
            full_settings(setup.source, config),
            INPUT_ONLY,  # no language-model head is in use
            by_default=_by_default(setup.source, config),
            is_default=isinstance(sentences, Pairs) and sentences.name.endswith(f"/stsb/{DEV}"),
        )

    @cached_property
    def _model(self) -> PreTrainedModel:
        return self._how.load(getattr(torch, self.config.dtype), self.setup.place)

    @cached_property
    def _vectors_of(self) -> Vectors:
        return self._how.vectors(tokenizer_for(self.setup.source), self.setup.device)

    @cached_property
    def _lines(self) -> list[str]:
        if self._scored:
            return [*self._scored.first, *self._scored.second]
        assert isinstance(self.sentences, Text)
        lines = [line for line in self.sentences.content.split("\n") if line.strip()]
        if not lines:
            raise EvaluationError(f"{self.sentences.name} has no sentences in it")
        return lines[: self.config.limit]

    @cached_property
    def _given(self) -> list[str]:
        return self._how.prepared(self._lines)

    @cached_property
    def _ids(self) -> list[list[int]]:
        tokenizer = tokenizer_for(self.setup.source)
        found: list[list[int]] = tokenizer(
            self._given, truncation=True, max_length=self.full_settings["max_length"], verbose=False
        )["input_ids"]
        check_ids(self.setup.source, found)
        if empty := [number for number, ids in enumerate(found) if not ids]:
            raise EvaluationError(
                f"the tokenizer of {self.setup.source.id} makes nothing of {self._lines[empty[0]]!r:.60}, so it has no "
                "vector: leave such sentences out"
            )
        return found

    @cached_property
    def _cut(self) -> Cut:
        tokenizer = tokenizer_for(self.setup.source)
        return cut(tokenizer, [*map(len, self._ids)], self.full_settings["max_length"], self._given)

    @cached_property
    def vectors(self) -> Matrix:
        """The uncompressed model's vector for each sentence, `[sentences, dim]`; of pairs all first ones come first."""
        return self._vectors(records.ORIGINAL)

    def _policies(self, head: str, tables: Sequence[str]) -> tuple[str, ...]:
        return (INPUT_ONLY,)

    def _measured(
        self, blanks: Sequence[Record], artifacts: Sequence[Artifact]
    ) -> Iterator[tuple[dict[str, Any], Blocks]]:
        return (self._figures(blank, artifacts if blank.artifact else ()) for blank in blanks)

    def _figures(self, record: Record, artifacts: Sequence[Artifact]) -> tuple[dict[str, Any], Blocks]:
        original = vectors = self.vectors
        if artifacts:
            with substituted(self._model, artifacts):
                vectors = self._vectors(record.file_name.partition(".")[0])
        found = cosines(original, vectors)
        metrics: dict[str, Any] = {
            "cosine": float(found.mean()),
            "cosine_p5": float(np.percentile(found, 5)),
            "sentences": len(found),
        }
        own: dict[str, list[float]] = {}
        if self._scored:
            answers = cosines(*np.split(vectors, 2))  # of each pair, whose first sentences are the first half
            metrics["spearman"] = spearman(answers, self._scored.scores)
            own = correlated(answers, self._scored.scores)
        without_direction = int((~original.any(1) | ~vectors.any(1)).sum())
        metrics |= self._cut.counts("sentences") | present({"zero_vectors": without_direction})
        blocks = block_sums({"sentences": np.ones(len(found)), "cosine": found}) or {}
        return metrics, blocks | own

    def _left_out(self, metrics: dict[str, Any]) -> str | None:
        length = self.full_settings["max_length"]
        phrases = {
            "cut_tokens": f"{{}} tokens of {metrics.get('cut_sentences')} sentences that are cut to {length} tokens do "
            "not count",
            "zero_vectors": "{} sentences have a vector of zeros, which has no direction: its cosine counts as 0",
        }
        return in_words(self.sentences.name, {phrase: metrics.get(name, 0) for name, phrase in phrases.items()})

    @torch.inference_mode()
    def _vectors(self, name: str) -> Matrix:
        """A vector for each line, `[lines, dim]`; lines of like length share a batch."""
        self.setup.progress.stage(name, len(self._lines))
        pad_id, encoded = padding_id(self.setup.source), self._ids
        order = sorted(range(len(encoded)), key=lambda line: len(encoded[line]))
        size = self.config.batch_size
        found: list[tuple[int, Any]] = []
        for number, start in enumerate(range(0, len(order), size)):
            lines = order[start : start + size]
            if number % distributed.count() == distributed.index():
                batch = collate([Example(encoded[line], [], []) for line in lines], pad_id)
                ids, mask = (batch[name].to(self.setup.device) for name in ("input_ids", "attention_mask"))
                states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
                pooled = self._vectors_of(states.float(), mask)
                found += zip(lines, pooled.cpu().numpy(), strict=True)
            self.setup.progress.advance(len(lines))
        ordered = sorted(distributed.gather(found), key=lambda entry: entry[0])
        vectors = np.array([vector for _, vector in ordered], dtype=np.float64)
        if not np.isfinite(vectors).all():
            raise EvaluationError(NOT_NUMBERS.format("the model's sentence vectors"))
        return vectors


def full_settings(source: ModelSource, config: SimilarityConfig) -> dict[str, Any]:
    """The settings of a record: nothing left to a default; what is not asked for, a sentence encoder's folder says."""
    how = Sentences(source, config.pooling)
    limit = config.max_length or how.texts.max_length or source.longest
    return {"limit": config.limit} | how.settings | {"max_length": min(limit, source.longest), "dtype": config.dtype}


def _by_default(source: ModelSource, config: SimilarityConfig) -> dict[str, Any]:
    """The settings where nothing is asked for; of a folder whose own modules are not known, all but the pooling."""
    try:
        return full_settings(source, SimilarityConfig())
    except EvaluationError:
        named = full_settings(source, SimilarityConfig(pooling=config.pooling))
        return {name: value for name, value in named.items() if name not in Sentences(source, config.pooling).settings}


def cosines(first: Matrix, second: Matrix) -> Matrix:
    """Cosine of each row of one with the same row of the other; 0 where a vector is zero. All must be finite."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products: Matrix = np.einsum("nd,nd->n", first, second)
    found: Matrix = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return found


def stsb(folder: str | Path | None, split: str = DEV) -> Pairs:
    """STS-B's dev or train set from a folder, or through the hub; the latter shuffled, as it is sorted by origin.

    Raises `EvaluationError` where it is not to be had.
    """
    task, place = TASKS["stsb"], None if folder is None else Path(folder)
    data = glue.load(task, place, train=split == "train")
    rows = data.evaluation[""] if data.train is None else data.train.shuffle(seed=0, keep_in_memory=True)
    return Pairs(f"{data.name}/stsb/{split}", data.sha256, rows["sentence1"][:], rows["sentence2"][:], rows["label"][:])
