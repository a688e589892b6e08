from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.calibrations import made as made_calibration
from support.comparisons import (
    DIM,
    MASKED,
    MODEL_BYTES,
    TABLE_BYTES,
    TEXT,
    VOCAB,
    column,
    comparison,
    only,
    put,
    record,
    row,
    table,
    tuned,
)

from orientc.comparison.compare import compare
from orientc.comparison.formats import as_csv
from orientc.comparison.grid import grid
from orientc.comparison.rows import Comparison, Figure
from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.errors import RecordError, UsageError
from orientc.storage import artifact as artifacts
from orientc.storage import records, runs
from orientc.storage.calibration import save as save_calibration
from orientc.storage.records import Record

INPUT_ONLY, TIED = "perplexity.input-only", "perplexity.tied"


def values(found: Comparison) -> dict[int, dict[str, float]]:
    """Figures by rank and column."""
    return {entry.rank: {key: figure.value for key, figure in entry.figures.items()} for entry in found.rows}


# -- rows


def test_sizes_and_distances_need_no_records(tmp_path: Path) -> None:
    path = put(tmp_path, 2)
    found = only(tmp_path)
    assert (found.model, found.columns, found.quality) == ("model-0", (), None)
    original, made = found.rows
    description = artifacts.read_description(path).as_dict()
    assert (made.name, made.method, made.rank, made.dtype) == ("svd-r2-float32", "svd", 2, "float32")
    assert (made.path, made.original, original.original) == (str(path), False, True)
    for name in ("parameter_ratio", "byte_ratio", "bits_per_weight"):
        assert getattr(made, name) == description[name]
    assert made.cosine == description["distances"]["cosine"]
    assert made.rmse == description["distances"]["rmse"]
    assert original.figures == made.figures == {}
    assert made.seconds is None


def test_the_original_comes_first_then_rows_by_size(tmp_path: Path) -> None:
    for rank in (1, 3, 2):
        put(tmp_path, rank)
    put(tmp_path, 2, dtype="float16")
    rows = only(tmp_path).rows
    assert [(entry.method, entry.rank) for entry in rows] == [
        ("original", DIM), ("svd", 3), ("svd", 2), ("svd", 2), ("svd", 1)
    ]  # fmt: skip
    original = rows[0]
    assert (original.parameter_ratio, original.byte_ratio, original.bits_per_weight) == (1, 1, 32)
    assert (original.cosine, original.rmse, original.path) == (0, 0, None)


def test_the_whole_model_weighs_by_head_policy(tmp_path: Path) -> None:
    put(tmp_path, 2, dtype="float16")
    original, made = only(tmp_path).rows
    artifact = (VOCAB * 2 + DIM * 2) * 2
    assert made.table_mb == artifact / 1e6
    assert original.table_mb == TABLE_BYTES / 1e6
    assert made.model_mb == {
        "input-only": (MODEL_BYTES + artifact) / 1e6,
        "tied": (MODEL_BYTES - TABLE_BYTES + artifact) / 1e6,
    }
    assert original.model_mb == {"input-only": MODEL_BYTES / 1e6, "tied": MODEL_BYTES / 1e6}
    assert made.value("model_mb") == made.value("model_mb.tied") == made.model_mb["tied"]
    assert made.value("model_mb.input-only") == made.model_mb["input-only"]


def test_calibrations_beside_artifacts_are_no_rows_and_no_problems(tmp_path: Path) -> None:
    """Unless one is named."""
    put(tmp_path, 2)
    calibration = tmp_path / "calibration.safetensors"
    save_calibration(made_calibration(), calibration)
    assert len(only(tmp_path).rows) == 2
    assert compare([tmp_path]).problems == ()
    with pytest.raises(RecordError, match="not an orientc artifact"):
        compare([calibration])


def test_an_untied_model_has_one_policy(tmp_path: Path) -> None:
    of = table(tied=False)
    path = put(tmp_path, 2, of)
    records.write(record(10.0, head="input-only", of=of), tmp_path)
    records.write(record(12.0, path, head="input-only", of=of), tmp_path)
    found = only(tmp_path)
    assert [entry.key for entry in found.columns] == ["perplexity.input-only"]
    assert [entry.model_mb.keys() for entry in found.rows] == [{"input-only"}, {"input-only"}]
    artifact = (VOCAB * 2 + DIM * 2) * 4
    assert found.rows[1].model_mb["input-only"] == (MODEL_BYTES - TABLE_BYTES + artifact) / 1e6


def test_the_settings_told_are_those_that_rows_of_a_method_differ_in(tmp_path: Path) -> None:
    put(tmp_path, 1)
    put(tmp_path, 2)
    assert [entry.settings for entry in only(tmp_path).rows] == ["", "", ""]
    put(tmp_path, 2, dtype="float16")
    assert sorted(entry.settings for entry in only(tmp_path).rows[1:]) == [
        "dtype float16", "dtype float32", "dtype float32"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["figures", "original", "value", "model_mb.head-only", "rank.tied", "", "no such"])
def test_a_row_has_nothing_under_a_name_that_is_no_facts(name: str) -> None:
    assert row().value(name) is None


