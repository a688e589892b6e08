"""The paper's claim put to the test on the demo model: SVD against the autoencoder at equal size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from orientc import runs
from orientc.artifact import Artifact, load
from orientc.compression import AUTOENCODER, SVD, Plan, run
from orientc.demo import evaluation_text
from orientc.evaluate import perplexity
from orientc.evaluate.progress import Progress
from orientc.models import DEMO, ModelSource
from orientc.tables import Table, read_table

RATIOS = (5.0, 10.0)  # parameter ratios, fixed before any figure was seen


def artifacts(out: Path | None, device: str | None, on_fit: Callable[[str], None]) -> list[Path]:
    """Fit both methods at every ratio, or find what is there already. `on_fit` is told which fit is done."""
    table = read_table(ModelSource.resolve(DEMO))
    found = []
    for ratio in RATIOS:
        for method in (SVD, AUTOENCODER):
            plan = Plan(method, ratio=ratio).for_table(table)
            path = runs.artifact_path(DEMO, plan, out)
            runs.produce(plan, table.info, path, partial(_fit, plan, table, device))
            found.append(path)
            on_fit(f"{method}, ratio {ratio:g}")
    return found


def _fit(plan: Plan, table: Table, device: str | None, log: Callable[[Any], None]) -> Artifact:
    return run(plan, table, device=device, on_epoch=log)


def evaluate(paths: list[Path], device: torch.device, progress: Progress) -> set[Path]:
    """Perplexity of the demo model on its own text, uncompressed and with each artifact under each head policy.

    Returns the records' paths, beside the artifacts.
    """
    source, text = ModelSource.resolve(DEMO), evaluation_text()
    return {
        path.parent / record.file_name
        for path in paths
        for record in perplexity.evaluate(
            source,
            text,
            perplexity.Settings(),
            folder=path.parent,
            device=device,
            compressed=(path, load(path)),
            progress=progress,
        )
    }
