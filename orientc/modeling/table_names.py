"""Names of a model's tables. Imports nothing."""

from __future__ import annotations

INPUT = "input"  # what `get_input_embeddings()` looks tokens up in
HEAD = "head"  # the output projection's own, where it does not share that one; any other goes by its module's name
