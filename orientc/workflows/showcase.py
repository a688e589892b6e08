"""The paper's claim put to the test on the demo model: SVD against the autoencoder at equal size."""

from __future__ import annotations

from pathlib import Path

import torch

from orientc.compression.configs import AutoencoderConfig, SvdConfig
from orientc.models.source import DEMO, ModelSource
from orientc.utils.progress import Progress
from orientc.workflows.sweep import Measures, Outcome, sweep

RATIOS = (5.0, 10.0)  # parameter ratios, fixed before any figure was seen


def run(*, out: Path | None, device: torch.device, progress: Progress) -> Outcome:
    """Fit both methods at every ratio and measure perplexity on the demo's own text, under each head policy."""
    source = ModelSource.resolve(DEMO)

    measures = Measures.of(source, out=out, device=device, progress=progress)
    configs = [kind(ratio=ratio) for ratio in RATIOS for kind in (SvdConfig, AutoencoderConfig)]
    return sweep(source, configs, [measures.perplexity()], out=out, device=str(device), progress=progress)
