"""One config per method: a frozen dataclass that says how a table is to be compressed.

A config is complete but for two files, the calibration and the artifact that a fit may start from: these are given to
the functions that fit. Values are checked as a config is made. This module imports no torch.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from enum import Enum
from functools import cache
from typing import Any, ClassVar, Self, get_args, get_type_hints

from orientc.errors import UsageError
from orientc.methods.effort import EFFORTS, FAST
from orientc.methods.recipe import PAPER, Recipe
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.modeling.layout import WIDEST_GROUP
from orientc.storage.artifact import FLOAT_DTYPES
from orientc.storage.sizes import check_size

PRESETS = {"default": Recipe(), "paper": PAPER}
BITS = (8, 4, 3, 2)
BLOCKS = tuple(BLOCK_TYPES)
RUNTIMES = ("gguf",)
TARGETS = ("target_bits", "target_ratio", "target_mb")
AUTO = "auto"
_WITH_ELU = ("decoder", "both")


@dataclass(frozen=True, kw_only=True)
class Config(ABC):
    """What the configs of all methods have in common."""

    method: ClassVar[str]
    # Fields that an artifact's settings hold only where they are not the default; the others are always there.
    _if_changed: ClassVar[frozenset[str]] = frozenset(
        ("ratio", "bits", "block", "group_size", "keep_rows", "head_weight", "runtime", "effort", *TARGETS)
    )

    dtype: str = "float32"
    head_weight: float = 1.0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value of the wrong type, or one that fits no table."""
        for name, kinds in _types(type(self)).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kinds))
        if self.dtype not in FLOAT_DTYPES:
            raise UsageError(f"`dtype` must be one of {', '.join(FLOAT_DTYPES)}, not {self.dtype!r}")
        if not 0 <= self.head_weight < math.inf:
            raise UsageError(f"`head_weight` must be at least 0, not {self.head_weight:g}")

    def check_inputs(self, *, calibration: bool, init: bool) -> None:
        """Check which of the two files are given.

        Args:
            calibration: Whether there is a calibration.
            init: Whether there is an artifact to start from.

        Raises:
            UsageError: A file is missing, or has no meaning with these settings.
        """
        if not calibration and self.head_weight != 1:
            raise UsageError("`head_weight` is about a calibration's importance matrices: give `calibration` too")
        if init and getattr(self, "init", None) != "artifact":
            raise UsageError("only an autoencoder whose init is 'artifact' starts from an artifact: leave `init` out")

    @property
    @abstractmethod
    def size(self) -> str:
        """The size asked for, in words."""

    @property
    @abstractmethod
    def slug(self) -> str:
        """Method and size as they go into a file's name."""

    @property
    def settings(self) -> dict[str, Any]:
        """Method and fields as one flat dict, as an artifact records them; equal settings give equal artifacts."""
        found: dict[str, Any] = {"method": self.method}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name not in self._if_changed or value != entry.default:
                found[entry.name] = value
        return found


