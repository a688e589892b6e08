"""Several steps in a row: sweeps, and the demo.

May import everything but `cli`. Public: `sweep`.
"""
