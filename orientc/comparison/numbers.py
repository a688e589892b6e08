"""Numbers as people read them."""

from __future__ import annotations

import math


def ratio(value: float, original: float | None) -> float | None:
    """How many times the original's a figure is; None where one of both is not finite, or the original's is 0."""
    if not original or not (math.isfinite(value) and math.isfinite(original)):
        return None
    return value / original


def with_error(shown: str, error: float | None) -> str:
    """A figure as it is shown, with its standard error where there is one."""
    return f"{shown} ± {figure(error, 2)}" if error else shown


def figure(value: float, digits: int = 3) -> str:
    """A number to some significant digits, without exponents for what people can read."""
    if not math.isfinite(value):
        return "∞" if value > 0 else str(value)
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace(",", " ")
