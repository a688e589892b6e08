"""What is to be made of a table, decided in every detail: settings from options, files and artifacts, and back.

This module imports no torch before there is a table: a plan that no table fits is refused without it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from orientc.errors import FitError, UsageError
from orientc.methods import recipe
from orientc.modeling.layout import PER_GROUP, WIDEST_GROUP, Layout
from orientc.storage.artifact import FLOAT_DTYPES
from orientc.storage.sizes import check_size, choose_rank

if TYPE_CHECKING:
    from torch import Tensor

    from orientc.methods.importance import Importance
    from orientc.models.table import Table
    from orientc.storage.calibration import Calibration

SVD, AUTOENCODER, QUANTIZE, TARGET = "svd", "autoencoder", "quantize", "target"
PRESETS = {"default": recipe.Recipe(), "paper": recipe.PAPER}
BITS = (8, 4, 3, 2)
GROUP = 64
TARGETS = ("target_ratio", "target_bits", "target_mb")
_FLOATS = {"head_weight", *TARGETS}
AUTO = -1  # for `keep_rows`: as many as pays; options and files say "auto"
# Settings by method, besides those of the autoencoder; an artifact records those that are not their defaults.
_CODING = ("bits", "group_size")
_CALIBRATED = ("calibration_sha256", "head_weight", "keep_rows")
_OWN = {
    SVD: ("rank", "ratio", "dtype", "center", *_CODING, *_CALIBRATED),
    AUTOENCODER: ("rank", "ratio", "dtype", "seed", *_CODING, *_CALIBRATED, "preset"),
    QUANTIZE: ("dtype", *_CODING, *_CALIBRATED),
    TARGET: ("dtype", *TARGETS, "calibration_sha256", "head_weight"),
}
_ALWAYS = {
    SVD: ("rank", "dtype", "center"),
    AUTOENCODER: ("rank", "dtype", "seed"),
    QUANTIZE: ("dtype", "bits", "group_size"),
    TARGET: ("dtype",),
}


@dataclass(frozen=True)
class Plan:
    """A fit decided in every detail but the table: what is recorded, hashed into the artifact's name, and replayed.

    `method` "svd" or "autoencoder" takes exactly one of `rank` and `ratio`, "target" exactly one of the three targets,
    "quantize" takes `bits`. `dtype` is that of stored numbers that are not in codes. `bits` a latent, `group_size` latents
    to a scale. `calibration_sha256` names the calibration whose importance and
    counts are used, the head's with `head_weight`; `keep_rows` is how many of the most frequent rows are kept as they
    are (`AUTO`: as many as pays). `center` is SVD's, `autoencoder` and `seed`
    the autoencoder's; `init_sha256` names the artifact file an autoencoder starts from.
    """

    method: str
    rank: int | None = None
    ratio: float | None = None
    dtype: str = "float32"
    center: bool = False
    autoencoder: recipe.Recipe = field(default_factory=recipe.Recipe)
    seed: int = 0
    init_sha256: str | None = None
    bits: int | None = None
    group_size: int = GROUP
    calibration_sha256: str | None = None
    head_weight: float = 1.0
    keep_rows: int = 0
    target_ratio: float | None = None
    target_bits: float | None = None
    target_mb: float | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` for a plan no table fits."""
        for name in _FLOATS:
            if (value := getattr(self, name)) is not None:  # 4 and 4.0 are the same settings, and get the same name
                object.__setattr__(self, name, float(value))
        if self.method in (SVD, AUTOENCODER):
            check_size(self.rank, self.ratio)
        if self.method == TARGET:
            if len(self._targets) != 1:
                raise UsageError("give one target: --target-bits 4, --target-ratio 4 or --target-mb 10")
            for name, value in self._targets.items():
                if not 0 < value < float("inf"):
                    raise UsageError(f"{name} must be above 0, not {value:g}")
        if self.method == QUANTIZE and self.bits is None:
            raise UsageError("give the bits a number is to take: --bits 4")
        if self.dtype not in FLOAT_DTYPES:
            raise UsageError(f"dtype must be one of {', '.join(FLOAT_DTYPES)}, not {self.dtype!r}")
        if self.seed.bit_length() > 63:
            raise UsageError(f"seed must fit into 64 bits, {self.seed} does not")
        self._check_coding()
        if not 0 <= self.head_weight < float("inf"):
            raise UsageError(f"head_weight must be at least 0, not {self.head_weight:g}")
        if self.keep_rows < 0 and (self.keep_rows != AUTO or self.ratio is None):
            raise UsageError("keep_rows must be at least 0, or auto with a ratio: a rank leaves no bytes to share out")
        if self.keep_rows and not self.calibration_sha256:
            raise UsageError("which rows are the most frequent, a calibration says: name one with --calibration")
        if self.calibration_sha256 and self.method == AUTOENCODER and self.autoencoder.nonlinear in ("decoder", "both"):
            raise UsageError(
                "in a calibration's importance a decoder with an ELU can't be fitted: choose another nonlinear"
            )

    def _check_coding(self) -> None:
        if self.group_size != GROUP and self.bits is None:
            raise UsageError("group_size is about bits: give --bits too")
        if self.bits is not None and self.bits not in BITS:
            raise UsageError(f"bits must be one of {', '.join(map(str, BITS))}, not {self.bits}")
        if not 1 <= self.group_size <= WIDEST_GROUP:
            raise UsageError(f"group_size must be from 1 to {WIDEST_GROUP}, not {self.group_size}")

    def for_table(self, table: Table, calibration: Calibration | None = None) -> Plan:
        """The same plan with the rank it means for this table, and the number of rows kept.

        Raises `FitError` where there is none such, `CalibrationMismatchError` for another table's calibration.
        """
        vocab, dim = table.info.vocab, table.info.dim
        if calibration:
            calibration.check_base(table.info.sha256)
        if self.keep_rows >= vocab:
            raise FitError(f"keep_rows {self.keep_rows} leaves none of the table's {vocab} rows to compress")
        if self.method not in (SVD, AUTOENCODER):
            return self
        bias = self.center if self.method == SVD else True
        if self.keep_rows == AUTO:
            from orientc.methods import kept_rows

            assert self.ratio is not None
            budget = int(vocab * dim / self.ratio) - (dim if bias else 0)
            best = kept_rows.best(
                table.weight, budget, self.importance(table.weight, calibration), itemsize=1, id_size=1
            )
            keep = best[0] if best else 0
        else:
            keep = self.keep_rows
        plain = Layout(vocab, dim, 1, bias=bias, kept=keep)
        rank = choose_rank(partial(self._laid_out, plain), rank=self.rank, ratio=self.ratio)
        return replace(self, rank=rank, ratio=None, keep_rows=keep)

    def _laid_out(self, plain: Layout, rank: int) -> Layout:
        """The layout of a table at a rank, from that of plain latents of any rank."""
        layout = replace(plain, rank=rank)
        if self.bits is None:
            return layout
        layout = replace(layout, codec=PER_GROUP, group_size=self.group_size)
        return replace(layout, bits=((self.bits,) * layout.groups,), row_group_sizes=(layout.rows,))

    def importance(self, weight: Tensor, calibration: Calibration | None) -> Importance:
        """What a change of a table `[vocab, dim]` is taken to cost; without a calibration every change the same."""
        from orientc.methods.importance import Importance

        return (
            Importance.of(calibration, weight, head_weight=self.head_weight)
            if calibration
            else Importance.plain(weight)
        )

    @property
    def _targets(self) -> dict[str, float]:
        """The targets given, by name."""
        return {name: value for name in TARGETS if (value := getattr(self, name)) is not None}

    @property
    def size(self) -> str:
        """The size asked for, in words."""
        for name, value in self._targets.items():
            return f"{name.replace('_', ' ')} {value:g}"
        if self.method == QUANTIZE:
            return f"{self.bits} bits"
        return f"rank {self.rank}" if self.rank is not None else f"ratio {self.ratio:g}"

    @property
    def slug(self) -> str:
        """Method and size as they go into a file's name."""
        parts = [self.method]
        if self.rank is not None:
            parts.append(f"r{self.rank}")
        if self.bits is not None:
            parts.append(f"b{self.bits}")
        parts += [f"{name.removeprefix('target_')}{value:g}" for name, value in self._targets.items()]
        return "-".join(parts)

    @property
    def epochs(self) -> int | None:
        """How many epochs the fit takes; None for a closed form."""
        return self.autoencoder.epochs if self.method == AUTOENCODER else None

    @property
    def settings(self) -> dict[str, Any]:
        """Flat and complete, as the artifact records them; equal settings give equal artifacts.

        What a method always had is always there, further settings where they are not their defaults.
        """
        found: dict[str, Any] = {"method": self.method}
        for name in _OWN[self.method]:
            if name == "preset":
                continue
            entry = getattr(self, name)
            if name in _ALWAYS[self.method] or entry != _DEFAULTS[name]:
                found[name] = entry
        if self.method == AUTOENCODER:
            found |= asdict(self.autoencoder) | ({"init_sha256": self.init_sha256} if self.init_sha256 else {})
        return found

    @classmethod
    def from_layers(
        cls,
        method: str,
        *layers: Mapping[str, Any],
        init_sha256: str | None = None,
        calibration_sha256: str | None = None,
    ) -> Plan:
        """A plan from flat settings, later layers over earlier ones; an entry that is None says nothing.

        The keys are those of `settings`, and `ratio` and `preset`; `keep_rows` can be "auto" too. A rank or ratio takes
        the place of any an earlier layer gave, and so does a target; a preset lies under all layers. Raises
        `UsageError` for a key or value that does not belong.
        """
        own = {entry.name for entry in fields(recipe.Recipe)} if method == AUTOENCODER else set()
        merged: dict[str, Any] = {}
        for layer in layers:
            given = {key: value for key, value in layer.items() if value is not None}
            for several in (("rank", "ratio"), TARGETS):
                if any(name in given for name in several):
                    merged = {key: value for key, value in merged.items() if key not in several}
            merged.update(given)
        if "method" in merged and "preset" in merged:
            raise UsageError("a preset and an artifact's settings are both complete: give one of them")
        if "tuned_from_sha256" in merged:
            raise UsageError(
                "these settings are of a tuned artifact: replay those of the one it was tuned from, then orientc tune"
            )
        if merged.pop("method", method) != method:
            raise UsageError(f"these are settings of another method than {method}")
        merged.pop("init_sha256", None)
        if merged.get("init") == "artifact" and init_sha256 is None:
            raise UsageError("these settings start from an artifact: name it with --init")
        if merged.pop("calibration_sha256", None) and calibration_sha256 is None:
            raise UsageError("these settings are of a calibration: name it with --calibration")
        known = own | {*_OWN[method]} - {"calibration_sha256"}
        if unknown := sorted(merged.keys() - known):
            raise UsageError(f"{method} has no setting {unknown[0]!r}: choose from {', '.join(sorted(known))}")
        if method == TARGET:
            merged.setdefault("dtype", "float16")
        if merged.get("keep_rows") == "auto":
            merged["keep_rows"] = AUTO
        _check_types(merged)
        preset = merged.pop("preset", "default")
        if preset not in PRESETS:
            raise UsageError(f"preset must be one of {', '.join(PRESETS)}, not {preset!r}")
        chosen = replace(PRESETS[preset], **{key: value for key, value in merged.items() if key in own})
        rest = {key: value for key, value in merged.items() if key not in own}
        return cls(method, autoencoder=chosen, init_sha256=init_sha256, calibration_sha256=calibration_sha256, **rest)


_DEFAULTS = {entry.name: entry.default for entry in fields(Plan)}


def _check_types(values: Mapping[str, Any]) -> None:
    """Raise `UsageError` where a configuration file gives a setting as something else than what it is."""
    kinds = {entry.name: type(entry.default) for entry in fields(recipe.Recipe)}
    kinds |= {"rank": int, "ratio": float, "dtype": str, "center": bool, "seed": int, "preset": str}
    kinds |= {"bits": int, "group_size": int, "keep_rows": int} | dict.fromkeys(_FLOATS, float)
    for name, value in values.items():
        kind = kinds[name]
        allowed = (int, float) if kind is float else (kind,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            raise UsageError(f"{name} must be of type {kind.__name__}, not {value!r:.60}")
        if kind is float and isinstance(value, int) and abs(value) > sys.float_info.max:
            raise UsageError(f"{name} is larger than any number of type float")
