"""The result of a calibration in memory: token counts and importance matrices. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenStatistics:
    """Token counts and importance matrices of a model.

    To second order, a change δe of the rows costs `½ · Σ_i δe_iᵀ (counts_i · M + head_counts_i · H) δe_i / Σ counts`
    nats per input position; without H where the head keeps the original table.

    Attributes:
        counts: How often each token occurs, float32 `[vocab]`.
        input_importance: The importance matrix M of looked-up rows, float32 `[dim, dim]`, symmetric and positive
            semidefinite, in nats per squared unit of the table; None where it was not measured.
        head_importance: The importance matrix H of a tied head's rows, likewise.
        prior: How often to expect each token in any text, in the same sum as the counts, float32 `[vocab]`, if known.
        input_shrinkage: Share of its diagonal in what is to be used of M, 0 to 1, float32 `[]`: what off the diagonal
            so few positions can't tell; None for none.
        head_shrinkage: The same of H.
        head_counts: How often a tied head expects each token: the sum of p (1 − p) over its predictions p, scaled to
            the sum of the counts, float32 `[vocab]`; None where it was not measured.
    """

    counts: Tensor
    input_importance: Tensor | None = None
    head_importance: Tensor | None = None
    prior: Tensor | None = None
    input_shrinkage: Tensor | None = None
    head_shrinkage: Tensor | None = None
    head_counts: Tensor | None = None
