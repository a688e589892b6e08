from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orientc import artifact as artifacts
from orientc import records, runs
from orientc.comparison import Comparison, compare
from orientc.compression import svd
from orientc.files import file_sha256
from orientc.provenance import TableInfo
from orientc.records import Record
from orientc.tables import Table, table_sha256

VOCAB, DIM, MODEL_BYTES = 50, 8, 10_000
TABLE_BYTES = VOCAB * DIM * 4
TEXT = {"name": "text.txt", "sha256": "a" * 64}


def table(seed: int = 0, *, tied: bool = True) -> Table:
    weight = torch.randn(VOCAB, DIM, generator=torch.Generator().manual_seed(seed))
    info = TableInfo(
        id=f"model-{seed}", revision=None, sha256=table_sha256(weight), vocab=VOCAB, dim=DIM, dtype="float32",
        nbytes=TABLE_BYTES, padding_idx=None, embed_scale=1.0, tied=tied, model_parameters=2500,
        model_bytes=MODEL_BYTES,
    )  # fmt: skip
    return Table(weight, info)


def put(folder: Path, rank: int, of: Table | None = None, dtype: str = "float32") -> Path:
    """An artifact in a folder."""
    path = folder / f"svd-r{rank}-{dtype}.safetensors"
    artifacts.save(svd(of or table(), rank=rank, dtype=dtype, device="cpu"), path)
    return path


def record(
    perplexity: float, artifact: Path | None = None, head: str = "tied", of: Table | None = None, **other: Any
) -> Record:
    info = (of or table()).info
    made = Record(
        kind="perplexity",
        model={
            "id": info.id,
            "revision": None,
            "table_sha256": info.sha256,
            "weights_sha256": "w",
            "table": asdict(info),
        },
        artifact={"path": str(artifact), "sha256": file_sha256(artifact)} if artifact else None,
        head=head,
        settings={"protocol": "masked", "seed": 0},
        metrics={"perplexity": perplexity, "loss": 1.0, "tokens": 10},
        seconds=1.0,
        versions={},
        text=TEXT,
    )
    return replace(made, **other)


def only(folder: Path) -> Comparison:
    """The one comparison of a folder where everything is usable."""
    findings = compare([folder])
    assert findings.problems == ()
    assert len(findings.comparisons) == 1
    return findings.comparisons[0]


def test_sizes_and_distances_need_no_records(tmp_path: Path) -> None:
    path = put(tmp_path, 2)
    comparison = only(tmp_path)
    assert (comparison.model, comparison.kind, comparison.text) == ("model-0", None, None)
    assert (comparison.settings, comparison.columns) == ({}, ())
    original, row = comparison.rows
    description = artifacts.read_description(path).as_dict()
    assert (row.method, row.rank, row.path, row.dtype) == ("svd", 2, str(path), "float32")
    for name in ("parameter_ratio", "byte_ratio", "bits_per_weight"):
        assert getattr(row, name) == description[name]
    assert row.cosine == description["distances"]["cosine"]
    assert row.rmse == description["distances"]["rmse"]
    assert original.figures == row.figures == {}
    assert row.seconds is None


def test_the_original_comes_first_then_rows_by_size(tmp_path: Path) -> None:
    for rank in (1, 3, 2):
        put(tmp_path, rank)
    put(tmp_path, 2, dtype="float16")
    rows = only(tmp_path).rows
    assert [(row.method, row.rank) for row in rows] == [
        ("original", DIM), ("svd", 3), ("svd", 2), ("svd", 2), ("svd", 1)
    ]  # fmt: skip
    original = rows[0]
    assert (original.parameter_ratio, original.byte_ratio, original.bits_per_weight) == (1, 1, 32)
    assert (original.cosine, original.rmse, original.path) == (0, 0, None)


def test_the_whole_model_weighs_by_head_policy(tmp_path: Path) -> None:
    put(tmp_path, 2, dtype="float16")
    original, row = only(tmp_path).rows
    artifact = (VOCAB * 2 + DIM * 2) * 2
    assert row.table_mb == artifact / 1e6
    assert original.table_mb == TABLE_BYTES / 1e6
    assert row.model_mb == {
        "input-only": (MODEL_BYTES + artifact) / 1e6,
        "tied": (MODEL_BYTES - TABLE_BYTES + artifact) / 1e6,
    }
    assert original.model_mb == {"input-only": MODEL_BYTES / 1e6, "tied": MODEL_BYTES / 1e6}


