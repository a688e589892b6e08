"""The demo: the paper's claim put to the test on the packaged model, SVD against the autoencoder at equal size."""

from __future__ import annotations

from pathlib import Path

from orientc.models.argument import DEMO
from orientc.utils import distributed
from orientc.utils.progress import Progress
from orientc.workflows.sweep import Sweep, sweep

RATIOS = (5.0, 10.0)  # parameter ratios, fixed before any figure was seen


def showcase(*, device: str | None = None, out: str | Path | None = None, progress: Progress | None = None) -> Sweep:
    """Fit both methods at every ratio and measure perplexity on the demo's own text, under each head policy.

    Args:
        device: "cpu", "cuda" …; accelerate's choice unless given.
        out: Runs folder; `$ORIENTC_RUNS` or "runs" unless given.
        progress: Told of each fit and evaluation.
    """
    distributed.check_alone("demo")
    return sweep(DEMO, ratios=RATIOS, perplexity=True, device=device, out=out, progress=progress)
