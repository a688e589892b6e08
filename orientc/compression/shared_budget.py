"""A size that several tables of a model share: each gets what loses the least in all, by their predicted losses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orientc.compression.configs import TargetConfig
from orientc.compression.fit_table import fit_table
from orientc.compression.gguf_tables import block_sizes
from orientc.errors import FitError
from orientc.methods.bit_allocation import Cell, allocate
from orientc.methods.effort import FAST
from orientc.models.table import Table
from orientc.storage.calibration import Calibration
from orientc.storage.sizes import MB

# bits per weight that a table's losses are predicted at
GRID = (0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)
_FARTHEST = 2.0  # times what an equal share is; losses are not looked for beyond that
_ROUNDS = 3
_ROUNDING = 1e-3  # bytes: a size in bits or MB that comes of whole bytes may be less than they are by so little
_STEPS = 24  # shares that are told apart between two of these


@dataclass(frozen=True)
class SharedBudget:
    """Tables that share a size, and what each is predicted to lose at some sizes.

    Args:
        tables: The tables.
        calibration: Measured on their model; it has an importance matrix for each of them.
        device: Where to fit; None for accelerate's choice.
    """

    tables: Sequence[Table]
    calibration: Calibration
    device: str | None = None
    _known: dict[tuple[int, int, TargetConfig], float | None] = field(default_factory=dict, repr=False)

    def shares(self, config: TargetConfig) -> list[TargetConfig]:
        """A target for each table, which together are the one that is asked for.

        Each table's loss is predicted at a few sizes around an equal share; between them its logarithm is taken to be
        linear in the size, and bytes go where they save the most. What that comes to is fitted, which tells the curves
        better, and done again; of all shares that were fitted, equal ones among them, those that lose the least win.
        Whatever the effort, the losses are those of the least: all tables gain by more of it in about the same way.
        Of a runtime's forms, which have a few sizes alone, each is fitted that goes with some others.

        Raises:
            FitError: No shares are that small.
        """
        wanted, config = config, replace(config, effort=FAST)
        total = int(total_bytes(self.tables, config) + _ROUNDING)
        tried = self._together(total) if config.runtime else self._between(total, config)
        losses = {sizes: self._loss(sizes, config) for sizes in sorted(tried)}
        best = min(losses, key=lambda sizes: losses[sizes], default=())
        if math.isinf(losses.get(best, math.inf)):
            raise FitError(f"the tables can't be made as small as {total / MB:.3g} MB together: choose more")
        return [self._at(number, size, wanted) for number, size in enumerate(best)]

    def _together(self, total: int) -> set[tuple[int, ...]]:
        """The sizes of block types, one for each table, that are within a total."""
        sizes = [block_sizes(table.info) for table in self.tables]
        return {each for each in itertools.product(*sizes) if sum(each) <= total}

    def _between(self, total: int, config: TargetConfig) -> set[tuple[int, ...]]:
        """Shares of a total that were fitted, equal ones among them."""
        equal = 8 * total / numbers_of(self.tables)
        tried = {tuple(int(equal * table.info.vocab * table.info.dim / 8) for table in self.tables)}
        numbers = range(len(self.tables))
        for _ in range(_ROUNDS):
            curves = [self._curve(number, equal, config) for number in numbers]
            if sum(curve.sizes[0] for curve in curves) <= total:
                steps = allocate(curves, total)
                tried.add(tuple(curve.sizes[step] for curve, step in zip(curves, steps, strict=True)))
            for sizes in tried:
                for number in numbers:
                    self._point(number, sizes[number], config)
        return tried

    def predicted(self, shares: Sequence[TargetConfig]) -> float:
        """The loss that tables of some shares are predicted to have together, in nats per token; each is fitted.

        Raises `FitError` where one can't be made so small.
        """
        artifacts = (
            fit_table(table, share, calibration=self.calibration, device=self.device)
            for table, share in zip(self.tables, shares, strict=True)
        )
        return sum(float(artifact.description.distances["cost"]) for artifact in artifacts)

    def _at(self, number: int, nbytes: int, config: TargetConfig) -> TargetConfig:
        """The same target for one of the tables, but for its size.

        A runtime's form is asked for by its bits: of its bytes in MB one could be lost.
        """
        if config.runtime is not None:
            info = self.tables[number].info
            return replace(config, target_ratio=None, target_mb=None, target_bits=8 * nbytes / (info.vocab * info.dim))
        return replace(config, target_bits=None, target_ratio=None, target_mb=nbytes / MB)

    def _loss(self, sizes: Sequence[int], config: TargetConfig) -> float:
        """What tables of some sizes are predicted to lose together; infinite where one can't be so small."""
        costs = (self._point(number, nbytes, config) for number, nbytes in enumerate(sizes))
        return sum(math.inf if cost is None else cost for cost in costs)

    def _curve(self, number: int, equal: float, config: TargetConfig) -> Cell:
        """What a table of a number loses at sizes around an equal share, smallest first, where it is known."""
        info = self.tables[number].info
        wanted = [bits for bits in GRID if equal / _FARTHEST <= bits <= equal * _FARTHEST] or [equal]
        for bits in wanted:
            self._point(number, int(bits * info.vocab * info.dim / 8), config)
        known = {
            nbytes: cost
            for (of, nbytes, like), cost in self._known.items()
            if of == number and like == _of_any_size(config) and cost is not None
        }
        if not known:
            raise FitError("the tables can't be made that small together: choose more")
        points = sorted(known.items())
        sizes, costs = [points[0][0]], [points[0][1]]
        for (size, cost), (following, lower) in itertools.pairwise(points):
            for step in range(1, _STEPS + 1):
                share = step / _STEPS
                sizes.append(round(size + share * (following - size)))
                costs.append(
                    math.exp((1 - share) * math.log(cost) + share * math.log(lower)) if cost and lower else 0.0
                )
        return Cell(sizes, costs)

    def _point(self, number: int, nbytes: int, config: TargetConfig) -> float | None:
        """The predicted loss of a table of at most so many bytes; None where no form is that small."""
        key = number, nbytes, _of_any_size(config)
        if key not in self._known:
            try:
                share = [self._at(number, nbytes, config)]
                self._known[key] = replace(self, tables=[self.tables[number]]).predicted(share)
            except FitError:
                self._known[key] = None
        return self._known[key]


def _of_any_size(config: TargetConfig) -> TargetConfig:
    """The same target but for its size."""
    return replace(config, target_bits=1.0, target_ratio=None, target_mb=None)


def equal_shares(tables: Sequence[Table], config: TargetConfig) -> list[TargetConfig]:
    """A target for each table: as many bits per weight for all, which together are the size that is asked for."""
    bits = 8 * total_bytes(tables, config) / numbers_of(tables)
    return [replace(config, target_bits=bits, target_ratio=None, target_mb=None)] * len(tables)


def numbers_of(tables: Sequence[Table]) -> int:
    """Numbers in all the tables."""
    return sum(table.info.vocab * table.info.dim for table in tables)


def total_bytes(tables: Sequence[Table], config: TargetConfig) -> float:
    """The bytes that a target allows all tables together."""
    if config.target_bits is not None:
        return config.target_bits * numbers_of(tables) / 8
    if config.target_ratio is not None:
        return sum(table.info.nbytes for table in tables) / config.target_ratio
    assert config.target_mb is not None
    return config.target_mb * MB