@dataclass(frozen=True, kw_only=True)
class CodedConfig(Config):
    """What methods have in common that can round their numbers and keep rows as they are."""

    bits: int | None = None
    group_size: int = 64
    keep_rows: int | str = 0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value that fits no table."""
        super().__post_init__()
        if self.bits is not None and self.bits not in BITS:
            raise UsageError(f"`bits` must be one of {', '.join(map(str, BITS))}, not {self.bits}")
        if not 1 <= self.group_size <= WIDEST_GROUP:
            raise UsageError(f"`group_size` must be from 1 to {WIDEST_GROUP}, not {self.group_size}")
        if self.bits is None and self.group_size != CodedConfig.group_size:
            raise UsageError("`group_size` is about rounded numbers: give `bits` too")
        if isinstance(self.keep_rows, str):
            if self.keep_rows != AUTO:
                raise UsageError(f"`keep_rows` must be a whole number or {AUTO}, not {self.keep_rows!r:.60}")
            if getattr(self, "ratio", None) is None:
                raise UsageError(
                    f"`keep_rows` can be {AUTO} only with a ratio: nothing else leaves numbers to share out"
                )
        elif self.keep_rows < 0:
            raise UsageError(f"`keep_rows` must be at least 0, or {AUTO} with a ratio, not {self.keep_rows}")

    def check_inputs(self, *, calibration: bool, init: bool) -> None:
        """Raise `UsageError` where a file is missing, or has no meaning with these settings."""
        super().check_inputs(calibration=calibration, init=init)
        if self.keep_rows and not calibration:
            raise UsageError("`keep_rows` keeps the most frequent rows, which a calibration names: give `calibration`")


@dataclass(frozen=True, kw_only=True)
class RankConfig(CodedConfig):
    """What methods have in common that keep latents of a chosen width."""

    rank: int | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value that fits no table."""
        super().__post_init__()
        check_size(self.rank, self.ratio)

    @property
    def size(self) -> str:
        """The size asked for, in words."""
        return f"rank {self.rank}" if self.rank is not None else f"ratio {self.ratio:g}"

    @property
    def slug(self) -> str:
        """Method and size as they go into a file's name; the rank must have been chosen."""
        return f"{self.method}-r{self.rank}" + (f"-b{self.bits}" if self.bits is not None else "")


