"""How the sections measure, and the table they fill."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from orientc.models.source import ModelSource
from orientc.models.table import read_table

HEADER = ("section", "case", "ours", "against", "ratio", "wanted", "remarks")


@dataclass(frozen=True)
class Row:
    """One comparison. `wanted` is the claim it is held against, empty where there is none."""

    section: str
    case: str
    ours: str
    against: str = ""
    ratio: str = ""
    wanted: str = ""
    remarks: str = ""


def times_less(ours: float, against: float) -> str:
    return f"{against / ours:.2f}×"


def seconds(value: float) -> str:
    return f"{value:.3f} s" if value >= 0.1 else f"{1000 * value:.3f} ms"


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table that reads well as plain text too."""
    lines = [HEADER, *(astuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    texts = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)


def side_by_side(
    calls: dict[str, Callable[[], Any]], options: argparse.Namespace, *, inner: int = 1
) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds of each call, and what it returned last.

    They take turns, so that a neighbour's load meets all of them; `inner` calls are timed at once where one is short.
    """
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in calls}
    results = {}
    for _ in range(options.repeats):
        for name, call in calls.items():
            start = clock()
            for _ in range(inner):
                results[name] = call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name].append((clock() - start) / inner)
    return {name: statistics.median(values) for name, values in taken.items()}, results


def table_of(options: argparse.Namespace) -> torch.Tensor:
    """The benchmark model's table in float32 on the benchmark's device."""
    return read_table(ModelSource.resolve(options.model)).weight.float().to(options.device)


def peak_bytes(call: Callable[[], Any]) -> int:
    """The most that torch's allocator held at once for a call, above what it held before; its result counts."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as traced:
        call()
    events = traced.profiler.kineto_results.events()
    held = peak = 0
    for _, change in sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"):
        held += change
        peak = max(peak, held)
    return peak
