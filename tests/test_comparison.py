from __future__ import annotations

import json
import math
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
    assert (comparison.model, comparison.text, comparison.settings, comparison.heads) == ("model-0", None, {}, ())
    original, row = comparison.rows
    description = artifacts.read_description(path).as_dict()
    assert (row.method, row.rank, row.path, row.dtype) == ("svd", 2, str(path), "float32")
    for name in ("parameter_ratio", "byte_ratio", "bits_per_weight"):
        assert getattr(row, name) == description[name]
    assert row.cosine == description["distances"]["cosine"]
    assert row.rmse == description["distances"]["rmse"]
    assert original.perplexity == row.perplexity == {}
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
    assert comparison.heads == ("untied",)
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
    assert comparison.heads == ("input-only", "tied")
    figures = {
        row.rank: {head: (figure.value, figure.ratio) for head, figure in row.perplexity.items()}
        for row in comparison.rows
    }
    assert figures == {
        DIM: {"input-only": (10.0, 1.0), "tied": (10.0, 1.0)},
        2: {"input-only": (20.0, 2.0)},
        1: {"input-only": (40.0, 4.0), "tied": (50.0, 5.0)},
    }


def test_without_the_originals_figure_there_is_no_ratio(tmp_path: Path) -> None:
    records.write(record(40.0, put(tmp_path, 1)), tmp_path)
    original, row = only(tmp_path).rows
    assert original.perplexity == {}
    assert (row.perplexity["tied"].value, row.perplexity["tied"].ratio) == (40.0, None)


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
    figures = [[row.perplexity["tied"] for row in comparison.rows] for comparison in findings.comparisons]
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
    assert row.perplexity["tied"].value == 10.0


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
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (tmp_path / "half.json").write_text('{"format": "orientc-record"')
    (tmp_path / "config.json").write_text("{}")
    newer = record(10.0).as_dict() | {"version": 99}
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    records.write(record(10.0, kind="glue", metrics={"accuracy": 0.5}), tmp_path)
    records.write(record(10.0), tmp_path)
    findings = compare([tmp_path, tmp_path / "none"])
    (comparison,) = findings.comparisons
    assert [row.path for row in comparison.rows] == [None, str(good)]
    names = (
        cut.name,
        "folder.safetensors",
        "gone.safetensors",
        "half.json",
        "config.json",
        "newer.json",
        "glue",
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
    assert [row.perplexity for comparison in findings.comparisons for row in comparison.rows if row.path] == [{}]


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
    assert {figure.value for figure in found.rows[0].perplexity.values()} == {math.inf}
