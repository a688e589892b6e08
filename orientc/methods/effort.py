"""How far transform coding's search for codes looks back. Imports no torch."""

FAST, BEST = "fast", "best"
WIDEST = {FAST: 12, BEST: 14}  # the widest window of each effort, in bits
EFFORTS = tuple(WIDEST)
