"""The rank and the rows kept that a config means for one table."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

from orientc.compression.configs import AUTO, CodedConfig, Config, QuantizeConfig, RankConfig, SvdConfig
from orientc.errors import FitError
from orientc.methods import kept_rows
from orientc.methods.importance import Importance
from orientc.methods.table_rows import TableRows
from orientc.methods.token_statistics import TokenStatistics
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.modeling.layout import PER_GROUP, Layout
from orientc.models.table import Table
from orientc.storage.sizes import choose_rank

C = TypeVar("C", bound=Config)


def sized(config: C, table: Table, calibration: TokenStatistics | None = None) -> C:
    """The same config with a rank in the place of a ratio, and a number in the place of `keep_rows` "auto".

    Args:
        config: What is asked for.
        table: The table to compress.
        calibration: Measured on this table, where there is one.

    Raises:
        FitError: The table is too small for what is asked.
    """
    vocab, dim = table.info.vocab, table.info.dim
    if not isinstance(config, CodedConfig):
        return config
    if isinstance(config.keep_rows, int) and config.keep_rows >= vocab:
        raise FitError(f"keep_rows {config.keep_rows} leaves none of the table's {vocab} rows to compress")
    if isinstance(config, QuantizeConfig) and config.block:
        _check_blocks(config.block, dim)
    if not isinstance(config, RankConfig):
        return config
    bias = config.center if isinstance(config, SvdConfig) else True
    keep = _rows_that_pay(config, table, bias, calibration) if config.keep_rows == AUTO else int(config.keep_rows)
    plain = Layout(vocab, dim, 1, bias=bias, kept=keep)
    rank = choose_rank(partial(_laid_out, config, plain), rank=config.rank, ratio=config.ratio)
    return cast(C, replace(config, rank=rank, ratio=None, keep_rows=keep))


def _check_blocks(block: str, dim: int) -> None:
    """Raise `FitError` where rows of that width are no whole number of blocks."""
    if dim % (width := BLOCK_TYPES[block].width):
        fitting = [name for name, kind in BLOCK_TYPES.items() if dim % kind.width == 0]
        choose = f"choose one of {', '.join(fitting)}" if fitting else "no block type fits"
        raise FitError(f"{block} blocks have {width} numbers, which do not divide the table's {dim} columns: {choose}")


def importance_of(config: Config, weight: TableRows, calibration: TokenStatistics | None) -> Importance:
    """What a change of a table `[vocab, dim]` is predicted to cost; without a calibration every change the same."""
    if calibration is None:
        return Importance.plain(weight)
    return Importance.of(calibration, weight, head_weight=config.head_weight)


def _rows_that_pay(config: RankConfig, table: Table, bias: bool, calibration: TokenStatistics | None) -> int:
    assert config.ratio is not None
    budget = int(table.info.vocab * table.info.dim / config.ratio) - (table.info.dim if bias else 0)  # numbers
    importance = importance_of(config, table.weight, calibration)
    found = kept_rows.best(table.weight, budget, importance, itemsize=1, id_size=1)
    return found.count if found else 0


def _laid_out(config: RankConfig, plain: Layout, rank: int) -> Layout:
    """The layout of a table at a rank, from that of plain latents of any rank."""
    layout = replace(plain, rank=rank)
    if config.bits is None:
        return layout
    layout = replace(layout, codec=PER_GROUP, group_size=config.group_size)
    return replace(layout, bits=((config.bits,) * layout.groups,), row_group_sizes=(layout.rows,))
