"""Targets without a calibration: nothing is known of the model but its table."""

from __future__ import annotations

from pathlib import Path

import pytest

import orientc
from orientc.storage.sizes import MB


@pytest.mark.parametrize("bits", [2, 4])
def test_a_target_loses_less_than_plain_rounding_of_its_bytes(bits: int, tmp_path: Path) -> None:
    """By the divergence of the predictions under either head policy, on a text that the packaged model did not see."""
    rounded = orientc.quantize("demo", bits=bits, out=tmp_path, device="cpu")
    made = orientc.compress("demo", target_mb=rounded.description.nbytes / MB, out=tmp_path, device="cpu")
    assert made.description.nbytes <= rounded.description.nbytes
    one, other = (orientc.perplexity(each.path, limit=40, device="cpu").records[1:] for each in (made, rounded))
    assert [record.head for record in one] == ["input-only", "tied"] == [record.head for record in other]
    for record, plain in zip(one, other, strict=True):
        assert record.metrics["kl"] < 0.5 * plain.metrics["kl"]
