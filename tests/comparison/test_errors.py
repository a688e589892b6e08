"""Errors beside figures: intervals, paired differences, what is marked as best, gates that all of an interval meets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.comparisons import TEXT, only, put, record

from orientc.comparison import formats
from orientc.comparison.compare import compare
from orientc.errors import UsageError
from orientc.evaluation.figures import errors
from orientc.storage import records
from orientc.storage.records import Record

TIED = "perplexity.tied"
TOKENS = 10
HARD = np.random.default_rng(0).gamma(4, size=120)  # nats of each block, in which models differ little


def measured(path: Path | None, times: float, *, noise: float = 0.01, seed: int = 0, blocks: bool = True) -> Record:
    """A record of so many times the uncompressed model's perplexity, whose blocks vary by `noise` nats."""
    added = np.log(times) + noise * np.random.default_rng(seed).normal(size=len(HARD))
    sums = TOKENS * (HARD + (added - added.mean() + np.log(times) if path else 0))
    kept = {"tokens": [float(TOKENS)] * len(sums), "loss": sums.tolist()}
    figure = float(np.exp(sums.sum() / (TOKENS * len(sums))))
    made = record(figure, path, text=TEXT)
    metrics = made.metrics | {"perplexity": figure, "loss": float(np.log(figure))}
    if not blocks:
        return replace(made, metrics=metrics)
    return replace(made, metrics=metrics, blocks=kept, errors=errors(metrics, kept))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ranks 1, 2, 3 at 1.5, 1.2 and 1.2001 times the uncompressed model's perplexity."""
    records.write(measured(None, 1.0), tmp_path)
    for rank, times in ((1, 1.5), (2, 1.2), (3, 1.2001)):
        records.write(measured(put(tmp_path, rank), times, seed=rank), tmp_path)
    return tmp_path


def test_the_paired_error_is_far_below_that_of_each_figure(folder: Path) -> None:
    one = next(row for row in only(folder).rows if row.rank == 1).figures[TIED]
    assert one.versus_original is not None
    assert one.versus_original.value == pytest.approx(1.5, rel=1e-6)
    assert one.error is not None
    assert one.versus_original.standard_error < 0.02 * one.error / one.value
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.value < one.high


def test_a_best_is_marked_only_where_it_is_told_apart(folder: Path) -> None:
    found = only(folder)
    assert found.best(TIED) == set()  # 1.2 and 1.2001 times are one within the error
    (folder / next(path.name for path in folder.glob("*.perplexity-*") if "r3" in path.name)).unlink()
    found = only(folder)
    assert [found.rows[number].rank for number in found.best(TIED)] == [2]


def test_rows_are_held_against_one_of_them_with_holms_correction(folder: Path) -> None:
    found = compare([folder], against="svd-r2-float32")
    by_rank = {row.rank: row.figures[TIED].versus for row in found.comparisons[0].rows}
    one, three = by_rank[1], by_rank[3]
    assert one is not None
    assert three is not None
    assert one.value == pytest.approx(1.25, rel=1e-6)
    assert one.p_holm == pytest.approx(min(1, 2 * one.p))
    assert one.told_apart
    assert not three.told_apart
    assert by_rank[2] is None
    shown = formats.render(found)
    assert "(1.250×, p " in shown
    assert "against svd-r2-float32" in shown
    assert json.loads(formats.render(found, "json"))["comparisons"][0]["held_against"] == "svd-r2-float32"
    by_path = compare([folder], against=str(folder / "svd-r2-float32.safetensors")).comparisons[0]
    assert by_path.held_against == "svd-r2-float32"
    with pytest.raises(UsageError, match="`against` takes the name of a row"):
        compare([folder], against="svd-r9")


@pytest.mark.parametrize(
    ("gate", "met"),
    [
        ("perplexity.tied <= 1.51x @95%", True),
        ("perplexity.tied <= 1.501x", True),
        ("perplexity.tied <= 1.501x @95%", False),
        ("perplexity.tied >= 1.19x @95%", True),
        ("perplexity.tied >= 1.2x @95%", False),
        ("perplexity.tied <= 500 @95%", True),
        ("perplexity.tied <= 80 @95%", False),
    ],
)
def test_a_gate_may_ask_for_all_of_an_interval(folder: Path, gate: str, met: bool) -> None:
    missed = compare([folder], require=gate).failures
    assert (not missed) == met
    assert all("95 %: " in str(failure) for failure in missed if "@95%" in gate)


def test_without_errors_such_a_gate_is_missed_and_says_why(tmp_path: Path) -> None:
    records.write(measured(None, 1.0), tmp_path)
    records.write(measured(put(tmp_path, 1), 1.0001, blocks=False), tmp_path)
    assert not compare([tmp_path], require="perplexity.tied <= 1.5x").failures
    (failure,) = compare([tmp_path], require="perplexity.tied <= 1.5x @95%").failures
    assert "no error is known: measure again" in str(failure)


def test_every_format_has_the_errors(folder: Path) -> None:
    found = compare([folder])
    for format in ("table", "markdown", "html"):
        shown = formats.render(found, format)
        assert " ± " in shown
        assert "± standard error" in shown
    (line, *_) = formats.render(found, "csv").splitlines()
    assert f"{TIED} error" in line
    figure = json.loads(formats.render(found, "json"))["comparisons"][0]["rows"][1]["figures"][TIED]
    assert figure["low"] < figure["value"] < figure["high"]
    assert figure["versus_original"]["low"] < figure["ratio"] < figure["versus_original"]["high"]