# -- figures of perplexity


def test_figures_stand_beside_the_originals_by_head_policy(tmp_path: Path) -> None:
    """The uncompressed model's one perplexity is what every policy's is held against."""
    one, two = put(tmp_path, 1), put(tmp_path, 2)
    records.write(record(10.0), tmp_path)
    records.write(record(40.0, one, "input-only"), tmp_path)
    records.write(record(50.0, one), tmp_path)
    records.write(record(20.0, two, "input-only"), tmp_path)
    found = only(tmp_path)
    assert [(entry.name, entry.chosen, entry.key) for entry in found.columns] == [
        (INPUT_ONLY, {}, INPUT_ONLY), (TIED, {}, TIED)
    ]  # fmt: skip
    assert found.columns[0].measured == {"on": "text.txt", **MASKED, "sha256": "a" * 8}
    figures = {
        entry.rank: {name: (figure.value, figure.ratio, figure.difference) for name, figure in entry.figures.items()}
        for entry in found.rows
    }
    assert figures == {
        DIM: {INPUT_ONLY: (10.0, 1.0, 0.0), TIED: (10.0, 1.0, 0.0)},
        2: {INPUT_ONLY: (20.0, 2.0, 10.0)},
        1: {INPUT_ONLY: (40.0, 4.0, 30.0), TIED: (50.0, 5.0, 40.0)},
    }


def test_without_the_originals_figure_there_is_no_ratio(tmp_path: Path) -> None:
    records.write(record(40.0, put(tmp_path, 1)), tmp_path)
    original, made = only(tmp_path).rows
    assert original.figures == {}
    figure = made.figures[TIED]
    assert (figure.value, figure.ratio, figure.difference) == (40.0, None, None)


def test_an_infinite_perplexity_survives_the_file(tmp_path: Path) -> None:
    records.write(record(math.inf), tmp_path)
    found = only(tmp_path)
    assert {figure.value for figure in found.rows[0].figures.values()} == {math.inf}


# -- ways of measuring


WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"settings": MASKED | {"seed": 1}}, "[seed=1]"),
    "limit": ({"settings": MASKED | {"limit": 5}}, "[limit=5]"),
    "a setting more": ({"settings": MASKED | {"max_ids": 64}}, "[max_ids=64]"),
    "text": ({"text": {"name": "other.txt", "sha256": "b" * 64}}, "[text=other.txt:bbbbbbbb]"),
    "a text of the same name": ({"text": TEXT | {"sha256": "b" * 64}}, "[text=text.txt:bbbbbbbb]"),
    "two things": (
        {"settings": MASKED | {"limit": 5}, "text": {"name": "a, b=[c].txt", "sha256": "b" * 64}},
        "[limit=5,text=a, b=[c].txt:bbbbbbbb]",
    ),
    "it does not tell": ({"settings": MASKED | {"limit": 5}, "chosen": None},
                         "[limit=5,protocol=masked,seed=0,text=text.txt:aaaaaaaa]"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_figures_measured_in_different_ways_are_columns_named_by_what_was_chosen(tmp_path: Path, way: str) -> None:
    """And the names are the same whether the other way lies there or not."""
    change, label = WAYS[way]
    path = put(tmp_path, 1)
    records.write(record(100.0, **change), tmp_path)
    records.write(record(900.0, path, **change), tmp_path)
    alone = {entry.key for entry in only(tmp_path).columns}
    assert f"{TIED}{label}" in alone
    records.write(record(10.0), tmp_path)
    records.write(record(40.0, path), tmp_path)
    found = only(tmp_path)
    assert {entry.key for entry in found.columns} == alone | {INPUT_ONLY, TIED}
    original, made = found.rows
    for key, figures, ratio in ((TIED, (10.0, 40.0), 4.0), (f"{TIED}{label}", (100.0, 900.0), 9.0)):
        assert (original.figures[key].value, made.figures[key].value) == figures
        assert made.figures[key].ratio == ratio
        assert found.columns_named(key) == [entry for entry in found.columns if entry.key == key]
    gate = f"{TIED}{label} <= 8x"
    assert [failure.figure for failure in compare(tmp_path, require=gate).failures] == [f"{TIED}{label}"]


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"settings": {"epochs": 1.0}}, ["mrpc.accuracy", "mrpc.accuracy[epochs=1]"]),
        (
            {"settings": {"learning_rate": 2.0000001e-5}},
            ["mrpc.accuracy", "mrpc.accuracy[learning_rate=2.0000001e-05]"],
        ),
        ({"data": {"sha256": "other"}}, ["mrpc.accuracy[sha256=mrpc-dat]", "mrpc.accuracy[sha256=other]"]),
        ({"data": {"limit_train": 5}}, ["mrpc.accuracy", "mrpc.accuracy[limit_train=5]"]),
    ],
    ids=["settings", "close settings", "data", "limit"],
)
def test_scores_that_differ_in_more_than_the_seed_never_share_a_column(
    tmp_path: Path, change: dict[str, Any], keys: list[str]
) -> None:
    path = put(tmp_path, 1)
    for changed, figures in (({}, (0.5, 0.25)), (change, (0.75, 0.625))):
        for artifact, figure in zip((None, path), figures, strict=True):
            records.write(tuned({"accuracy": figure}, artifact, **changed), tmp_path)
    found = only(tmp_path)
    assert [entry.key for entry in found.columns] == keys
    for key, figures in zip(keys, ((0.5, 0.25), (0.75, 0.625)), strict=True):
        own = [entry.figures[key] for entry in found.rows]
        assert (own[0].value, own[1].value) == figures
        assert own[1].difference == figures[1] - figures[0]


