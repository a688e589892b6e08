"""From a table to an artifact: run a method, measure what it cost, say where everything came from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from orientc.artifact import Artifact, Description
from orientc.devices import pick_device
from orientc.errors import FitError, UsageError
from orientc.factors import Factors
from orientc.methods import autoencoder, losses
from orientc.methods import svd as truncated_svd
from orientc.models import ModelSource
from orientc.sizes import check_size, choose_rank
from orientc.tables import Table, read_table

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SVD, AUTOENCODER = "svd", "autoencoder"
_LARGE = 2.0**48  # squares of such numbers, summed over a row, are far from float32's end
PRESETS = {"default": autoencoder.Settings(), "paper": autoencoder.PAPER}


@dataclass(frozen=True)
class Plan:
    """A fit decided in every detail but the table: what is recorded, hashed into the artifact's name, and replayed.

    Exactly one of `rank` and `ratio`; `dtype` is that of the stored numbers. `center` is SVD's, `autoencoder`
    and `seed` the autoencoder's; `init_sha256` names the artifact file an autoencoder starts from.
    """

    method: str
    rank: int | None = None
    ratio: float | None = None
    dtype: str = "float32"
    center: bool = False
    autoencoder: autoencoder.Settings = field(default_factory=autoencoder.Settings)
    seed: int = 0
    init_sha256: str | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` for a plan no table fits."""
        check_size(self.rank, self.ratio)
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
        if self.seed.bit_length() > 63:
            raise UsageError(f"seed must fit into 64 bits, {self.seed} does not")

    def for_table(self, table: Table) -> Plan:
        """The same plan with the rank it means for this table. Raises `FitError` where there is none."""
        bias = self.center if self.method == SVD else True
        rank = choose_rank(table.info.vocab, table.info.dim, rank=self.rank, ratio=self.ratio, bias=bias)
        return replace(self, rank=rank, ratio=None)

    @property
    def size(self) -> str:
        """The rank or ratio asked for, in words."""
        return f"rank {self.rank}" if self.rank is not None else f"ratio {self.ratio:g}"

    @property
    def epochs(self) -> int | None:
        """How many epochs the fit takes; None for a closed form."""
        return self.autoencoder.epochs if self.method == AUTOENCODER else None

    @property
    def settings(self) -> dict[str, Any]:
        """Flat and complete, as the artifact records them; equal settings give equal artifacts."""
        common = {"method": self.method, "rank": self.rank, "dtype": self.dtype}
        if self.method == SVD:
            return common | {"center": self.center}
        start = {"init_sha256": self.init_sha256} if self.init_sha256 else {}
        return common | asdict(self.autoencoder) | {"seed": self.seed} | start

    @classmethod
    def from_layers(cls, method: str, *layers: Mapping[str, Any], init_sha256: str | None = None) -> Plan:
        """A plan from flat settings, later layers over earlier ones; an entry that is None says nothing.

        The keys are those of `settings`, and `ratio` and `preset`. A rank or ratio takes the place of any an
        earlier layer gave; a preset lies under all layers. Raises `UsageError` for a key or value that does not
        belong.
        """
        own = {entry.name for entry in fields(autoencoder.Settings)} if method == AUTOENCODER else set()
        merged: dict[str, Any] = {}
        for layer in layers:
            given = {key: value for key, value in layer.items() if value is not None}
            if "rank" in given or "ratio" in given:
                merged.pop("rank", None)
                merged.pop("ratio", None)
            merged.update(given)
        if "method" in merged and "preset" in merged:
            raise UsageError("a preset and an artifact's settings are both complete: give one of them")
        if merged.pop("method", method) != method:
            raise UsageError(f"these are settings of another method than {method}")
        merged.pop("init_sha256", None)
        if merged.get("init") == "artifact" and init_sha256 is None:
            raise UsageError("these settings start from an artifact: name it with --init")
        plan_keys = {"rank", "ratio", "dtype"} | ({"center"} if method == SVD else {"seed"})
        known = own | plan_keys | ({"preset"} if method == AUTOENCODER else set())
        if unknown := sorted(merged.keys() - known):
            raise UsageError(f"{method} has no setting {unknown[0]!r}: choose from {', '.join(sorted(known))}")
        _check_types(merged)
        preset = merged.pop("preset", "default")
        if preset not in PRESETS:
            raise UsageError(f"preset must be one of {', '.join(PRESETS)}, not {preset!r}")
        chosen = replace(PRESETS[preset], **{key: value for key, value in merged.items() if key in own})
        rest = {key: value for key, value in merged.items() if key in plan_keys}
        return cls(method, autoencoder=chosen, init_sha256=init_sha256, **rest)


