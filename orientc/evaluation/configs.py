"""One config per evaluation, checked when it is made. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from orientc.errors import UsageError
from orientc.evaluation.option_values import POOLINGS, TRAIN_EMBEDDINGS
from orientc.evaluation.pairs import languages_of
from orientc.storage.artifact import FLOAT_DTYPES

C = TypeVar("C", bound="FinetuningConfig")


@dataclass(frozen=True)
class PerplexityConfig:
    """Options of `perplexity`; None stands for the protocol's default.

    Args:
        limit: Score only the first kept lines (masked), text tokens (causal) or pairs (encoder-decoders), this many.
        window: Text tokens per window (causal only); at most 1024 unless given.
        stride: Text tokens from the start of a window to the next (causal only); the window unless given.
        bos: Whether the BOS token, if the tokenizer has one, stands before each window (causal only).
        seed: Draws the masks (masked only).
        batch_size: The most lines or windows that go through the model at once; the figures do not depend on it.
        dtype: Float type the model computes in.
        kl: Whether an artifact's predictions are held against the uncompressed model's: KL divergence and top tokens.
        languages: Of pairs, what source and target are called in the data, and a multilingual tokenizer's languages, as
            "en,de" (encoder-decoders only).

    Raises:
        UsageError: For a value no evaluation can use.
    """

    limit: int | None = None
    window: int | None = None
    stride: int | None = None
    bos: bool = True
    seed: int = 0
    batch_size: int | None = None
    dtype: str = "float32"
    kl: bool = True
    languages: str | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value no evaluation can use."""
        check_counts(limit=self.limit, window=self.window, stride=self.stride, batch_size=self.batch_size)
        check_choice("dtype", self.dtype, FLOAT_DTYPES)
        languages_of(self.languages)
        if self.window and self.stride and self.stride > self.window:
            raise UsageError(f"`stride` {self.stride} is above `window` {self.window}: tokens between would be skipped")


