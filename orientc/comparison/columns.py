"""Which figures share a column: those measured in the same way, on the same text or data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

from orientc.comparison.names import OF_A_POLICY, TEXT, label
from orientc.comparison.numbers import ratio
from orientc.comparison.rows import Column, Figure
from orientc.evaluation.figures import over_seeds
from orientc.evaluation.statistics import Sample, Spread
from orientc.modeling.table_names import HEAD
from orientc.storage.records import Record
from orientc.storage.sizes import HEAD_ONLY, INPUT_ONLY, POLICIES, TIED
from orientc.storage.table_info import TableInfo
from orientc.utils.files import canonical_json, short_hash


def columns_of(read: list[Record]) -> tuple[tuple[Column, ...], dict[str, list[tuple[Record, float]]]]:
    """The columns that records make, and what each has by its key: records with the value of that figure."""
    ways: dict[str, dict[str, list[tuple[Record, float]]]] = {}
    for record in read:
        for name, value in _figures(record, read).items():
            ways.setdefault(name, {}).setdefault(canonical_json(way_of(record)), []).append((record, value))
    found: list[tuple[Column, list[tuple[Record, float]]]] = []
    for name in sorted(ways, key=_order):
        several = [ways[name][way] for way in sorted(ways[name])]
        columns = [
            Column(
                name,
                _chosen(own[0][0]),
                way_of(own[0][0]),
                of_artifacts=any(record.artifact for record, _ in own),
            )
            for own in several
        ]
        told = zip(told_apart(columns), several, strict=True)
        found += sorted(told, key=lambda entry: (bool(entry[0].chosen), entry[0].key))
    return tuple(column for column, _ in found), {column.key: own for column, own in found}


def _chosen(record: Record) -> dict[str, Any]:
    """What a figure is named by beside its metric; of a record that does not tell, all that it was measured by.

    A text of someone's own is named with its hash: under the same name there may be another one tomorrow.
    """
    on = record.text or {}
    if record.chosen is None:
        told = {name: value for name, value in way_of(record).items() if name not in ("on", "sha256")}
        chosen = {name: value for name, value in told.items() if value is not None}
        chosen |= {TEXT: on["name"]} if on else {}
    else:
        chosen = dict(record.chosen)
    if TEXT in chosen:
        chosen[TEXT] = f"{chosen[TEXT]}:{str(on.get('sha256'))[:8]}"
    return chosen


def policies_of(base: TableInfo, read: Iterable[Record] = ()) -> tuple[str, ...]:
    """The head policies that a compressed table may be run under, and those that some records were measured under."""
    if base.tied:
        return (INPUT_ONLY, TIED)
    own = HEAD_ONLY if base.table == HEAD else INPUT_ONLY
    measured = {record.head for record in read if record.artifact and record.kind == "perplexity"}
    return tuple(head for head in POLICIES if head in measured | {own})


def _figures(record: Record, read: Iterable[Record]) -> dict[str, float]:
    """A record's figures by column name; the uncompressed model's one perplexity stands for every head policy."""
    if record.artifact is None and record.kind == "perplexity":
        heads = policies_of(record.table, read)
        return {f"perplexity.{head}": value for value in record.figures.values() for head in heads}
    return record.figures


def way_of(record: Record) -> dict[str, Any]:
    """All that has to be the same for figures to share a column."""
    on = record.text or record.data or {}
    seeded = record.text is not None  # a text's masks; of a fine-tuning figures are taken over seeds
    settings = {name: value for name, value in record.settings.items() if seeded or name != "seed"}
    described = {name: value for name, value in on.items() if name not in ("name", "task", "sha256")}
    return {"on": on.get("name"), **described, **settings, "sha256": str(on.get("sha256"))[:8]}


def told_apart(columns: Sequence[Column]) -> list[Column]:
    """Columns of one name, with what tells those apart for which all that was chosen is the same.

    That is the content of a data set, or what a model says of itself; of the same files it is always the same.
    """
    alike: dict[str, list[Column]] = {}
    for column in columns:
        alike.setdefault(column.key, []).append(column)
    return [column if len(alike[column.key]) == 1 else _beside(column, alike[column.key]) for column in columns]


def _beside(column: Column, alike: Sequence[Column]) -> Column:
    names = dict.fromkeys(name for each in alike for name in each.measured)
    differing = [name for name in names if len({canonical_json(each.measured.get(name)) for each in alike}) > 1]
    for told in ([name for name in differing if name not in ("on", "sha256")], differing):
        besides = [{name: each.measured.get(name) for name in told} for each in alike]
        if len(set(map(label, besides))) == len(alike):
            return replace(column, besides=besides[alike.index(column)])
    return replace(column, besides={"way": short_hash(column.measured)})  # 3 and 3.0, or null and nothing at all


def words(values: Mapping[str, Any], names: Iterable[str]) -> str:
    """Names with their values, without those that have none."""
    shown = ((name.replace("_", " "), values[name]) for name in names if values.get(name) is not None)
    return ", ".join(
        f"{name} {str(value).removesuffix('.0') if isinstance(value, float) else value}" for name, value in shown
    )


def _order(name: str) -> tuple[int, str]:
    """Perplexities first, by head policy, then divergences; the rest by name."""
    ours = [f"{figure}.{head}" for figure in OF_A_POLICY for head in POLICIES]
    return (ours.index(name), "") if name in ours else (len(ours), name)


def figure_of(column: Column, own: list[tuple[Record, float]], original: Figure | None) -> Figure:
    """One record's figure, or the mean of several that differ in their seed alone, against the uncompressed model's."""
    spread = Spread.of([value for _, value in own])
    seeds = sorted(record.settings["seed"] for record, _ in own if isinstance(record.settings.get("seed"), int))
    known = _sample(column, [record for record, _ in own])
    found = Figure(spread.mean, std=spread.std, seeds=tuple(seeds), sample=known)
    if known:
        told = known.estimate()
        found = replace(found, error=told.standard_error, low=told.low, high=told.high)
    if original is None:
        return found
    finite = isfinite(spread.mean) and isfinite(original.value)
    return replace(
        found,
        ratio=ratio(spread.mean, original.value),
        difference=spread.mean - original.value if finite else None,
        versus_original=found.paired(original),
    )


def _sample(column: Column, own: list[Record]) -> Sample | None:
    """How a column's figure varies with what was measured on; None where the records don't tell."""
    subject, _, rest = column.name.partition(".")
    metric = subject if own[0].kind == "perplexity" else rest
    return over_seeds(metric, own)
