"""The words that options of evaluations take, where they can be read without importing torch."""

from __future__ import annotations

from orientc.storage.sizes import BOTH, HEAD_ONLY, INPUT_ONLY, TIED

NONE = "none"  # the word for nothing of what an option offers
HEADS = (BOTH, INPUT_ONLY, HEAD_ONLY, TIED)  # which of a model's figures is measured
POOLINGS = ("mean", "cls", "max", "last")  # of token states into a sentence's vector
TRAIN_EMBEDDINGS = ("decoder", "all", NONE)  # what of a compressed table fine-tuning trains
_, LAST, BEST = KEEP = (NONE, "last", "best")  # which of the models fine-tuned with several seeds stay
