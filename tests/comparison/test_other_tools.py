"""Result files of lm-evaluation-harness and mteb, in the layout those tools write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.comparisons import put

from orientc.comparison.compare import compare
from orientc.comparison.other_tools import read_results
from orientc.errors import RecordError, UsageError

HARNESS: dict[str, Any] = {
    "results": {
        "arc_easy": {
            "alias": "arc_easy", "acc,none": 0.5, "acc_stderr,none": 0.1, "acc_norm,none": 0.75,
            "acc_norm_stderr,none": "N/A",
        },
        "wikitext": {"alias": "wikitext", "word_perplexity,none": 20.5, "word_perplexity_stderr,none": "N/A"},
        "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": 0.05},
    },
    "higher_is_better": {"arc_easy": {"acc": True, "acc_norm": True}, "wikitext": {"word_perplexity": False}},
    "versions": {"arc_easy": 1.0},
    "n-shot": {"arc_easy": 0},
    "n-samples": {"arc_easy": {"original": 2376, "effective": 2376}},
    "config": {"model": "hf", "model_args": "pretrained=exported/svd-r4,trust_remote_code=True"},
    "model_name": "exported/svd-r4",
}  # fmt: skip
MTEB: dict[str, Any] = {
    "dataset_revision": "abc", "task_name": "Banking77Classification", "mteb_version": "1.34.0",
    "scores": {"test": [{
        "accuracy": 0.8, "main_score": 0.8, "hf_subset": "default", "languages": ["eng-Latn"],
        "scores_per_experiment": [{"accuracy": 0.79}, {"accuracy": 0.81}],
    }]},
    "evaluation_time": 1.5,
}  # fmt: skip


def test_the_harness_gives_each_metric_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "results_2026-01-01T00-00-00.json"
    path.write_text(json.dumps(HARNESS))
    (found,) = read_results(path)
    assert found.model == "exported/svd-r4"
    assert [(each.name, each.value, each.error, each.lower_is_better) for each in found.outcomes] == [
        ("arc_easy.acc", 0.5, 0.1, False),
        ("arc_easy.acc_norm", 0.75, None, False),
        ("wikitext.word_perplexity", 20.5, None, True),
        ("gsm8k.exact_match strict-match", 0.25, 0.05, False),
    ]
    assert found.outcomes[0].measured == {
        "on": "arc_easy", "shots": 0, "samples": 2376, "version": 1.0, "filter": None
    }  # fmt: skip


def test_mteb_gives_main_scores_and_the_error_of_its_experiments(tmp_path: Path) -> None:
    folder = tmp_path / "me__model" / "revision"
    folder.mkdir(parents=True)
    (folder / "Banking77Classification.json").write_text(json.dumps(MTEB))
    (found,) = read_results(tmp_path)
    (outcome,) = found.outcomes
    assert (found.model, outcome.name, outcome.value) == ("me/model", "Banking77Classification.main_score", 0.8)
    assert outcome.error == pytest.approx(0.01)
    (folder / "model_meta.json").write_text('{"name": "exported/svd-r4"}')
    assert read_results(tmp_path)[0].model == "exported/svd-r4"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"results": 3}', '{"results": {"a": {"acc,none": NaN}}}'])
def test_what_neither_tool_wrote_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(RecordError) as caught:
        read_results(path)
    assert "results.json" in str(caught.value)


# -- as columns


def test_results_are_columns_of_the_row_that_they_name(tmp_path: Path) -> None:
    for rank in (2, 3):
        put(tmp_path, rank)
    mine = {**HARNESS, "config": {}, "model_name": "exported/svd-r2-float32"}
    base = json.loads(json.dumps({**HARNESS, "config": {}, "model_name": "org/model-0"}))
    base["results"]["arc_easy"]["acc,none"] = 0.6
    files = {name: tmp_path / f"{name}.results" for name in ("mine", "base", "other")}
    for name, values in {"mine": mine, "base": base, "other": {**base, "model_name": "elsewhere"}}.items():
        files[name].write_text(json.dumps(values))
    found = compare([tmp_path], results=[files["mine"], files["base"]], require="arc_easy.acc >= -5pt")
    original, *rows = found.comparisons[0].rows
    assert original.figures["arc_easy.acc"].value == 0.6
    figure = next(row for row in rows if row.rank == 2).figures["arc_easy.acc"]
    assert (figure.value, figure.error) == (0.5, 0.1)
    assert figure.difference == pytest.approx(-0.1)
    assert not next(row for row in rows if row.rank == 3).figures
    (perplexity,) = found.comparisons[0].columns_named("wikitext.word_perplexity")
    assert perplexity.lower_is_better
    assert [str(failure).partition(" is ")[2] for failure in found.failures] == [
        "not measured, required ≥ −5 pt",
        "−10.0 pt, required ≥ −5 pt",
    ]
    with pytest.raises(UsageError, match="is of elsewhere, which is the name of no row: say which as ROW=FILE"):
        compare([tmp_path], results=files["other"])
    named = compare([tmp_path], results=f"svd-r3-float32={files['other']}").comparisons[0].rows
    assert next(row for row in named if row.rank == 3).figures["arc_easy.acc"].value == 0.6


def test_figures_measured_otherwise_are_other_columns(tmp_path: Path) -> None:
    put(tmp_path, 2)
    for shots in (0, 5):
        values = {**HARNESS, "config": {}, "model_name": "svd-r2-float32", "n-shot": {"arc_easy": shots}}
        values["n-samples"] = {"arc_easy": {"original": 2376, "effective": 100 if shots else 2376}}
        (tmp_path / f"{shots}.results").write_text(json.dumps(values))
    found = compare([tmp_path], results=[tmp_path / "0.results", tmp_path / "5.results"]).comparisons[0]
    keys = ["arc_easy.acc", "arc_easy.acc[samples=100,shots=5]"]
    assert [column.key for column in found.columns_like("arc_easy.acc")] == keys
    assert [column.key for column in found.columns_named("arc_easy.acc")] == keys[:1]