def test_an_untied_model_has_one_policy(tmp_path: Path) -> None:
    of = table(tied=False)
    path = put(tmp_path, 2, of)
    records.write(record(10.0, head="untied", of=of), tmp_path)
    records.write(record(12.0, path, head="untied", of=of), tmp_path)
    comparison = only(tmp_path)
    assert comparison.columns == ("perplexity.untied",)
    assert [row.model_mb.keys() for row in comparison.rows] == [{"untied"}, {"untied"}]
    artifact = (VOCAB * 2 + DIM * 2) * 4
    assert comparison.rows[1].model_mb["untied"] == (MODEL_BYTES - TABLE_BYTES + artifact) / 1e6


def test_figures_stand_beside_the_originals_by_head_policy(tmp_path: Path) -> None:
    one, two = put(tmp_path, 1), put(tmp_path, 2)
    records.write(record(10.0), tmp_path)
    records.write(record(40.0, one, "input-only"), tmp_path)
    records.write(record(50.0, one), tmp_path)
    records.write(record(20.0, two, "input-only"), tmp_path)
    comparison = only(tmp_path)
    assert comparison.text == "text.txt"
    assert comparison.settings == {"protocol": "masked", "seed": 0}
    assert comparison.columns == ("perplexity.input-only", "perplexity.tied")
    figures = {
        row.rank: {name: (figure.value, figure.ratio) for name, figure in row.figures.items()}
        for row in comparison.rows
    }
    assert figures == {
        DIM: {"perplexity.input-only": (10.0, 1.0), "perplexity.tied": (10.0, 1.0)},
        2: {"perplexity.input-only": (20.0, 2.0)},
        1: {"perplexity.input-only": (40.0, 4.0), "perplexity.tied": (50.0, 5.0)},
    }


def test_without_the_originals_figure_there_is_no_ratio(tmp_path: Path) -> None:
    records.write(record(40.0, put(tmp_path, 1)), tmp_path)
    original, row = only(tmp_path).rows
    assert original.figures == {}
    assert (row.figures["perplexity.tied"].value, row.figures["perplexity.tied"].ratio) == (40.0, None)


DIFFERENT: dict[str, dict[str, Any]] = {
    "settings": {"settings": {"protocol": "masked", "seed": 1}},
    "a setting more": {"settings": {"protocol": "masked", "seed": 0, "limit": 5}},
    "text": {"text": {"name": "text.txt", "sha256": "b" * 64}},
    "the model's other weights": {"model": record(1.0).model | {"weights_sha256": "v"}},
    "revision": {"model": record(1.0).model | {"revision": "abc"}},
}


@pytest.mark.parametrize("difference", DIFFERENT)
def test_figures_that_differ_in_more_than_the_table_never_share_a_comparison(tmp_path: Path, difference: str) -> None:
    path = put(tmp_path, 1)
    records.write(record(10.0), tmp_path)
    records.write(record(40.0, path), tmp_path)
    records.write(record(100.0, **DIFFERENT[difference]), tmp_path)
    records.write(record(900.0, path, **DIFFERENT[difference]), tmp_path)
    findings = compare([tmp_path])
    assert findings.problems == ()
    figures = [[row.figures["perplexity.tied"] for row in comparison.rows] for comparison in findings.comparisons]
    assert sorted([figure.value for figure in row] for row in figures) == [[10.0, 40.0], [100.0, 900.0]]
    assert sorted(row[1].ratio or 0 for row in figures) == [4.0, 9.0]


def test_other_models_have_comparisons_of_their_own(tmp_path: Path) -> None:
    put(tmp_path / "a", 1)
    put(tmp_path / "b", 1, table(1))
    records.write(record(10.0), tmp_path)
    records.write(record(11.0, of=table(2)), tmp_path)
    comparisons = compare([tmp_path]).comparisons
    assert sorted(comparison.model for comparison in comparisons) == ["model-0", "model-1", "model-2"]
    assert all(len({row.path for row in comparison.rows}) == len(comparison.rows) for comparison in comparisons)