@dataclass(frozen=True, kw_only=True)
class SvdConfig(RankConfig):
    """Exact truncated SVD, the baseline; with a calibration the best factors by the model's importance matrices.

    Exactly one of `rank` and `ratio` is given.

    Args:
        rank: Width of the latents: numbers kept per token.
        ratio: Parameter ratio; the largest rank that reaches it is taken.
        center: Subtract the mean row first and keep it as the decoder's bias. Default: False.
        bits: Round latents to 8, 4, 3 or 2 bits. Default: None, latents are stored as numbers.
        group_size: With `bits`, latents that share a scale and an offset. Default: 64.
        keep_rows: How many of the most frequent rows are stored as they are, or "auto", with a ratio, for as many as
            lower the predicted loss. Needs a calibration. Default: 0.
        dtype: "float32", "float16" or "bfloat16", type of the stored numbers that are not rounded. Default: "float32".
        head_weight: With a calibration, the weight of the head's importance matrix beside the input's; 0 for a model
            that keeps its head. Default: 1.
    """

    method: ClassVar[str] = "svd"

    center: bool = False


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(RankConfig, Recipe):
    """The paper's autoencoder (arXiv 2106.08181), fitted on the table itself.

    Exactly one of `rank` and `ratio` is given. The fields of `Recipe` say how it is trained; their defaults are the
    preset "default". `AutoencoderConfig.preset("paper", rank=75)` starts from the published recipe.

    Args:
        rank: Width of the latents: numbers kept per token.
        ratio: Parameter ratio; the largest rank that reaches it is taken.
        seed: Draws the first weights and the batches, a signed 64-bit number. Default: 0.
        bits: Round latents to 8, 4, 3 or 2 bits. Default: None, latents are stored as numbers.
        group_size: With `bits`, latents that share a scale and an offset. Default: 64.
        keep_rows: How many of the most frequent rows are stored as they are, or "auto", with a ratio, for as many as
            lower the predicted loss. Needs a calibration. Default: 0.
        dtype: "float32", "float16" or "bfloat16", type of the stored numbers that are not rounded. Default: "float32".
        head_weight: With a calibration, the weight of the head's importance matrix beside the input's; 0 for a model
            that keeps its head. Default: 1.
        epochs: Passes over the table. Default: 4.
        batch_size: Rows per step. Default: 1024.
        learning_rate: Adam's, at the first step. Default: 1e-3.
        schedule: "cosine" takes the learning rate to zero, step by step; "halving" halves it every `halve_every`
            epochs. Default: "cosine".
        halve_every: Epochs between two halvings. Default: 4.
        alpha_start: Exponent of the |x|^α term in the first epoch. Default: 1.
        alpha_end: Its exponent from epoch `alpha_epochs` on. Default: 0.1.
        alpha_epochs: Epochs over which it falls linearly. Default: 3.
        cosine_weight: Weight of the cosine distance in the loss. Default: 0.1995.
        power_weight: Weight of the |x|^α term. Default: 0.0025.
        rmse_weight: Weight of the root mean squared error. Default: 0.
        nonlinear: After which linear map an ELU follows: "none", "encoder", "decoder" or "both". Default: "none".
        init: What the fit starts from: "subspace" (the principal one), "random" or "artifact". Default: "subspace".
    """

    method: ClassVar[str] = "autoencoder"

    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value that fits no table."""
        super().__post_init__()
        Recipe.__post_init__(self)
        if self.seed.bit_length() > 63:
            raise UsageError(f"`seed` must fit into 64 bits, {self.seed} does not")
        if self.schedule != "halving" and self.halve_every != Recipe.halve_every:
            raise UsageError("`halve_every` is for a learning rate that is halved: set `schedule` to halving")

    @classmethod
    def preset(cls, name: str, **settings: Any) -> Self:
        """A preset's recipe with some settings changed or added.

        Args:
            name: "default" or "paper".
            **settings: Fields of the config.

        Raises:
            UsageError: There is no such preset, or a value fits no table.
        """
        if name not in PRESETS:
            raise UsageError(f"`preset` must be one of {', '.join(PRESETS)}, not {name!r}")
        return cls(**asdict(PRESETS[name]) | settings)

    def check_inputs(self, *, calibration: bool, init: bool) -> None:
        """Raise `UsageError` where a file is missing, or has no meaning with these settings."""
        super().check_inputs(calibration=calibration, init=init)
        if self.init == "artifact" and not init:
            raise UsageError("these settings start from an artifact: name it with `init`")
        if calibration and self.nonlinear in _WITH_ELU:
            raise UsageError(
                "by a calibration's importance a decoder with an ELU can't be fitted: choose another `nonlinear`"
            )


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig(CodedConfig):
    """The table's own rows, each number rounded to a few bits.

    Exactly one of `bits` and `block` is given.

    Args:
        bits: Bits per number: 8, 4, 3 or 2.
        block: One of ggml's block types, such as "IQ4_NL": codes and scales are laid out as in a GGUF file.
        group_size: Numbers of a row that share a scale and an offset. Default: 64.
        keep_rows: How many of the most frequent rows are stored as they are. Needs a calibration. Default: 0.
        dtype: "float32", "float16" or "bfloat16", type of the rows kept. Default: "float32".
        head_weight: With a calibration, the weight of the head's importance matrix beside the input's; 0 for a model
            that keeps its head. Default: 1.
    """

    method: ClassVar[str] = "quantize"
    _if_changed: ClassVar[frozenset[str]] = Config._if_changed - {"group_size"}

    block: str | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value that fits no table."""
        if self.block is not None and self.group_size != CodedConfig.group_size:
            raise UsageError("`group_size` and `block` exclude each other: a block's type says what a group is")
        super().__post_init__()
        if self.bits is None and self.block is None:
            raise UsageError(
                f"`bits` is missing: how many a number is to take, {', '.join(map(str, BITS))}; or, for a GGUF file, "
                f"`block`: {', '.join(BLOCKS)}"
            )
        if self.block is None:
            return
        if self.block not in BLOCKS:
            raise UsageError(f"`block` must be one of {', '.join(BLOCKS)}, not {self.block!r:.40}")
        if self.bits is not None:
            raise UsageError("`bits` and `block` exclude each other: a block's type says how many bits a number takes")
        if self.keep_rows:
            raise UsageError("`keep_rows` and `block` exclude each other: a GGUF file has all rows in one type")

    @property
    def settings(self) -> dict[str, Any]:
        """Method and fields as one flat dict; a block's type says what a group is."""
        found = super().settings
        return {name: value for name, value in found.items() if self.block is None or name != "group_size"}

    @property
    def size(self) -> str:
        """The size asked for, in words."""
        return f"{self.block} blocks" if self.block else f"{self.bits} bits"

    @property
    def slug(self) -> str:
        """Method and size as they go into a file's name."""
        return f"{self.method}-{self.block}" if self.block else f"{self.method}-b{self.bits}"


