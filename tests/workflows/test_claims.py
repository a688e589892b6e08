"""Verdicts by figures that are made up, so that what is true is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from orientc.evaluation.statistics import Sample, Scale
from orientc.workflows import paper
from orientc.workflows.claims import Claim, claims
from orientc.workflows.results import Measured, Result

NOISE = np.random.default_rng(0).normal(size=32)


def measured(value: float, noise: float, scale: Scale) -> Measured:
    """A figure whose groups move it in the same way as those of the others, and by `noise` in their own."""
    own = np.random.default_rng(int(value * 1000)).normal(size=32)
    sample = Sample(value, value * (1 + 0.002 * NOISE) + noise * own / 32, np.ones(32), scale)
    return Measured(value, sample.estimate().standard_error, 1, sample)


def table(method: str, preset: str, ratio: float | None, noise: float = 0.001, **figures: float) -> Result:
    found = {}
    for name, value in figures.items():
        named = name.replace("__", "-").replace("_ppl", "perplexity.").replace("_at_", ".")
        scale = Scale(0) if named.startswith("perplexity") else Scale(0, 100) if "squad" in named else Scale(0, 1)
        found[named] = measured(value, noise, scale)
    return Result(method, preset, ratio, 8, 1.0, 0.1, None, found)


def verdicts(*results: Result, **missing: str) -> dict[str, Claim]:
    return {claim.text: claim for claim in claims(results, missing)}


def ppl(input_only: float, tied: float) -> dict[str, Any]:
    return {"_pplinput__only": input_only, "_ppltied": tied}


def test_a_claim_holds_at_some_ratios_and_fails_at_others() -> None:
    found = verdicts(
        table("original", "", None, **ppl(10, 10)),
        table("svd", "", 2.5, **ppl(20, 40)),
        table("ae", "paper", 2.5, **ppl(15, 30)),
        table("ae", "default", 2.5, **ppl(14, 29)),
        table("svd", "", 10, **ppl(50, 90)),
        table("ae", "paper", 10, **ppl(60, 80)),
        table("ae", "default", 10, **ppl(45, 70)),
    )
    initial = found[paper.PERPLEXITY_CLAIM]
    assert (initial.verdict, initial.source) == ("holds at 2.5, does not hold at 10", paper.CLAIMED)
    assert [(part.ratio, part.verdict, part.difference) for part in initial.parts] == [
        (2.5, "holds", pytest.approx(0.75)),
        (10, "does not hold", pytest.approx(1.2)),
    ]
    assert all(part.low and part.high and part.low < part.difference < part.high for part in initial.parts)
    assert initial.parts[0].told.startswith("0.7500 times SVD's (95 %: 0.7")
    assert (found[paper.TIED_CLAIM].verdict, found[paper.TIED_CLAIM].source) == ("holds", paper.NOT_CLAIMED)
    assert found[paper.RECIPE_CLAIM].verdict == "holds"
    assert (found[paper.SQUAD_CLAIM].verdict, found[paper.SQUAD_CLAIM].parts) == ("not measured", ())


def test_what_noise_alone_could_do_is_not_told_apart() -> None:
    found = verdicts(
        table("original", "", None, **ppl(10, 10)),
        table("svd", "", 5, 8.0, **ppl(20, 20), squad_at_f1=40),
        table("ae", "paper", 5, 8.0, **ppl(19.9, 20.1), squad_at_f1=40.1),
    )
    assert {found[text].verdict for text in (paper.PERPLEXITY_CLAIM, paper.TIED_CLAIM, paper.SQUAD_CLAIM)} == {
        "not told apart"
    }


def test_without_an_error_nothing_is_said_to_hold() -> None:
    svd, own = table("svd", "", 5), table("ae", "paper", 5)
    svd.figures["perplexity.input-only"] = Measured(20.0, None, 1)
    own.figures["perplexity.input-only"] = Measured(10.0, None, 1)
    claim = verdicts(svd, own)[paper.PERPLEXITY_CLAIM]
    assert (claim.verdict, claim.parts[0].told) == ("not tested", "0.5000 times SVD's (error not known)")
    own.figures["perplexity.input-only"] = Measured(math.inf, None, 1)
    claim = verdicts(svd, own)[paper.PERPLEXITY_CLAIM]
    assert (claim.verdict, claim.parts[0].told) == ("not tested", "one of the two is infinite")


def test_tasks_count_one_by_one_and_their_mean_decides() -> None:
    found = verdicts(
        table("svd", "", 5, rte_at_accuracy=0.5, mrpc_at_accuracy=0.7, mrpc_at_f1=0.8, sst2_at_accuracy=0.8),
        table("ae", "paper", 5, rte_at_accuracy=0.6, mrpc_at_accuracy=0.8, mrpc_at_f1=0.9, sst2_at_accuracy=0.79),
    )
    claim = found[paper.GLUE_CLAIM]
    (part,) = claim.parts
    assert (claim.verdict, claim.told) == ("holds", "without cola, stsb, qqp, mnli, qnli, wnli")
    assert part.told.startswith("ahead in 3 of 4 figures, behind in 1, +6.3 points on average (95 %: ")
    assert part.difference == pytest.approx((10 + 10 - 1) / 3)


def test_the_interval_of_a_mean_over_tasks_is_students() -> None:
    """One task alone has the very interval of its paired difference, which few degrees of freedom make wide."""
    svd = table("svd", "", 5, 0.02, sst2_at_accuracy=0.8)
    own = table("ae", "paper", 5, 0.02, sst2_at_accuracy=0.79)
    (part,) = verdicts(svd, own)[paper.GLUE_CLAIM].parts
    known = own.figures["sst2.accuracy"].against(svd.figures["sst2.accuracy"])
    assert known is not None
    assert (part.low, part.high) == (pytest.approx(100 * known.low), pytest.approx(100 * known.high))
    assert known.high - known.value > 2.05 * known.standard_error


def test_what_is_missing_says_why() -> None:
    found = verdicts(table("original", "", None), perplexity="no text", squad="no folder")
    assert (found[paper.PERPLEXITY_CLAIM].verdict, found[paper.PERPLEXITY_CLAIM].told) == ("not measured", "no text")
    assert found[paper.SQUAD_CLAIM].told == "no folder"


def test_a_model_with_a_head_of_its_own_has_no_tied_claim() -> None:
    svd, own = table("svd", "", 5, _pplinput__only=20), table("ae", "paper", 5, _pplinput__only=15)
    found = verdicts(svd, own)
    assert paper.TIED_CLAIM not in found
    assert found[paper.PERPLEXITY_CLAIM].verdict == "holds"