def test_a_record_of_the_original_alone_makes_a_row(tmp_path: Path) -> None:
    records.write(record(10.0), tmp_path)
    (row,) = only(tmp_path).rows
    assert (row.method, row.rank, row.model_mb["tied"]) == ("original", DIM, MODEL_BYTES / 1e6)
    assert row.figures["perplexity.tied"].value == 10.0


def test_the_same_artifact_in_two_folders_is_one_row(tmp_path: Path) -> None:
    put(tmp_path / "a", 1)
    put(tmp_path / "b", 1)
    assert len(only(tmp_path).rows) == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_order_of_paths_does_not_change_the_rows(tmp_path: Path, order: tuple[int, int]) -> None:
    paths = [put(tmp_path, 1), put(tmp_path, 2)]
    rows = compare([paths[index] for index in order]).comparisons[0].rows
    assert [row.rank for row in rows] == [DIM, 2, 1]


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
    (comparison,) = findings.comparisons
    assert [row.path for row in comparison.rows] == [None, str(good)]
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


def test_a_record_whose_artifact_is_gone_or_was_replaced_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    records.write(record(10.0), tmp_path)
    records.write(record(40.0, path), tmp_path)
    path.unlink()
    findings = compare([tmp_path])
    assert len(findings.problems) == 1
    assert "gone" in findings.problems[0]
    assert [row.method for row in findings.comparisons[0].rows] == ["original"]


def test_a_figure_of_an_artifact_forced_into_another_model_is_named(tmp_path: Path) -> None:
    """Its sizes and distances are of another table: no row could hold all of them."""
    path = put(tmp_path, 1)
    other = table(1)
    records.write(record(10.0, of=other), tmp_path)
    records.write(record(40.0, path, of=other), tmp_path)
    findings = compare([tmp_path])
    assert len(findings.problems) == 1
    assert "another model's table" in findings.problems[0]
    assert [row.figures for comparison in findings.comparisons for row in comparison.rows if row.path] == [{}]


def test_nothing_gives_nothing(tmp_path: Path) -> None:
    assert compare([tmp_path]).comparisons == ()
    assert compare([tmp_path]).problems == ()


