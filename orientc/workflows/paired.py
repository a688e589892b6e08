"""The difference of two records of the same text, and its standard error: neighbours and pairs are the same in both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orientc.errors import EvaluationError
from orientc.storage.records import Record
from orientc.workflows.tolerance import PERPLEXITY, SIMILARITY

Numbers = NDArray[np.float64]


def paired(measure: str, original: Record, record: Record) -> tuple[float, float]:
    """How much worse a record is than the uncompressed model's, and the standard error of that.

    Args:
        measure: "perplexity", in nats per token; "similarity" or "spearman", as a share.
        original: Of the uncompressed model.
        record: Of the same text, and the model compressed.

    Raises:
        EvaluationError: They are not of the same text, or have too little to tell an error from.
    """
    if measure == PERPLEXITY and math.isinf(float(record.metrics["loss"])):
        return math.inf, 0.0
    before, after = _blocks(original), _blocks(record)
    if measure == PERPLEXITY:
        return _ratio(after["loss"] - before["loss"], before["tokens"])
    if measure == SIMILARITY:
        return _ratio(before["cosine"] - after["cosine"], before["sentences"])
    first, second = (_influence(blocks["answer_rank"], blocks["label_rank"]) for blocks in (before, after))
    difference = float(original.metrics["spearman"]) - float(record.metrics["spearman"])
    return difference, float((first - second).std(ddof=1) / math.sqrt(len(first)))


def _blocks(record: Record) -> dict[str, Numbers]:
    found: dict[str, Any] = record.blocks or {}
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}
    if not arrays or min(map(len, arrays.values())) < 2:
        raise EvaluationError("there is too little text to tell an error from: name a longer one with `text`")
    return arrays


def _ratio(sums: Numbers, counts: Numbers) -> tuple[float, float]:
    """The mean by count, and its standard error over blocks."""
    mean = float(sums.sum() / counts.sum())
    spread = float(((sums - mean * counts) ** 2).sum() * len(sums) / (len(sums) - 1))
    return mean, math.sqrt(spread) / float(counts.sum())


def _influence(answers: Numbers, labels: Numbers) -> Numbers:
    """What each pair adds to the correlation of two rows of ranks."""
    one, other = ((values - values.mean()) / (values.std() or 1.0) for values in (answers, labels))
    correlation = float((one * other).mean())
    found: Numbers = one * other - correlation / 2 * (one**2 + other**2)
    return found
