"""The paper's claim put to the test on the demo model: SVD against the autoencoder at equal size."""

from __future__ import annotations

from pathlib import Path

import torch

from orientc.demo import evaluation_text
from orientc.evaluate import perplexity
from orientc.evaluate.progress import Progress
from orientc.models import DEMO, ModelSource
from orientc.plans import AUTOENCODER, SVD, Plan
from orientc.runs import model_folder
from orientc.sweep import Outcome, measuring, sweep

RATIOS = (5.0, 10.0)  # parameter ratios, fixed before any figure was seen


def run(*, out: Path | None, device: torch.device, progress: Progress) -> Outcome:
    """Fit both methods at every ratio and measure perplexity on the demo's own text, under each head policy."""
    source = ModelSource.resolve(DEMO)

    def measurement() -> perplexity.Measurement:
        return perplexity.Measurement(
            source,
            evaluation_text(),
            perplexity.Settings(),
            folder=model_folder(DEMO, out),
            device=device,
            progress=progress,
        )

    plans = [Plan(method, ratio=ratio) for ratio in RATIOS for method in (SVD, AUTOENCODER)]
    return sweep(source, plans, [measuring("perplexity", measurement)], out=out, device=str(device), progress=progress)