@dataclass(frozen=True)
class SimilarityConfig:
    """Options of `similarity`.

    Args:
        limit: Measure only the first sentences, or pairs of them, this many.
        pooling: How token states become a sentence's vector: "mean", "cls", "max" or "last"; None is what the
            model's folder says, else "mean".
        max_length: Tokens per sentence; None is what the model's folder says, else as many as the model takes.
        batch_size: Sentences that go through the model at once; the figures do not depend on it.
        dtype: Float type the model computes in.

    Raises:
        UsageError: For a value no evaluation can use.
    """

    limit: int | None = None
    pooling: str | None = None
    max_length: int | None = None
    batch_size: int = 64
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value no evaluation can use."""
        if self.pooling is not None:
            check_choice("pooling", self.pooling, POOLINGS)
        check_counts(limit=self.limit, max_length=self.max_length, batch_size=self.batch_size)
        check_choice("dtype", self.dtype, FLOAT_DTYPES)


@dataclass(frozen=True)
class FinetuningConfig:
    """How a model is fine-tuned and scored; the defaults are the paper's for GLUE.

    Args:
        epochs: Passes over the training set; 0 scores the model as it is.
        batch_size: Examples at a time, over all processes together.
        gradient_accumulation: Batches per step.
        learning_rate: AdamW's at its highest; it falls linearly to 0.
        warmup: Share of all steps in which the learning rate rises, from 0 to below 1.
        weight_decay: AdamW's.
        max_length: Tokens per example, special ones included.
        seed: Draws a new head, the order of the examples and dropout.
        train_embeddings: What of the table trains: "decoder" (what comes after the latents; nothing of an
            uncompressed table), "all" or "none".
        precision: Float type the model computes in; its weights stay float32.
        attention: Name of one of transformers' attention implementations; None is transformers' choice.
        group_by_length: Make batches of examples of like length: less padding, and another order.

    Raises:
        UsageError: For a value no training can use.
    """

    epochs: float = 3.0
    batch_size: int = 32
    gradient_accumulation: int = 1
    learning_rate: float = 2e-5
    warmup: float = 0.0
    weight_decay: float = 0.0
    max_length: int = 128
    seed: int = 0
    train_embeddings: str = "decoder"
    precision: str = "float32"
    attention: str | None = None
    group_by_length: bool = False

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value no training can use."""
        for name in ("epochs", "learning_rate", "warmup", "weight_decay"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 3 and 3.0 are the same run
        check_counts(
            batch_size=self.batch_size,
            gradient_accumulation=self.gradient_accumulation,
            max_length=self.max_length,
        )
        if not 0 <= self.epochs < float("inf"):
            raise UsageError(f"`epochs` must be 0 (score only) or more, not {self.epochs}")
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"`learning_rate` must be above 0, not {self.learning_rate}")
        if not 0 <= self.warmup < 1:
            raise UsageError(f"`warmup` is a share of all steps, from 0 to below 1, not {self.warmup}")
        if not 0 <= self.weight_decay < float("inf"):
            raise UsageError(f"`weight_decay` must be 0 or more, not {self.weight_decay}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"`seed` must be from 0 to below 2³², not {self.seed}")
        check_choice("train_embeddings", self.train_embeddings, TRAIN_EMBEDDINGS)
        check_choice("precision", self.precision, FLOAT_DTYPES)

    def recorded(self, *, new_head: bool) -> dict[str, Any]:
        """The settings of a record: those its figures depend on.

        Args:
            new_head: Whether the model's head is drawn at random.
        """
        values = asdict(self)
        if self.epochs:
            return values
        used = ("epochs", "max_length", "precision", "attention", *(["seed"] if new_head else []))
        return {name: value for name, value in values.items() if name in used or name not in _SHARED}

    def with_seeds(self: C, seeds: Sequence[int] | str | None) -> list[C]:
        """This config with each of several seeds, each once; with its own where `seeds` is None.

        Args:
            seeds: Whole numbers, or text with commas between them: "1,2,3".

        Raises:
            UsageError: For text that is anything else, no seed at all, or a seed beside them.
        """
        if seeds is None:
            return [self]
        if self.seed != FinetuningConfig.seed:
            raise UsageError("`seed` and `seeds` exclude each other")
        try:
            numbers = [int(number) for number in (seeds.split(",") if isinstance(seeds, str) else seeds)]
        except ValueError:
            raise UsageError(f"`seeds` takes whole numbers with commas between, such as 1,2,3, not {seeds!r}") from None
        if not numbers:
            raise UsageError("`seeds` takes one whole number or more, not none")
        return [replace(self, seed=number) for number in dict.fromkeys(numbers)]


_SHARED = frozenset(FinetuningConfig.__dataclass_fields__)


@dataclass(frozen=True)
class SquadConfig(FinetuningConfig):
    """How a model is fine-tuned on SQuAD; the defaults are the paper's.

    Args:
        window_step: Context tokens from the start of a window to the start of the next.

    The others are those of `FinetuningConfig`.
    """

    batch_size: int = 16
    learning_rate: float = 3e-5
    max_length: int = 384
    window_step: int = 128

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value no training can use."""
        super().__post_init__()
        check_counts(window_step=self.window_step)


def not_default(settings: Mapping[str, Any], by_default: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record's settings is not as it is where nothing is asked for."""
    return {name: value for name, value in settings.items() if value != by_default.get(name)}


def check_counts(**values: int | None) -> None:
    """Raise `UsageError` for a value, by its field's name, that is neither None nor a count of at least 1."""
    for name, value in values.items():
        if value is not None and not 1 <= value < 2**31:
            raise UsageError(f"`{name}` must be at least 1 (and below 2³¹), not {value}")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise `UsageError` where the value of a field is none of the choices."""
    if value not in choices:
        raise UsageError(f"`{name}` must be one of {', '.join(choices)}, not {value!r}")