def test_a_gate_holds_on_all_data_that_nothing_but_its_content_tells_apart(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    for accuracy, data in ((0.9, {}), (0.4, {"sha256": "other"})):
        records.write(tuned({"accuracy": accuracy}, path, data=data), tmp_path)
    (failure,) = compare(tmp_path, require="mrpc.accuracy >= 0.5").failures
    assert failure.figure == "mrpc.accuracy[sha256=other]"


@pytest.mark.parametrize("change", [{"epochs": 3}, {"warmup": None}], ids=["3 and 3.0", "null and nothing"])
def test_ways_that_read_alike_are_still_told_apart(tmp_path: Path, change: dict[str, Any]) -> None:
    records.write(tuned({"accuracy": 0.5}), tmp_path)
    records.write(tuned({"accuracy": 0.75}, settings=change), tmp_path)
    found = only(tmp_path)
    assert len({entry.key for entry in found.columns}) == 2
    assert all(entry.label for entry in found.columns)
    assert sorted(figure.value for figure in found.rows[0].figures.values()) == [0.5, 0.75]


# -- models


def test_models_that_share_a_table_alone_have_comparisons_of_their_own(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    other = {"model": record(1.0).model | {"fingerprint": "e" * 64}}
    records.write(record(10.0), tmp_path)
    records.write(record(40.0, path), tmp_path)
    records.write(record(100.0, **other), tmp_path)
    records.write(record(900.0, path, **other), tmp_path)
    findings = compare([tmp_path])
    assert findings.problems == ()
    figures = [[entry.figures[TIED] for entry in each.rows] for each in findings.comparisons]
    assert sorted([figure.value for figure in each] for each in figures) == [[10.0, 40.0], [100.0, 900.0]]
    assert sorted(each[1].ratio or 0 for each in figures) == [4.0, 9.0]


def test_a_model_under_two_names_is_one(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    records.write(record(10.0), tmp_path)
    records.write(record(40.0, path, model=record(1.0).model | {"id": "elsewhere/model"}), tmp_path)
    assert values(only(tmp_path))[1] == {TIED: 40.0}


def test_other_models_have_comparisons_of_their_own(tmp_path: Path) -> None:
    put(tmp_path / "a", 1)
    put(tmp_path / "b", 1, table(1))
    records.write(record(10.0), tmp_path)
    records.write(record(11.0, of=table(2)), tmp_path)
    found = compare([tmp_path]).comparisons
    assert sorted((each.model, len(each.rows)) for each in found) == [("model-0", 2), ("model-1", 2), ("model-2", 1)]


def test_a_record_of_the_original_alone_makes_a_row(tmp_path: Path) -> None:
    records.write(record(10.0), tmp_path)
    (original,) = only(tmp_path).rows
    assert (original.method, original.rank, original.model_mb["tied"]) == ("original", DIM, MODEL_BYTES / 1e6)
    assert original.figures[TIED].value == 10.0


def test_the_same_artifact_in_two_folders_is_one_row(tmp_path: Path) -> None:
    put(tmp_path / "a", 1)
    put(tmp_path / "b", 1)
    assert len(only(tmp_path).rows) == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_order_of_paths_does_not_change_the_rows(tmp_path: Path, order: tuple[int, int]) -> None:
    paths = [put(tmp_path, 1), put(tmp_path, 2)]
    rows = compare([paths[index] for index in order]).comparisons[0].rows
    assert [entry.rank for entry in rows] == [DIM, 2, 1]


# -- files that cannot be used


def test_what_cannot_be_used_is_named_and_skipped(tmp_path: Path) -> None:
    good = put(tmp_path, 1)
    cut = put(tmp_path, 2)
    cut.write_bytes(cut.read_bytes()[:-1])
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (tmp_path / "half.json").write_text('{"format": "orientc-record"')
    (tmp_path / "config.json").write_text("{}")
    newer = record(10.0).as_dict() | {"version": 99}
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    records.write(record(10.0, metrics={"loss": 1.0}), tmp_path / "blank")
    records.write(record(10.0), tmp_path)
    findings = compare([tmp_path, tmp_path / "none"])
    (found,) = findings.comparisons
    assert [entry.path for entry in found.rows] == [None, str(good)]
    names = (
        cut.name,
        "gone.safetensors",
        "half.json",
        "config.json",
        "newer.json",
        "nothing in it can be compared",
        "none",
    )
    assert len(findings.problems) == len(names)
    for name in names:
        assert any(name in problem for problem in findings.problems), name
    assert not any("\n" in problem for problem in findings.problems)


@pytest.mark.parametrize("how", ["gone", "replaced"])
def test_a_record_whose_artifact_is_gone_or_was_replaced_is_named(tmp_path: Path, how: str) -> None:
    path = put(tmp_path, 1)
    records.write(record(10.0), tmp_path)
    orphan = records.write(record(40.0, path), tmp_path)
    path.unlink()
    if how == "replaced":
        put(tmp_path, 2).rename(path)
    findings = compare([tmp_path])
    (problem,) = findings.problems
    assert "gone or was replaced" in problem
    assert problem.startswith(orphan.name)
    assert [entry.figures.keys() & {TIED} for entry in findings.comparisons[0].rows[1:]] == (
        [] if how == "gone" else [set()]
    )


def test_a_figure_of_an_artifact_forced_into_another_model_is_named(tmp_path: Path) -> None:
    """Its sizes and distances are of another table: no row could hold all of them."""
    path = put(tmp_path, 1)
    other = table(1)
    records.write(record(10.0, of=other), tmp_path)
    records.write(record(40.0, path, of=other), tmp_path)
    findings = compare([tmp_path])
    assert len(findings.problems) == 1
    assert "another model's table" in findings.problems[0]
    assert [entry.figures for each in findings.comparisons for entry in each.rows if entry.path] == [{}]


def test_where_there_is_nothing_to_compare_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=f"nothing to compare: no artifact and no record in {tmp_path}"):
        compare([tmp_path])
    (tmp_path / "half.json").write_text("{")
    with pytest.raises(RecordError, match=r"nothing to compare: .*half\.json"):
        compare([tmp_path])


def test_histories_are_no_problem_and_give_the_time(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    runs.history_path(path).write_text('{"seconds": 1.25}')
    assert only(tmp_path).rows[1].seconds == 1.25


def test_models_checkpoints_and_submissions_beside_records_are_not_searched(tmp_path: Path) -> None:
    put(tmp_path, 1)
    path = records.write(tuned({"accuracy": 0.5}), tmp_path)
    stem = path.with_suffix("")
    for name in (
        f"{stem.name}/config.json",
        f"{stem.name}/model.safetensors",
        f"{stem.name}/predictions.json",
        f"{stem.name}.checkpoints/checkpoint-5/config.json",
        f"{stem.name}.checkpoints/checkpoint-5/orientc-run.json",
        f"{stem.name}.checkpoints/checkpoint-5/model.safetensors",
        "some/model/config.json",
        "some/model/part/weights.safetensors",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert len(only(tmp_path).rows) == 2
    (stem / "config.json").unlink()  # what was only scored leaves a folder without a model
    assert len(only(tmp_path).rows) == 2
    (tmp_path / "half.json").write_text("{")
    (problem,) = compare([tmp_path]).problems
    assert "half.json" in problem


def test_comparing_imports_neither_torch_nor_a_library_to_draw_with(tmp_path: Path) -> None:
    """Nor does anything that a table, a condition or a gate needs; what draws is imported to draw."""
    records.write(record(40.0, put(tmp_path, 1)), tmp_path)
    code = (
        "import sys, pathlib; from orientc.comparison.compare import compare; from orientc.comparison.gates import *;"
        "from orientc.comparison import formats, plot; from orientc.comparison.grid import grid;"
        f"found = compare([pathlib.Path({str(tmp_path)!r})]).comparisons;"
        "verdicts(found, [Condition.parse('rank < 9')]); formats.markdown([grid(found[0])]); formats.as_csv(found);"
        "heavy = {'torch', 'transformers', 'matplotlib', 'plotext'};"
        "print(len(found[0].rows), sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["2", "[]"]


def test_many_files_are_handled(tmp_path: Path) -> None:
    """A hundred artifacts, each with a score from two seeds and perplexity under two policies."""
    made = fit_table(table(), SvdConfig(rank=1), device="cpu")
    records.write(record(10.0), tmp_path)
    for number in range(100):
        path = tmp_path / f"svd-{number}.safetensors"
        artifacts.save(replace(made, description=replace(made.description, seed=number)), path)
        for head in ("input-only", "tied"):
            records.write(record(20.0 + number, path, head), tmp_path)
        for seed in (0, 1):
            records.write(tuned({"accuracy": number / 100}, path, seed), tmp_path)
    found = only(tmp_path)
    assert len(found.rows) == 101
    assert {entry.name: entry.value(TIED) for entry in found.rows[1:]} == {
        f"svd-{number}": 20.0 + number for number in range(100)
    }
    assert all(entry.figures["mrpc.accuracy"].seeds == (0, 1) for entry in found.rows[1:])
    assert [found.rows[number].name for number in found.best(TIED)] == ["svd-0"]


# -- tasks


def test_a_tasks_figures_stand_beside_the_originals(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    records.write(tuned({"accuracy": 0.75, "f1": 0.5}), tmp_path)
    records.write(tuned({"accuracy": 0.5, "f1": 0.0}, path), tmp_path)
    found = only(tmp_path)
    assert [entry.key for entry in found.columns] == ["mrpc.accuracy", "mrpc.f1"]
    assert found.columns[0].measured["on"] == "glue"
    original, made = found.rows
    assert {name: (one.value, one.difference) for name, one in original.figures.items()} == {
        "mrpc.accuracy": (0.75, 0.0),
        "mrpc.f1": (0.5, 0.0),
    }
    assert {name: (one.value, one.difference) for name, one in made.figures.items()} == {
        "mrpc.accuracy": (0.5, -0.25),
        "mrpc.f1": (0.0, -0.5),
    }
    assert {(one.std, one.seeds) for entry in found.rows for one in entry.figures.values()} == {(None, (0,))}


def test_a_score_of_0_of_the_original_leaves_a_difference_but_no_ratio(tmp_path: Path) -> None:
    records.write(tuned({"accuracy": 0.0}), tmp_path)
    records.write(tuned({"accuracy": 0.25}, put(tmp_path, 1)), tmp_path)
    figure = only(tmp_path).rows[1].figures["mrpc.accuracy"]
    assert (figure.ratio, figure.difference) == (None, 0.25)


def test_seeds_are_one_figure_with_its_deviation(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    for seed, accuracy in zip((42, 1, 7), (0.5, 0.75, 0.7), strict=True):
        records.write(tuned({"accuracy": accuracy}, path, seed), tmp_path)
    for seed, accuracy in enumerate((0.9, 0.8)):
        records.write(tuned({"accuracy": accuracy}, seed=seed), tmp_path)
    found = only(tmp_path)
    (only_column,) = found.columns
    assert only_column.measured.items() >= {"epochs": 3.0, "learning_rate": 2e-5}.items()
    assert "seed" not in only_column.measured
    original, figure = (entry.figures["mrpc.accuracy"] for entry in found.rows)
    assert figure.value == pytest.approx(0.65)
    assert figure.std == pytest.approx(statistics.stdev((0.5, 0.75, 0.7)))
    assert figure.difference == pytest.approx(0.65 - 0.85)
    assert figure.ratio == pytest.approx(0.65 / 0.85)
    assert (figure.seeds, original.seeds) == ((1, 7, 42), (0, 1))


@pytest.mark.parametrize("of", ["perplexity", "task"])
def test_a_copy_of_a_record_is_no_second_seed(tmp_path: Path, of: str) -> None:
    """A model's own figures lie beside each of its artifacts."""
    made = record(10.0) if of == "perplexity" else tuned({"accuracy": 0.5})
    for folder in ("a", "b"):
        records.write(made, tmp_path / folder)
    (original,) = only(tmp_path).rows
    assert {(figure.value, figure.std, figure.seeds) for figure in original.figures.values()} == {
        (10.0 if of == "perplexity" else 0.5, None, (0,))
    }


def test_everything_of_a_model_is_in_one_comparison(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    for artifact in (None, path):
        records.write(record(10.0, artifact), tmp_path)
        records.write(tuned({"accuracy": 0.5}, artifact), tmp_path)
        records.write(tuned({"accuracy": 0.5}, artifact, task="rte"), tmp_path)
        records.write(tuned({"exact_match": 50.0, "f1": 60.0}, artifact, task="squad"), tmp_path)
        similarity = record(0.0, artifact, "input-only", kind="similarity", metrics={"cosine": 0.9, "sentences": 12})
        records.write(similarity, tmp_path)
    found = only(tmp_path)
    tasks = ["mrpc.accuracy", "rte.accuracy", "similarity.cosine", "squad.exact_match", "squad.f1"]
    assert [entry.key for entry in found.columns] == [INPUT_ONLY, TIED, *tasks]
    assert [entry.figures.keys() for entry in found.rows] == [{INPUT_ONLY, TIED, *tasks}, {TIED, *tasks}]
    assert [entry.lower_is_better for entry in found.columns] == [True, True, *[False] * 5]


# -- names, the best, and the Pareto front


PER_CHANNEL = [column(INPUT_ONLY), column(TIED, limit=1), column(TIED, limit=2), column("mrpc.accuracy")]


def test_a_name_stands_for_a_column_all_of_the_name_or_all_of_its_subject() -> None:
    found = comparison(PER_CHANNEL, row())
    assert found.columns_named("perplexity.tied[limit=2]") == [PER_CHANNEL[2]]
    assert found.columns_named(TIED) == []
    assert found.columns_like(TIED) == PER_CHANNEL[1:3]
    assert found.columns_named("perplexity") == PER_CHANNEL[:1]
    assert found.columns_named("perplexity[limit=1]") == found.columns_like("perplexity[limit=1]") == [PER_CHANNEL[1]]
    assert found.columns_like("perplexity") == PER_CHANNEL[:3]
    assert found.columns_named("mrpc") == found.columns_like("mrpc") == [PER_CHANNEL[3]]
    for name in ("perp", "accuracy", "", "perplexity.", "rank", "perplexity.tied[limit=3]", "perplexity.tied[limit=1"):
        assert found.columns_named(name) == found.columns_like(name) == []


def test_sizes_within_a_hundredth_are_equal() -> None:
    sizes = (1.005, 1.0, 1.02)
    rows = [row(f"svd-{n}", 1, {TIED: 5.0 + n}, table_mb=size) for n, size in enumerate(sizes)]
    found = comparison([column(TIED)], row(figures={TIED: 4.0}, table_mb=6.0), *rows)
    assert found.best("table_mb") == {1, 2}
    assert found.pareto(column(TIED)) == {0, 1}  # the smallest is as large as one that is better
    assert comparison([], row(), *rows[:2]).best("table_mb") == set()  # there is no best of what is all the same


def test_figures_that_are_no_pair_are_told_apart_by_their_errors() -> None:
    def best(*figures: Figure) -> set[int]:
        rows = [row(f"svd-{number}", 1, {TIED: figure}) for number, figure in enumerate(figures)]
        return comparison([column(TIED)], row(), *rows).best(TIED)

    assert best(Figure(5.0, error=0.3), Figure(6.0, error=0.4)) == {1}
    assert best(Figure(5.0, error=0.5), Figure(6.0, error=0.4)) == set()
    assert best(Figure(5.0, error=0.5), Figure(6.0)) == {1}
    assert best(Figure(5.0, std=1.0, seeds=(0, 1)), Figure(6.0)) == set()
    assert best(Figure(5.0), Figure(5.1)) == {1}  # nothing is known of their errors
    assert best(Figure(5.0, error=0.5), Figure(math.inf)) == {1}


def test_spearmans_correlation_is_weighed_before_the_cosine() -> None:
    names = ["rte.accuracy", "similarity.cosine", "similarity.cosine_p5", "similarity.spearman"]
    assert comparison([column(name) for name in names], row()).quality == column("similarity.spearman")
    assert comparison([column(name) for name in names[:3]], row()).quality == column("similarity.cosine")
    others = [replace(column(TIED), of_artifacts=False), column("rte.accuracy", limit_train=5), column("rte.accuracy")]
    assert comparison(others, row()).quality == column("rte.accuracy")


def test_size_is_weighed_against_tied_perplexity_where_there_is_any() -> None:
    assert comparison(PER_CHANNEL, row()).quality == PER_CHANNEL[1]
    alone = column("perplexity.head-only")
    assert comparison([PER_CHANNEL[3], alone], row()).quality == alone
    assert comparison([PER_CHANNEL[3], PER_CHANNEL[0]], row()).quality == PER_CHANNEL[0]
    assert comparison(PER_CHANNEL[3:], row()).quality == PER_CHANNEL[3]
    assert comparison([], row()).quality is None


def test_a_figure_is_chosen_by_the_names_it_goes_by() -> None:
    found = comparison(PER_CHANNEL, row())
    assert found.chosen(None) == found.chosen("perplexity") == found.chosen(TIED) == found.quality
    assert found.chosen(PER_CHANNEL[2].key) == PER_CHANNEL[2]
    assert found.chosen("mrpc") == PER_CHANNEL[3]
    with pytest.raises(UsageError, match=r"'sst2'.*perplexity\.tied\[limit=2\], mrpc\.accuracy"):
        found.chosen("sst2")
    assert comparison([], row()).chosen(None) is None
    with pytest.raises(UsageError, match="none"):
        comparison([], row()).chosen(TIED)


@pytest.mark.parametrize("name", [TIED, "mrpc.accuracy"])
@pytest.mark.parametrize("seed", range(20))
def test_the_best_and_the_front_are_what_brute_force_finds(name: str, seed: int) -> None:
    """Few different sizes and values, so that many points tie; some rows have no figure."""
    draw = random.Random(seed)
    lower = name == TIED
    rows = [row(figures={name: 4.0} if draw.random() < 0.5 else {}, table_mb=6.0)]
    for number in range(draw.randrange(25)):
        figures = {name: float(draw.randrange(6))} if draw.random() < 0.8 else {}
        rows.append(row(f"svd-{number}", draw.randint(1, 7), figures, table_mb=float(draw.randrange(6))))
    found = comparison([column(name)], *rows)
    points = [(number, entry.table_mb, entry.value(name)) for number, entry in enumerate(rows) if entry.figures]

    def beats(one: tuple[int, float, Any], other: tuple[int, float, Any]) -> bool:
        as_good = one[2] <= other[2] if lower else one[2] >= other[2]
        return one[1] <= other[1] and as_good and one[1:] != other[1:]

    assert found.pareto(column(name)) == {
        point[0] for point in points if not any(beats(other, point) for other in points)
    }
    artifacts_there = [(number, value) for number, _, value in points if number]
    best = (min if lower else max)((value for _, value in artifacts_there), default=None)
    expected = {number for number, value in artifacts_there if value == best} if len(artifacts_there) > 1 else set()
    assert found.best(name) == expected


def test_the_best_of_a_fact_is_the_smallest_but_for_ratios() -> None:
    found = comparison([], row(), row("svd-1", 4), row("svd-2", 2, seconds=1.0), row("svd-3", 2))
    assert found.best("rank") == set()
    assert found.best("parameter_ratio") == found.best("table_mb") == {2, 3}
    assert found.best("model_mb") == {2, 3}
    assert found.best("cosine") == found.best("rmse") == {1}
    assert found.best("seconds") == set()  # one row alone has it
    assert found.best("method") == set()


# -- as JSON


def test_a_comparison_is_plain_values(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    records.write(record(10.0), tmp_path)
    records.write(record(40.0, path), tmp_path)
    found = only(tmp_path)
    document = json.loads(json.dumps(found.as_dict()))
    assert document["model"] == "model-0"
    assert [entry["key"] for entry in document["columns"]] == [INPUT_ONLY, TIED]
    nothing = dict.fromkeys(["std", "error", "low", "high", "versus_original", "versus"])
    figure = {"value": 40.0, "ratio": 4.0, "difference": 30.0, "seeds": [0]}
    assert document["rows"][1]["figures"][TIED] == nothing | figure
    assert document["rows"][1]["path"] == str(path)


# -- what is asked for


def test_everything_that_the_command_takes_can_be_asked_of_the_function(tmp_path: Path) -> None:
    for rank in (1, 2, 3):
        records.write(record(40.0 - rank, put(tmp_path, rank)), tmp_path)
    found = compare(
        str(tmp_path), require=["rank <= 1", "perplexity.tied < 39"], where="rank < 3", quality=TIED,
        columns="rank, perplexity", sort="rank",
    )  # fmt: skip
    assert [entry.rank for entry in found.comparisons[0].rows] == [DIM, 1, 2]
    assert [str(failure) for failure in found.failures] == [
        "model-0, svd-r1-float32: perplexity.tied is 39.00, required < 39",
        "model-0, svd-r2-float32: rank is 2, required ≤ 1",
    ]
    assert (found.columns, found.quality) == (("rank", "perplexity"), TIED)
    (document,) = found.as_dict()["comparisons"]
    assert document["met"] is False
    assert [[gate["met"] for gate in row["gates"]] for row in document["rows"]] == [[], [True, False], [False, True]]
    assert compare(str(tmp_path)).as_dict()["comparisons"][0]["met"] is None
    again = compare(
        [tmp_path], where=["rank < 3"], columns=["rank", "perplexity"], sort="rank", plot=tmp_path / "x.svg"
    )
    assert f">{TIED}<" in (tmp_path / "x.svg").read_text()
    assert (again.comparisons, again.columns) == (found.comparisons, found.columns)


def test_commas_in_brackets_are_a_names_own(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    records.write(record(10.0, path, settings=MASKED | {"limit": 5, "seed": 1}), tmp_path)
    found = compare(tmp_path, columns="rank, perplexity.tied[limit=5,seed=1],table_mb")
    assert found.columns == ("rank", "perplexity.tied[limit=5,seed=1]", "table_mb")


def test_another_model_that_has_no_artifact_misses_no_gate(tmp_path: Path) -> None:
    records.write(record(10.0, put(tmp_path, 1)), tmp_path)
    records.write(record(10.0, of=table(1)), tmp_path)
    found = compare(tmp_path, require="perplexity.tied <= 11")
    assert not found.failures
    assert sorted(str(each["met"]) for each in found.as_dict()["comparisons"]) == ["None", "True"]
    # but one whose rows were all left out does
    assert len(compare(tmp_path, require="perplexity.tied <= 11", where="rank > 1").failures) == 1


def test_unless_paths_are_given_the_runs_folder_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "runs", 1)
    monkeypatch.setenv("ORIENTC_RUNS", str(tmp_path / "runs"))
    assert [entry.rank for entry in compare().comparisons[0].rows] == [DIM, 1]


@pytest.mark.parametrize("asked", [{"columns": "rnk"}, {"sort": "rnk"}, {"where": "rnk < 1"}, {"quality": "rnk"}])
def test_a_name_that_is_not_there_is_refused(tmp_path: Path, asked: dict[str, str]) -> None:
    records.write(record(10.0), tmp_path)
    with pytest.raises(UsageError, match="'rnk'"):
        compare(tmp_path, **asked)  # type: ignore[arg-type]


# -- records that contradict each other


def copies(folder: Path, first: Record, second: Record) -> None:
    """Two records of the same thing, as from two machines."""
    records.write(first, folder / "1")
    records.write(second, folder / "2")


def test_equal_records_are_one_wherever_they_were_measured(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    copies(tmp_path, record(40.0, path), record(40.0 * (1 + 5e-7), path, environment={"device": "cuda"}))
    figure = only(tmp_path).rows[1].figures[TIED]
    assert figure.value == pytest.approx(40.0)
    assert figure.std is None


@pytest.mark.parametrize("other", [40.0001, 80.0, math.inf])
@pytest.mark.parametrize("gate", ["perplexity.tied <= 50", "perplexity.tied <= 5x", "perplexity <= 50"])
def test_records_that_contradict_each_other_are_a_problem_and_miss_a_gate(
    tmp_path: Path, other: float, gate: str
) -> None:
    path = put(tmp_path, 1)
    records.write(record(10.0), tmp_path)
    second = record(1.0, path, environment={"device": "cuda"})
    copies(tmp_path, record(40.0, path), replace(second, metrics=second.metrics | {"perplexity": other}))
    found = compare([tmp_path], require=gate)
    (problem,) = found.problems
    assert "contradict each other" in problem
    assert all(str(tmp_path / place) in problem for place in "12")
    assert TIED not in found.comparisons[0].rows[1].figures
    assert found.failures
    assert all("is not measured" in str(failure) for failure in found.failures)


def test_a_record_without_divergences_contradicts_none_that_has_them(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    plain = record(40.0, path)
    held = plain.metrics | {"kl": 0.2, "kl_p99": 1.0, "kl_max": 2.0, "same_top": 0.9}
    for number, metrics in enumerate((plain.metrics, held, plain.metrics)):
        records.write(replace(plain, metrics=metrics), tmp_path / str(number))
    found = compare([tmp_path])
    assert found.problems == ()
    assert found.comparisons[0].rows[1].value("kl.tied") == 0.2


@pytest.mark.parametrize(
    ("other", "contradicts"), [({"kl": 0.200001, "same_top": 0.9005}, False), ({"kl": 0.21}, True)]
)
def test_divergences_that_differ_by_more_than_rounding_contradict_each_other(
    tmp_path: Path, other: dict[str, float], contradicts: bool
) -> None:
    path = put(tmp_path, 1)
    one = record(40.0, path)
    one = replace(one, metrics=one.metrics | {"kl": 0.2, "kl_p99": 1.0, "kl_max": 2.0, "same_top": 0.9})
    copies(tmp_path, one, replace(one, metrics=one.metrics | other))
    assert bool(compare([tmp_path]).problems) == contradicts


def test_divergences_are_figures_that_have_no_room_in_the_table_unless_named(tmp_path: Path) -> None:
    held = {"kl": 0.2, "kl_p99": 1.0, "kl_max": 2.0, "same_top": 0.9}
    records.write(record(10.0), tmp_path)
    for rank, factor in ((1, 1.0), (2, 0.5)):
        made = record(40.0, put(tmp_path, rank))
        metrics = {name: value * factor for name, value in held.items()}
        records.write(replace(made, metrics=made.metrics | metrics), tmp_path)
    found = only(tmp_path)
    names = [f"{name}.tied" for name in held]
    assert [entry.key for entry in found.columns] == [INPUT_ONLY, TIED, *names]
    assert [entry.lower_is_better for entry in found.columns] == [True, True, True, True, True, False]
    ranks = [entry.rank for entry in found.rows]
    assert found.best("kl.tied") == {ranks.index(2)}
    assert found.best("same_top.tied") == {ranks.index(1)}
    assert not {"kl tied", "same_top tied"} & {*grid(found).header}
    assert grid(found, shown=["kl", "same_top"]).header == ("table", "kl tied", "same_top tied")
    assert "kl_p99.tied" in as_csv([found])


def test_an_original_that_is_contradicted_is_no_measure(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    records.write(record(12.0, path), tmp_path)
    copies(tmp_path, record(10.0), record(11.0))
    assert compare([tmp_path], require="perplexity.tied <= 1.5x").failures
    assert not compare([tmp_path], require="perplexity.tied <= 15").failures


def test_a_gate_is_not_met_by_the_other_text_where_one_is_in_doubt(tmp_path: Path) -> None:
    """The column that has no figure left is there, and so is its artifact with the model it belongs to."""
    path = put(tmp_path, 1)
    records.write(record(20.0, path), tmp_path)
    elsewhere = {"name": "another", "sha256": "c" * 64}
    copies(tmp_path, record(40.0, path, text=elsewhere), record(80.0, path, text=elsewhere))
    found = compare([tmp_path], require=["perplexity.tied <= 50", "perplexity.tied[text=another] <= 50"])
    (failure,) = found.failures
    assert "perplexity.tied[text=another:cccccccc] is not measured" in str(failure)
    (one,) = found.comparisons
    assert [len(row.figures) for row in one.rows] == [0, 1]


def test_all_that_is_known_of_a_model_may_be_in_doubt(tmp_path: Path) -> None:
    copies(tmp_path, record(10.0), record(11.0))
    found = compare([tmp_path], require="perplexity.tied <= 50")
    assert len(found.problems) == len(found.failures) == 1
    (one,) = found.comparisons
    assert [row.figures for row in one.rows] == [{}]


def test_a_mean_over_seeds_is_not_taken_without_a_seed_in_doubt(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    for seed in (0, 1):
        records.write(tuned({"accuracy": 0.9, "f1": 0.9}, path, seed), tmp_path)
    records.write(tuned({"accuracy": 0.8}, path, task="rte"), tmp_path)
    records.write(tuned({"accuracy": 0.9, "f1": 0.5}, path, 1), tmp_path / "again")
    found = compare([tmp_path], require="mrpc.accuracy >= 0.8")
    assert len(found.problems) == len(found.failures) == 1
    assert values(found.comparisons[0])[1] == {"rte.accuracy": 0.8}