def run(
    plan: Plan,
    table: Table,
    *,
    device: str | None = None,
    start: Factors | None = None,
    on_epoch: Callable[[autoencoder.Epoch], None] | None = None,
) -> Artifact:
    """Carry out a plan on a table. `start` is what an autoencoder starts from, where the plan says so.

    A table with numbers so large that their squares leave float32 is fitted, and its epochs reported, scaled down.
    Raises `FitError` where the table can't be compressed as planned.
    """
    plan = plan.for_table(table)
    assert plan.rank is not None
    table.check_finite()
    through_elu = plan.method == AUTOENCODER and plan.autoencoder.nonlinear in ("decoder", "both")
    scale = 1.0 if through_elu else _scale(table.weight)  # an ELU behind the decoder is not to be scaled
    original = table.weight if scale == 1 else table.weight.float() / scale
    start = start and _scaled(start, 1 / scale)
    weight = original.to(pick_device(device))
    if plan.method == SVD:
        factors = truncated_svd.fit(weight, plan.rank, center=plan.center)
    else:
        factors = autoencoder.fit(weight, plan.rank, plan.autoencoder, seed=plan.seed, start=start, on_epoch=on_epoch)
    factors = _scaled(factors, scale).to(DTYPES[plan.dtype])
    if not all(tensor.isfinite().all() for tensor in factors.tensors.values()):
        advice = "store it as float32 or bfloat16" if plan.dtype == "float16" else "its numbers are too large"
        raise FitError(f"the compressed table does not fit into {plan.dtype}: {advice}")
    distances = losses.distances(_scaled(factors, 1 / scale), original).scaled(scale)
    description = Description(
        base=table.info,
        method=plan.method,
        rank=plan.rank,
        activation=factors.activation,
        settings=plan.settings,
        seed=plan.seed if plan.method == AUTOENCODER else None,
        distances=asdict(distances),
        dtype=plan.dtype,
        numbers=factors.numbers,
    )
    return Artifact(description, factors)


def _scale(weight: Tensor) -> float:
    """What to divide a table by before it is fitted: 1, or a power of two where its numbers are very large."""
    largest = max(abs(float(end)) for end in weight.aminmax())
    return 1.0 if largest < _LARGE else 2.0 ** math.floor(math.log2(largest))


def _scaled(factors: Factors, scale: float) -> Factors:
    """Factors of the table times `scale`."""
    if scale == 1:
        return factors
    return factors.with_tensors(
        {name: tensor if name == "decoder.weight" else tensor * scale for name, tensor in factors.tensors.items()}
    )


def svd(
    model: str | Table,
    *,
    rank: int | None = None,
    ratio: float | None = None,
    center: bool = False,
    dtype: str = "float32",
    device: str | None = None,
) -> Artifact:
    """Compress a table by exact truncated SVD.

    `model` is a table or a model argument; exactly one of `rank` and `ratio` is given. Raises `UsageError`,
    `ModelError` or `FitError`.
    """
    return run(Plan(SVD, rank, ratio, dtype, center), _table(model), device=device)


def compress(
    model: str | Table,
    *,
    rank: int | None = None,
    ratio: float | None = None,
    settings: autoencoder.Settings | None = None,
    seed: int = 0,
    dtype: str = "float32",
    device: str | None = None,
    on_epoch: Callable[[autoencoder.Epoch], None] | None = None,
) -> Artifact:
    """Compress a table by the paper's autoencoder.

    `model` is a table or a model argument; exactly one of `rank` and `ratio` is given. `settings` are the fast
    default ones unless given (`PRESETS["paper"]` is the published recipe). Raises `UsageError`, `ModelError`
    or `FitError`.
    """
    plan = Plan(AUTOENCODER, rank, ratio, dtype, autoencoder=settings or PRESETS["default"], seed=seed)
    return run(plan, _table(model), device=device, on_epoch=on_epoch)


def _check_types(values: Mapping[str, Any]) -> None:
    """Raise `UsageError` where a configuration file gives a setting as something else than what it is."""
    kinds = {entry.name: type(entry.default) for entry in fields(autoencoder.Settings)}
    kinds |= {"rank": int, "ratio": float, "dtype": str, "center": bool, "seed": int, "preset": str}
    for name, value in values.items():
        kind = kinds[name]
        allowed = (int, float) if kind is float else (kind,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            raise UsageError(f"{name} must be of type {kind.__name__}, not {value!r}")


def _table(model: str | Table) -> Table:
    return model if isinstance(model, Table) else read_table(ModelSource.resolve(model))
