"""GLUE: the nine tasks, their data and metrics, fine-tuning on them, and submission files."""