def test_histories_are_no_problem_and_give_the_time(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    runs.history_path(path).write_text('{"seconds": 1.25}')
    assert only(tmp_path).rows[1].seconds == 1.25


def test_comparing_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    records.write(record(40.0, put(tmp_path, 1)), tmp_path)
    code = (
        "import sys, pathlib; from orientc.comparison import compare;"
        f"found = compare([pathlib.Path({str(tmp_path)!r})]);"
        "print(len(found.comparisons[0].rows), sorted({'torch', 'transformers', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["2", "[]"]


def test_an_infinite_perplexity_survives_the_file(tmp_path: Path) -> None:
    """JSON has no word for infinity: it is kept as null, and read as what it was."""
    path = records.write(record(math.inf), tmp_path)
    assert "Infinity" not in path.read_text()
    found = only(tmp_path)
    assert {figure.value for figure in found.rows[0].figures.values()} == {math.inf}


# -- tasks


def tuned(
    metrics: dict[str, float], artifact: Path | None = None, seed: int = 0, task: str = "mrpc", **other: Any
) -> Record:
    """A fine-tuning's record."""
    settings = {"epochs": 3.0, "learning_rate": 2e-5, "seed": seed} | other.pop("settings", {})
    data = {"task": task, "name": "glue", "sha256": f"{task}-data", "limit_train": None} | other.pop("data", {})
    return record(
        0.0, artifact, "untied", kind="glue", text=None, metrics=metrics, settings=settings, data=data, **other
    )


def test_a_tasks_figures_stand_beside_the_originals(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    records.write(tuned({"accuracy": 0.75, "f1": 0.5}), tmp_path)
    records.write(tuned({"accuracy": 0.5, "f1": 0.0}, path), tmp_path)
    comparison = only(tmp_path)
    assert (comparison.kind, comparison.text) == ("glue", "glue")
    assert comparison.columns == ("mrpc.accuracy", "mrpc.f1")
    original, row = comparison.rows
    assert {name: (one.value, one.difference) for name, one in original.figures.items()} == {
        "mrpc.accuracy": (0.75, 0.0),
        "mrpc.f1": (0.5, 0.0),
    }
    assert {name: (one.value, one.difference) for name, one in row.figures.items()} == {
        "mrpc.accuracy": (0.5, -0.25),
        "mrpc.f1": (0.0, -0.5),
    }
    assert {(one.std, one.seeds) for entry in comparison.rows for one in entry.figures.values()} == {(None, 1)}


def test_a_score_of_0_of_the_original_leaves_a_difference_but_no_ratio(tmp_path: Path) -> None:
    records.write(tuned({"accuracy": 0.0}), tmp_path)
    records.write(tuned({"accuracy": 0.25}, put(tmp_path, 1)), tmp_path)
    figure = only(tmp_path).rows[1].figures["mrpc.accuracy"]
    assert (figure.ratio, figure.difference) == (None, 0.25)


def test_seeds_are_one_figure_with_its_deviation(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    for seed, accuracy in enumerate((0.5, 0.75, 0.7)):
        records.write(tuned({"accuracy": accuracy}, path, seed), tmp_path)
    for seed, accuracy in enumerate((0.9, 0.8)):
        records.write(tuned({"accuracy": accuracy}, seed=seed), tmp_path)
    comparison = only(tmp_path)
    assert comparison.settings == {"epochs": 3.0, "learning_rate": 2e-5}
    original, found = (row.figures["mrpc.accuracy"] for row in comparison.rows)
    assert found.value == pytest.approx(0.65)
    assert found.std == pytest.approx(statistics.stdev((0.5, 0.75, 0.7)))
    assert found.difference == pytest.approx(0.65 - 0.85)
    assert found.ratio == pytest.approx(0.65 / 0.85)
    assert (found.seeds, original.seeds) == (3, 2)


@pytest.mark.parametrize("of", ["perplexity", "task"])
def test_a_copy_of_a_record_is_no_second_seed(tmp_path: Path, of: str) -> None:
    """A model's own figures lie beside each of its artifacts."""
    made = record(10.0) if of == "perplexity" else tuned({"accuracy": 0.5})
    for folder in ("a", "b"):
        records.write(made, tmp_path / folder)
    (row,) = only(tmp_path).rows
    assert {(figure.value, figure.std, figure.seeds) for figure in row.figures.values()} == {
        (10.0 if of == "perplexity" else 0.5, None, 1)
    }


def test_perplexity_and_tasks_have_comparisons_of_their_own(tmp_path: Path) -> None:
    path = put(tmp_path, 1)
    for artifact in (None, path):
        records.write(record(10.0, artifact), tmp_path)
        records.write(tuned({"accuracy": 0.5}, artifact), tmp_path)
        records.write(tuned({"accuracy": 0.5}, artifact, task="rte"), tmp_path)
        squad = {"name": "squad", "sha256": "s"}
        records.write(replace(tuned({"exact_match": 50.0, "f1": 60.0}, artifact), kind="squad", data=squad), tmp_path)
    findings = compare([tmp_path])
    assert findings.problems == ()
    assert sorted((comparison.kind, comparison.columns) for comparison in findings.comparisons) == [
        ("glue", ("mrpc.accuracy",)),
        ("glue", ("rte.accuracy",)),
        ("perplexity", ("perplexity.input-only", "perplexity.tied")),
        ("squad", ("squad.exact_match", "squad.f1")),
    ]
    assert all([row.path for row in comparison.rows] == [None, str(path)] for comparison in findings.comparisons)


@pytest.mark.parametrize(
    "difference",
    [{"settings": {"epochs": 1.0}}, {"data": {"sha256": "other"}}, {"data": {"limit_train": 5}}],
    ids=["settings", "data", "limit"],
)
def test_scores_that_differ_in_more_than_the_table_and_seed_never_share_a_comparison(
    tmp_path: Path, difference: dict[str, Any]
) -> None:
    path = put(tmp_path, 1)
    for change, figures in (({}, (0.5, 0.25)), (difference, (0.75, 0.625))):
        for artifact, figure in zip((None, path), figures, strict=True):
            records.write(tuned({"accuracy": figure}, artifact, **change), tmp_path)
    findings = compare([tmp_path])
    assert findings.problems == ()
    found = [[row.figures["mrpc.accuracy"] for row in comparison.rows] for comparison in findings.comparisons]
    assert sorted([figure.value for figure in row] for row in found) == [[0.5, 0.25], [0.75, 0.625]]
    assert sorted(row[1].difference or 0 for row in found) == [-0.25, -0.125]


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
