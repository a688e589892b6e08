"""Perplexity of a model, uncompressed and with a compressed table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from orientc.errors import EvaluationError, UsageError
from orientc.evaluation import causal_lm, masked_lm, seq2seq, texts
from orientc.evaluation.configs import PerplexityConfig, check_choice
from orientc.evaluation.left_out import in_words, other_line_ends, present
from orientc.evaluation.measurement import Blocks, Measurement
from orientc.evaluation.option_values import HEADS
from orientc.evaluation.pairs import languages_of, parse
from orientc.evaluation.protocols import CAUSAL, MASKED, SEQ2SEQ, protocol_of
from orientc.evaluation.scoring import NOT_NUMBERS, Selection
from orientc.evaluation.setup import Setup, prepare
from orientc.evaluation.side_by_side import Compressed, Score, SideBySide
from orientc.evaluation.texts import Text
from orientc.models.device_map import DeviceMap
from orientc.models.lengths import usable_positions
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies
from orientc.models.tokens import check_ids, drawable_ids, padding_id
from orientc.storage import records
from orientc.storage.artifact import Artifact
from orientc.storage.records import Record
from orientc.storage.sizes import BOTH, INPUT_ONLY, TIED
from orientc.utils import distributed
from orientc.utils.documents import document
from orientc.utils.progress import Progress

KIND = "perplexity"
LARGEST_WINDOW = 1024
# More tokens at once than a CPU's caches hold cost it time. Of a causal text every token is scored, and the logits of
# one are as wide as the vocabulary.
CPU_TOKENS = 1_024
DEVICE_TOKENS = {MASKED: 16_384, CAUSAL: 4_096, SEQ2SEQ: 4_096}


@dataclass(frozen=True)
class Perplexities:
    """What `perplexity` found: a record of the uncompressed model, then one for each head policy of an artifact.

    `protocol` is "masked", "causal" or "seq2seq".
    """

    protocol: str
    records: tuple[Record, ...]

    @property
    def text(self) -> str:
        """Name of the text that was measured on."""
        return str((self.records[0].text or {})["name"])

    def as_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        own = {"protocol": self.protocol, "records": [record.as_dict() for record in self.records]}
        return document("perplexity", own)


def perplexity(
    subject: str | Path | ModelSource | Sequence[str | Path],
    *,
    text: str | Path | Text | None = None,
    dataset: str | None = None,
    column: str = texts.COLUMN,
    languages: str | None = None,
    head: str = BOTH,
    limit: int | None = None,
    window: int | None = None,
    stride: int | None = None,
    bos: bool = True,
    batch_size: int | None = None,
    seed: int = 0,
    dtype: str = "float32",
    kl: bool = True,
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
) -> Perplexities:
    """Measure perplexity, by the protocol of the model's architecture; of an artifact, beside its base model.

    And how far an artifact's predictions are from the base model's, over the scored tokens: mean KL divergence, its
    99th percentile and maximum, in nats, and how often the most likely token is the same.

    Args:
        subject: A model (hub id, folder, `.gguf` file, "demo") or the path of an artifact; or artifacts of several of a
            model's tables.
        text: UTF-8 file to score, or a text; WikiText-103's raw test set unless given, for "demo" a text of its own.
            For an encoder-decoder it is pairs of source and target, as TSV or JSON lines.
        dataset: A text, or pairs, out of a data set: NAME[:CONFIG][:SPLIT].
        column: The data set's column that holds the text; pairs are in "translation", or a column each.
        head: Which of a tied model's two figures to measure: "input-only", "tied" or "both". A head with a table of its
            own has one, by which tables are compressed.
        limit, window, stride, bos, batch_size, seed, dtype, kl, languages: See `PerplexityConfig`.
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
        UsageError: For an option no evaluation can use.
        EvaluationError: For a model without a perplexity, an option its protocol can't use, or an unusable text.
        ModelError, ArtifactError, DeviceError, OutputError: Where one of them can't be had or written.
    """
    config = PerplexityConfig(limit, window, stride, bos, seed, batch_size, dtype, kl, languages)
    check_choice("head", head, HEADS)
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
    if head != BOTH and not found.artifact:
        raise UsageError("`head` is about an artifact's figures; here the argument is a model itself")
    full_settings(setup.source, config)  # before a text is fetched for nothing
    with distributed.main_first():
        scored = texts.scored_text(setup.source, text, dataset, column, languages)
    return Perplexities(protocol_of(setup.source), PerplexityMeasurement(setup, config, scored).all(found, head))


class PerplexityMeasurement(Measurement):
    """Perplexity of one model on one text, to be used for each of its artifacts in turn.

    Args:
        setup: The model, and how it is evaluated.
        config: Options.
        text: As in `perplexity`.
        several: Whether several artifacts are measured in turn: what the uncompressed model makes of the text is kept
            in memory then, where there is room.

    Raises:
        EvaluationError: For a model without a perplexity, an option its protocol can't use, or an unusable text.
    """

    kind, names = KIND, ("perplexity", "loss", "tokens")

    def __init__(
        self, setup: Setup, config: PerplexityConfig, text: str | Path | Text | None = None, *, several: bool = False
    ) -> None:
        settings = full_settings(setup.source, config)  # before a text is fetched for nothing
        with distributed.main_first():
            self.text = texts.scored_text(setup.source, text, languages=config.languages)
        self.config, self._several = config, several
        if settings["protocol"] == MASKED and (told := other_line_ends(self.text)):
            setup.progress.warn(told)
        super().__init__(
            setup,
            self.text,
            settings,
            TIED if setup.table.tied else INPUT_ONLY,
            by_default=full_settings(setup.source, PerplexityConfig(languages=config.languages)),
            is_default=texts.is_scored_by_default(setup.source, self.text),
        )

    @cached_property
    def _model(self) -> PreTrainedModel:
        return load(self.setup.source, self.config.dtype, self.setup.place)

    @cached_property
    def _selection(self) -> Selection:
        source = self.setup.source
        found = _select(source, self.text, self.full_settings)
        check_ids(source, (example.input_ids for example in found.examples))
        check_ids(source, (example.targets for example in found.examples), decoded=source.is_encoder_decoder)
        if not found.examples:
            raise EvaluationError(
                f"{self.text.name} has nothing to score: too little text for the {self.full_settings['protocol']} "
                "protocol"
            )
        return found

    @cached_property
    def _side_by_side(self) -> SideBySide:
        return SideBySide(
            self._model,
            self._selection.examples,
            tokens=tokens_at_once(self.full_settings["protocol"], self.setup.device),
            batch_size=self.config.batch_size,
            pad_id=padding_id(self.setup.source),
            keep_states=self._several,
        )

    def _names(self, blank: Record) -> tuple[str, ...]:
        return (*self.names, *records.DIVERGENCES) if blank.artifact and self.config.kl else self.names

    def _policies(self, head: str, tables: Sequence[str]) -> tuple[str, ...]:
        policies = head_policies(self.setup.source.skeleton, tables)
        if head == BOTH:
            return policies
        if head not in policies:
            why = f"the head {'shares' if TIED in policies else 'does not share'} the table"
            raise EvaluationError(
                f"{why}, and of {' and '.join(tables)} compressed there is no {head} figure: leave `head` out"
            )
        return (head,)

    def _measured(
        self, blanks: Sequence[Record], artifacts: Sequence[Artifact]
    ) -> Iterator[tuple[dict[str, Any], Blocks]]:
        names = [blank.head if blank.artifact else records.ORIGINAL for blank in blanks]
        policies = [name for name in names if name != records.ORIGINAL]
        self.setup.progress.stage(", ".join(names), len(self._selection.examples))
        scores = self._side_by_side.score(
            Compressed.of(self._model, artifacts, policies) if artifacts and policies else None,
            original=records.ORIGINAL in names,
            kl=self.config.kl,
            on_batch=self.setup.progress.advance,
        )
        return ((_figures(scores[name]) | self._selection.left_out, scores[name].blocks) for name in names)

    def _left_out(self, metrics: dict[str, Any]) -> str | None:
        settings = self.full_settings
        cut = f"{metrics.get('cut_lines')} lines"
        if settings["protocol"] == SEQ2SEQ:
            cut = f"{metrics.get('cut_texts')} sources or targets"
        phrases = {
            "short_lines": f"{{}} lines of fewer than {masked_lm.MIN_IDS} tokens are not scored",
            "unmasked_lines": "{} lines have no whole word short enough to mask, and are not scored",
            "cut_tokens": f"{{}} tokens of {cut} that are cut to {settings.get('max_ids')} tokens are left out",
            "blank_pairs": "{} pairs with nothing on a side are not scored",
            "unscored_tokens": "{} tokens that begin a window are not scored: without a BOS token there is nothing to "
            "predict them from",
        }
        return in_words(self.text.name, {phrase: metrics.get(name, 0) for name, phrase in phrases.items()})


def _figures(score: Score) -> dict[str, Any]:
    """A record's figures. Raises `EvaluationError` where one is NaN, in all processes alike."""
    found = {"perplexity": score.perplexity, "loss": score.loss, "tokens": score.tokens, **score.divergence}
    if any(map(math.isnan, found.values())):
        raise EvaluationError(NOT_NUMBERS.format("the model's predictions"))
    return found


