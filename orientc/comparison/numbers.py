"""Numbers as people read them."""

from __future__ import annotations

import math


def figure(value: float, digits: int = 3) -> str:
    """A number to some significant digits, without exponents for what people can read."""
    if not math.isfinite(value):
        return "∞" if value > 0 else str(value)
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace(",", " ")
