"""An artifact's facts for people, as `compress`, `svd`, `quantize`, `inspect` and `tune` show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from orientc.cli import output
from orientc.comparison.numbers import figure
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.modeling.layout import CODED, GGML, PER_GROUP, Layout
from orientc.modeling.table_names import INPUT
from orientc.storage.sizes import MB

if TYPE_CHECKING:
    from orientc.compression.fit_and_store import Compressed
    from orientc.storage.description import Description
    from orientc.storage.table_info import TableInfo


def show(compressed: Compressed, *, as_json: bool, quiet: bool) -> None:
    """The path, sizes and distances of an artifact, or of each of several, on stdout; a note where it was there."""
    for each in compressed.all:
        if not each.fresh:
            output.note(f"done already: {each.path} has these settings", quiet=quiet)
    if as_json:
        output.show_json(compressed.as_dict())
        return
    for number, each in enumerate(compressed.all):
        if number:
            output.show("\n")
        taken = [] if each.seconds is None else [("fit", f"{each.seconds} s")]
        output.show_facts([("artifact", str(each.path)), *facts(each.description), *taken])


def facts(description: Description) -> list[tuple[str, str]]:
    """An artifact's sizes and distances."""
    base = description.base
    return [
        (
            "base model",
            f"{base.id}, {called(base)} {base.vocab} × {base.dim} {base.dtype}, {base.nbytes / MB:.2f} MB",
        ),
        ("method", f"{description.method}, rank {description.rank}, {description.dtype}"),
        *stored(description.layout),
        ("size", f"{description.nbytes / MB:.2f} MB, {figure(description.bits_per_weight)} bits per weight"),
        (
            "ratio",
            f"{figure(description.parameter_ratio)} in parameters, {figure(description.byte_ratio)} in bytes",
        ),
        ("cosine distance", f"{description.distances['cosine']:.5f}"),
        ("RMSE", f"{description.distances['rmse']:.5f}"),
        *costs(description.distances),
    ]


def called(base: TableInfo) -> str:
    """What a table is called before its size: of the lookup's, just a table."""
    return "table" if base.table == INPUT else f"table {base.table},"


def stored(layout: Layout) -> list[tuple[str, str]]:
    """Row groups, bits and scales of latents in codes, and the rows kept."""
    found = []
    if layout.codec in CODED:
        if len(layout.bits) > 1:
            groups = zip(layout.row_group_sizes, layout.bits, strict=True)
            found.append(("row groups", "; ".join(f"{rows} rows in {_ranges(bits)} bits" for rows, bits in groups)))
        else:
            found.append(("bits", _ranges(layout.bits[0])))
        per_group = f"per row and group of {layout.group_size} columns"
        per_channel = f"per-channel, trellis codes with windows of {layout.window} bits"
        found.append(("scales", per_group if layout.codec == PER_GROUP else per_channel))
    if layout.codec == GGML:
        kind = BLOCK_TYPES[layout.block]
        found.append(("blocks", f"ggml's {layout.block}, {kind.width} numbers in {kind.nbytes} bytes"))
    if layout.kept:
        found.append(("rows kept", f"{layout.kept} of {layout.vocab}"))
    return found


def costs(distances: Mapping[str, float]) -> list[tuple[str, str]]:
    """The predicted loss, and that of the other forms of the size."""
    found = []
    if "cost" in distances:
        found.append(("predicted loss", f"{figure(distances['cost'])} nats per token"))
    forms = {name: cost for name, cost in distances.items() if name.startswith("cost_")}
    if forms:
        ordered = sorted(forms.items(), key=lambda entry: entry[1])
        told = [f"{name.removeprefix('cost_')} {figure(cost)}" for name, cost in ordered]
        found.append(("chosen", f"{told[0]}{' over ' * (len(told) > 1)}{', '.join(told[1:])}"))
    return found


def _ranges(bits: tuple[int, ...]) -> str:
    return f"{bits[0]}" if len({*bits}) == 1 else f"{max(bits)}–{min(bits)}"