def load(source: ModelSource, dtype: str, place: torch.device | DeviceMap) -> PreTrainedModel:
    """The model with the head its protocol scores, on a device, or spread over several.

    Raises `EvaluationError` for a causal protocol and a model that sees the tokens it predicts.
    """
    auto = {
        MASKED: transformers.AutoModelForMaskedLM,
        CAUSAL: transformers.AutoModelForCausalLM,
        SEQ2SEQ: transformers.AutoModelForSeq2SeqLM,
    }
    protocol = protocol_of(source)
    model = source.load(auto[protocol], dtype=getattr(torch, dtype), place=place)
    if protocol == CAUSAL and causal_lm.sees_later_tokens(model, source.tokenizer.all_special_ids):
        raise EvaluationError(
            f"{source.id} ({type(model).__name__}) sees the tokens that it is to predict, so it has no causal figures: "
            "name a causal or a masked language model, or measure its sentence vectors with orientc similarity"
        )
    return model


def tokens_at_once(protocol: str, device: torch.device) -> int:
    """How many tokens go through a model at once, padding counted."""
    return CPU_TOKENS if device.type == "cpu" else DEVICE_TOKENS[protocol]


def full_settings(source: ModelSource, config: PerplexityConfig) -> dict[str, Any]:
    """The settings of a record: nothing left to a default, and only what the protocol has.

    Raises `EvaluationError` for a model without a perplexity, or an option that its protocol can't use.
    """
    protocol = protocol_of(source)
    own = {"protocol": protocol, "limit": config.limit}
    if protocol == SEQ2SEQ:
        return own | _seq2seq_settings(source, config) | {"dtype": config.dtype}
    if config.languages is not None:
        raise EvaluationError(f"{source.id} is no encoder-decoder: `languages` is for the pairs that those read")
    if protocol == MASKED:
        return own | _masked_settings(source, config) | {"dtype": config.dtype}
    return own | _causal_settings(source, config, usable_positions(source.outline)) | {"dtype": config.dtype}


