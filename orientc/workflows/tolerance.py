"""How much worse a smaller model may be: "1%", "1.01x" or "0.5pt" of a measure, and what is worse at all."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from orientc.errors import UsageError
from orientc.evaluation.glue.tasks import TASKS

PERPLEXITY, SIMILARITY, SPEARMAN = "perplexity", "similarity", "spearman"
MEASURES = (PERPLEXITY, SIMILARITY, SPEARMAN, *TASKS)  # a task's is its first figure
DEFAULTS = {PERPLEXITY: "1%", SIMILARITY: "1%"}  # a mean cosine of at least 0.99
_DEFAULT = "0.5pt"  # of the others
_FORM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|x|×|pt)")


@dataclass(frozen=True)
class Tolerance:
    """What a measure may lose.

    Differences are in the unit that they are paired in: nats per token for perplexity, whose ratio is exp of them;
    elsewhere shares from 0 to 1, of which a point is a hundredth.

    Attributes:
        measure: "perplexity", "similarity" (the mean cosine of sentence vectors), "spearman", or a task's name.
        text: The tolerance as it was given.
        amount: The share that may be lost: 0.01 for "1%" and "1.01x", 0.005 for "0.5pt".
        points: Whether `amount` is absolute, in place of a share of the uncompressed model's figure.
    """

    measure: str
    text: str
    amount: float
    points: bool

    @classmethod
    def read(cls, measure: str, text: str | None) -> Tolerance:
        """Read a tolerance, the measure's default where `text` is None.

        Raises `UsageError` where it is none, is 0, or does not go with the measure.
        """
        check_measure(measure)
        text = DEFAULTS.get(measure, _DEFAULT) if text is None else text
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise UsageError(f"`within` takes 1%, 1.01x or 0.5pt, not {text!r}")
        number, unit = float(found[1]), found[2]
        amount = number - 1 if unit in "x×" else number / 100
        if not 0 < amount < 1:
            raise UsageError(f"`within` must be more than nothing and less than the whole figure, not {text}")
        if measure == PERPLEXITY and unit == "pt":
            raise UsageError("`within` takes points for figures from 0 to 1; for perplexity write 1% or 1.01x")
        return cls(measure, text.strip(), amount, unit == "pt")

    def allowed(self, original: float) -> float:
        """The largest difference that is inside, for an uncompressed model's figure."""
        if self.measure == PERPLEXITY:
            return math.log1p(self.amount)
        return self.amount if self.points else self.amount * abs(original)


def check_measure(measure: str) -> None:
    """Raise `UsageError` for a measure there is not."""
    if measure not in MEASURES:
        raise UsageError(f"`measure` must be one of {', '.join(MEASURES)}, not {measure!r}")


def called(measure: str) -> str:
    """What a measure's figure is called."""
    if measure in TASKS:
        return f"{TASKS[measure].folder} {TASKS[measure].metrics[0]}"
    return {SIMILARITY: "mean cosine", SPEARMAN: "Spearman"}.get(measure, measure)


def difference_in_words(measure: str, difference: float, error: float | None) -> str:
    """A difference for people, as "+0.72 % ± 0.21" of a perplexity or "−0.10 pt ± 0.20"; worse is + for perplexity.

    Args:
        measure: The measure.
        difference: How much worse the figure is, in nats or shares.
        error: Its standard error, in the same unit; None where there is none.
    """
    if measure == PERPLEXITY:
        value, unit = 100 * math.expm1(min(difference, 700.0)), "%"
        spread = None if error is None else 100 * error * math.exp(min(difference, 700.0))
    else:
        value, unit = -100 * difference, "pt"
        spread = None if error is None else 100 * error
    sign = "−" if value < 0 else "+"
    return f"{sign}{abs(value):.2f} {unit}" + ("" if spread is None else f" ± {spread:.2f}")
