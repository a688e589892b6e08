"""What a tolerance allows, and which are refused."""

from __future__ import annotations

import math

import pytest

from orientc.errors import UsageError
from orientc.workflows.tolerance import Tolerance, difference_in_words


@pytest.mark.parametrize(
    ("measure", "text", "original", "allowed"),
    [
        ("perplexity", "1%", 20.0, math.log(1.01)),
        ("perplexity", "1.01x", 20.0, math.log(1.01)),
        ("perplexity", None, 20.0, math.log(1.01)),
        ("similarity", None, 1.0, 0.01),  # a mean cosine of 0.99
        ("similarity", "0.5 pt", 1.0, 0.005),
        ("spearman", None, 0.8, 0.005),
        ("spearman", "1%", 0.8, 0.008),
        ("spearman", "1.05×", 0.8, 0.04),
    ],
)
def test_what_is_allowed(measure: str, text: str | None, original: float, allowed: float) -> None:
    assert Tolerance.read(measure, text).allowed(original) == pytest.approx(allowed)


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        ("perplexity", "0.5pt"),  # it has no points
        ("perplexity", "1"),
        ("spearman", "0pt"),
        ("spearman", "0.9x"),
        ("similarity", "200%"),
        ("similarity", "nan%"),
        ("similarity", "-1%"),
        ("perplexity", ""),
    ],
)
def test_what_is_no_tolerance_is_refused_by_the_fields_name(measure: str, text: str) -> None:
    with pytest.raises(UsageError, match="`within`"):
        Tolerance.read(measure, text)


def test_a_measure_there_is_not_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="perplexity, similarity, spearman"):
        Tolerance.read("bleu", None)


def test_worse_is_more_of_a_perplexity_and_less_of_a_share() -> None:
    assert difference_in_words("perplexity", math.log(1.0072), 0.0021) == "+0.72 % ± 0.21"
    assert difference_in_words("spearman", 0.001, 0.002) == "−0.10 pt ± 0.20"
    assert difference_in_words("spearman", -0.001, None) == "+0.10 pt"