def _seq2seq_settings(source: ModelSource, config: PerplexityConfig) -> dict[str, Any]:
    for name in ("window", "stride", "bos", "seed"):
        if getattr(config, name) != getattr(PerplexityConfig, name):
            raise EvaluationError(f"{source.id} is an encoder-decoder: `{name}` is for masked or causal models")
    found = seq2seq.languages_in(seq2seq.tokenizer_of(source, languages_of(config.languages)))
    return {"max_ids": source.longest} | ({"languages": ",".join(found)} if found else {})


def _masked_settings(source: ModelSource, config: PerplexityConfig) -> dict[str, Any]:
    for name in ("window", "stride", "bos"):
        if getattr(config, name) != getattr(PerplexityConfig, name):
            raise EvaluationError(f"{source.id} is a masked language model: `{name}` is for causal ones")
    tokenizer = source.tokenizer
    if tokenizer.mask_token_id is None or not tokenizer.is_fast:
        raise EvaluationError(f"the tokenizer of {source.id} has no mask token or no word boundaries to go by")
    return {"seed": config.seed, "max_ids": source.longest}


def _causal_settings(source: ModelSource, config: PerplexityConfig, positions: int | None) -> dict[str, Any]:
    if config.seed != PerplexityConfig.seed:
        raise EvaluationError(f"{source.id} is a causal language model: `seed` is for masked ones")
    largest = (positions or LARGEST_WINDOW + 1) - 1
    window = config.window or min(LARGEST_WINDOW, largest)
    if window > largest and positions:
        raise EvaluationError(
            f"`window` {window} is above what {source.id} has positions for: choose at most {largest}"
        )
    stride = config.stride or window
    if stride > window:
        raise EvaluationError(f"`stride` {stride} is above `window` {window}: tokens between would be skipped")
    return {"window": window, "stride": stride, "bos": config.bos and source.tokenizer.bos_token_id is not None}


def _select(source: ModelSource, text: Text, full: dict[str, Any]) -> Selection:
    """The sequences that are scored: masked lines, windows of the token stream, or pairs."""
    tokenizer = source.tokenizer
    if full["protocol"] == SEQ2SEQ:
        return seq2seq.select(
            seq2seq.tokenizer_of(source, languages_of(full.get("languages"))),
            parse(text.name, text.content),
            max_ids=full["max_ids"],
            limit=full["limit"],
        )
    if full["protocol"] == MASKED:
        return masked_lm.select(
            text.content,
            tokenizer,
            max_ids=full["max_ids"],
            seed=full["seed"],
            limit=full["limit"],
            drawable=drawable_ids(source),
        )
    ids = tokenizer(text.content, add_special_tokens=False, verbose=False)["input_ids"][: full["limit"]]
    bos_id = tokenizer.bos_token_id if full["bos"] else None
    found = causal_lm.windows(ids, window=full["window"], stride=full["stride"], bos_id=bos_id)
    unscored = len(ids) - sum(len(example.targets) for example in found)
    return Selection(found, present({"unscored_tokens": unscored}))
