"""The words that options of evaluations take, where they can be read without importing torch."""

from __future__ import annotations

POOLINGS = ("mean", "cls", "max", "last")  # of token states into a sentence's vector
TRAIN_EMBEDDINGS = ("decoder", "all", "none")  # what of a compressed table fine-tuning trains
