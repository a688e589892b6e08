"""What strings several steps together: sweeps, and the demo's showcase.

May import everything but `cli`. Public: `sweep`.
"""
