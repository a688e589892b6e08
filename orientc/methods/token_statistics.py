"""What a calibration measures, in memory: token counts and importance matrices. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenStatistics:
    """How a model uses its table, as far as a fit needs to know.

    `counts` float32 `[vocab]`; `input_importance` M and `head_importance` H float32 `[dim, dim]`, symmetric and positive
    semidefinite, in nats per squared unit of the table: a change δe of the rows costs
    `½ · Σ_i counts_i / Σ counts · δe_iᵀ (M + H) δe_i` nats per input position, to second order (without H where the
    head keeps the original table). None where it was not measured. `prior [vocab]`, of the counts' sum, is what tokens
    are to be expected before a text is seen; None where nothing is.
    """

    counts: Tensor
    input_importance: Tensor | None = None
    head_importance: Tensor | None = None
    prior: Tensor | None = None