@dataclass(frozen=True, kw_only=True)
class TargetConfig(Config):
    """The form of a given size that costs least: transform coding, or rounded rows.

    Exactly one of the three targets is given. A calibration tells what a change of the table costs the model; without
    one that is guessed from the table.

    Args:
        target_bits: Bits per weight at most.
        target_ratio: Byte ratio at least.
        target_mb: Size at most, in MB of 10⁶ bytes.
        runtime: What the table is to run in, where that allows some forms alone: "gguf", one of ggml's block types.
            Default: None.
        effort: "fast", or "best" for a longer search for codes, which takes several times as long and loses less, of
            tables of more than a few MB. Default: "fast".
        dtype: "float32", "float16" or "bfloat16", type of the stored numbers that are not rounded. Default: "float16".
        head_weight: With a calibration, the weight of the head's importance matrix beside the input's; 0 for a model
            that keeps its head. Default: 1.
    """

    method: ClassVar[str] = "target"

    dtype: str = "float16"
    target_bits: float | None = None
    target_ratio: float | None = None
    target_mb: float | None = None
    runtime: str | None = None
    effort: str = FAST

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value that fits no table."""
        super().__post_init__()
        if self.runtime not in (None, *RUNTIMES):
            raise UsageError(f"`runtime` must be {' or '.join(RUNTIMES)}, not {self.runtime!r:.40}")
        check_effort(self.effort, self.runtime)
        given = {name: value for name in TARGETS if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            raise UsageError(f"give one target: {', '.join(f'`{name}`' for name in TARGETS)}")
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise UsageError(f"`{name}` must be above 0, not {value:g}")

    @property
    def target(self) -> str:
        """Which of the targets is given."""
        return next(name for name in TARGETS if getattr(self, name) is not None)

    @property
    def size(self) -> str:
        """The size asked for, in words."""
        return f"{self.target.replace('_', ' ')} {getattr(self, self.target):g}"

    @property
    def slug(self) -> str:
        """Method and size as they go into a file's name."""
        runtime = f"-{self.runtime}" if self.runtime else ""
        return f"{self.method}-{self.target.removeprefix('target_')}{getattr(self, self.target):g}{runtime}"


def check_effort(effort: str, runtime: str | None = None) -> None:
    """Raise `UsageError` for an effort there is not, or for more than the least where nothing is searched for."""
    if effort not in EFFORTS:
        raise UsageError(f"`effort` must be {' or '.join(EFFORTS)}, not {effort!r:.40}")
    if runtime is not None and effort != FAST:
        raise UsageError("`effort` and `runtime` exclude each other: ggml's block types have no codes to search for")


@cache
def _types(kind: type[Config]) -> dict[str, tuple[type, ...]]:
    """The types that each field of a config may have."""
    hints = get_type_hints(kind)
    return {entry.name: get_args(hints[entry.name]) or (hints[entry.name],) for entry in fields(kind)}


def _checked(name: str, value: Any, kinds: tuple[type, ...]) -> Any:
    """A field's value in its own type: 4 and 4.0 are the same float. Raises `UsageError` for another type."""
    if isinstance(value, Enum):
        value = value.value
    if float in kinds and type(value) is int:
        if abs(value) > sys.float_info.max:
            raise UsageError(f"`{name}` is larger than any number of type float")
        return float(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        named = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
        raise UsageError(f"`{name}` must be of type {named}, not {value!r:.60}")
    return value
