"""Several steps in a row: sweeps, the paper's study, and the demo.

May import everything but `cli`. Public: `sweep`, `reproduce`.
"""
