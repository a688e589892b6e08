"""GLUE: the nine tasks, their data, their figures, and the benchmark's submission files."""
