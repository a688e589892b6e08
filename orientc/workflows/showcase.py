"""The demo: the paper's claim put to the test on the packaged model, SVD against the autoencoder at equal size.

At its end stands what `shrink` makes of the same model within a tolerance.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from orientc.comparison.compare import compare
from orientc.evaluation.perplexity import perplexity
from orientc.models.argument import DEMO
from orientc.storage import runs
from orientc.utils import distributed
from orientc.utils.progress import Progress
from orientc.workflows.cells import MADE, SKIPPED, Cell
from orientc.workflows.shrink import shrink
from orientc.workflows.sweep import Sweep, sweep

RATIOS = (5.0, 10.0)  # parameter ratios, fixed before any figure was seen
WITHIN = "1%"
FOLDER = "shrunk"  # of the demo's folder among the runs: the model that comes of it


def showcase(*, device: str | None = None, out: str | Path | None = None, progress: Progress | None = None) -> Sweep:
    """Fit both methods at every ratio, shrink the model within 1 %, and measure perplexity on the demo's own text.

    Args:
        device: "cpu", "cuda" …; accelerate's choice unless given.
        out: Runs folder; `$ORIENTC_RUNS` or "runs" unless given.
        progress: Told of each fit and evaluation.
    """
    distributed.check_alone("demo")
    progress = progress or Progress()
    done = sweep(DEMO, ratios=RATIOS, perplexity=True, device=device, out=out, progress=progress)
    place = runs.model_folder(DEMO, None if out is None else Path(out)) / FOLDER
    start = time.perf_counter()
    small = shrink(DEMO, place, within=WITHIN, device=device, out=out, progress=replace(progress, done=_silent))
    assert small.artifact
    measured = perplexity(small.artifact, device=device, progress=progress)
    paths = (small.artifact, *(small.artifact.parent / record.file_name for record in measured.records))
    seconds = round(time.perf_counter() - start, 3)
    cell = Cell(f"shrunk within {WITHIN}", MADE if small.fresh else SKIPPED, seconds, paths)
    compared = compare([*done.paths, *paths])
    return replace(done, compared=compared, cells=(*done.cells, cell))


def _silent(_line: str) -> None:
    """Nothing is said of single sizes: the table is what is shown."""
