"""Small calibrations of random numbers, of no model at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from orientc.storage.calibration import Calibration, CalibrationDescription
from orientc.storage.table_info import TableInfo

VOCAB, DIM = 11, 6
BASE = TableInfo(
    id="some/model", revision="abc", sha256="0" * 64, vocab=VOCAB, dim=DIM, dtype="float32", nbytes=VOCAB * DIM * 4,
    padding_idx=0, embed_scale=6**0.5, tied=True, model_parameters=1000, model_bytes=4000,
)  # fmt: skip


def made(
    *,
    input_importance: bool = True,
    head_importance: bool = True,
    prior: bool = False,
    head_counts: bool = False,
    **changes: Any,
) -> Calibration:
    """A small calibration of random numbers."""
    generator = torch.Generator().manual_seed(0)

    def importance() -> Tensor:
        root = torch.randn(DIM, DIM, generator=generator)
        return root @ root.T

    description = CalibrationDescription(
        base=BASE, objective="masked" if input_importance else None, text="some.txt", text_sha256="1" * 64,
        frequency=None,
        counted=500, measured=300 if input_importance else 0, metrics=(), settings={"tokens": 300}, seed=7,
    )  # fmt: skip
    made = Calibration(
        torch.arange(VOCAB, dtype=torch.float32),
        importance() if input_importance else None,
        importance() if head_importance else None,
        torch.arange(VOCAB, dtype=torch.float32).flip(0) if prior else None,
        torch.tensor(0.0) if input_importance else None,
        torch.tensor(0.0) if head_importance else None,
        torch.arange(VOCAB, dtype=torch.float32).roll(3) if head_counts else None,
        description=description,
    )
    names = tuple(name for name in made.tensors if name.endswith("importance"))
    return replace(made, description=replace(description, metrics=names, **changes))
