from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import documents

from orientc.errors import RecordError
from orientc.storage import records
from orientc.storage.records import Record

TABLE = {
    "id": "some/model", "revision": "abc", "sha256": "0" * 64, "vocab": 10, "dim": 4, "dtype": "float32",
    "nbytes": 160, "padding_idx": None, "embed_scale": 1.0, "tied": True, "model_parameters": 100, "model_bytes": 400,
}  # fmt: skip
RECORD = Record(
    kind="perplexity",
    model={"id": "some/model", "revision": "abc", "table_sha256": "0" * 64, "fingerprint": "9" * 64, "table": TABLE},
    artifact={
        "path": "runs/x/svd-r2-1234abcd.safetensors",
        "sha256": "1" * 64,
        "method": "svd",
        "rank": 2,
        "bits_per_weight": 6.5,
    },
    head="tied",
    settings={"protocol": "masked", "seed": 0},
    metrics={"perplexity": 12.5, "loss": 2.5, "tokens": 100},
    seconds=1.5,
    environment={"device": "cpu", "threads": 1, "processes": 1},
    versions={"orientc": "0.1.0", "python": "3.11.0", "torch": "2.9.0", "transformers": "5.23.0"},
    text={"name": "text.txt", "sha256": "2" * 64},
)
ORIGINAL = replace(RECORD, artifact=None)
GLUE = replace(
    RECORD,
    kind="glue",
    head="input-only",
    text=None,
    data={"task": "mrpc", "name": "glue", "sha256": "3" * 64, "limit_train": None, "limit_eval": None},
    settings={"epochs": 3.0, "seed": 1},
    metrics={"accuracy": 0.75, "f1": 0.5},
)
SQUAD = replace(
    GLUE,
    kind="squad",
    artifact=None,
    data={"name": "squad", "sha256": "4" * 64},
    metrics={"exact_match": 50.0, "f1": 62.5},
)


def refused(path: Path, content: object) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(RecordError) as caught:
        records.read(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    return line


@pytest.mark.parametrize("record", [RECORD, ORIGINAL, GLUE, SQUAD])
def test_a_record_comes_back_as_it_was(tmp_path: Path, record: Record) -> None:
    path = records.write(record, tmp_path / "new")
    assert path.name == record.file_name
    assert records.read(path) == record


def test_what_is_written_is_one_json_object_with_its_format_and_version(tmp_path: Path) -> None:
    values = documents.read(records.write(RECORD, tmp_path))
    assert (values["format"], values["version"]) == ("orientc-record", 1)
    assert values["metrics"] == RECORD.metrics
    assert values["head"] == "tied"
    assert "extra" not in values


def test_keys_of_a_later_program_are_kept(tmp_path: Path) -> None:
    values = RECORD.as_dict() | {"energy": {"joules": 3}}
    values["model"] = values["model"] | {"license": "mit", "table": TABLE | {"unit": 1}}
    path = tmp_path / "record.json"
    path.write_text(json.dumps(values))
    record = records.read(path)
    assert record.extra == {"energy": {"joules": 3}}
    assert record.table.vocab == 10
    assert json.loads(records.write(record, tmp_path).read_text()) == values


def test_a_newer_record_is_named(tmp_path: Path) -> None:
    assert "newer" in refused(tmp_path / "record.json", RECORD.as_dict() | {"version": 2})


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", "{}", "[" * 100_000, '{"format": "other"}'])
def test_another_file_is_not_a_record(tmp_path: Path, content: str) -> None:
    refused(tmp_path / "record.json", content)


def test_a_file_that_cannot_be_read_is_not_a_record(tmp_path: Path) -> None:
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{}")
    for name in ("none.json", "bytes.json", "."):
        with pytest.raises(RecordError):
            records.read(tmp_path / name)


@pytest.mark.parametrize("key", ["kind", "model", "artifact", "head", "settings", "metrics", "seconds", "versions"])
def test_a_missing_entry_is_named(tmp_path: Path, key: str) -> None:
    values = RECORD.as_dict()
    del values[key]
    assert f"{key} is missing" in refused(tmp_path / "record.json", values)


@pytest.mark.parametrize(
    ("entry", "key", "value"),
    [
        (None, "version", None),
        (None, "version", "1"),
        (None, "kind", 3),
        (None, "head", ["tied"]),
        (None, "model", []),
        (None, "settings", "x"),
        (None, "metrics", None),
        (None, "versions", 1),
        (None, "artifact", "svd"),
        (None, "text", "text.txt"),
        (None, "data", 3),
        ("model", "id", 3),
        ("model", "table_sha256", ["0"]),
        ("model", "table", None),
        ("model", "table", {}),
        ("model", "table", TABLE | {"vocab": 0}),
        ("model", "table", TABLE | {"dim": "4"}),
        ("model", "table", TABLE | {"model_bytes": None}),
        ("artifact", "path", 3),
        ("artifact", "sha256", ["1"]),
        ("text", "name", None),
        ("text", "sha256", 3),
        ("metrics", "perplexity", "12.5"),
    ],
)
def test_an_entry_of_the_wrong_type_is_refused(tmp_path: Path, entry: str | None, key: str, value: Any) -> None:
    values = RECORD.as_dict()
    (values[entry] if entry else values)[key] = value
    refused(tmp_path / "record.json", values)


@pytest.mark.parametrize(
    ("entry", "key"),
    [("model", "id"), ("model", "table_sha256"), ("model", "table"), ("artifact", "sha256"), ("artifact", "path"),
     ("text", "sha256"), ("text", "name")],
)  # fmt: skip
def test_an_entry_without_its_parts_is_refused(tmp_path: Path, entry: str, key: str) -> None:
    values = RECORD.as_dict()
    del values[entry][key]
    assert key in refused(tmp_path / "record.json", values)


CHANGES: dict[str, dict[str, Any]] = {
    "kind": {"kind": "glue"},
    "head": {"head": "input-only"},
    "settings": {"settings": {"protocol": "masked", "seed": 1}},
    "text": {"text": {"name": "text.txt", "sha256": "3" * 64}},
    "artifact": {"artifact": {**(RECORD.artifact or {}), "sha256": "4" * 64}},
    "table": {"model": {**RECORD.model, "table_sha256": "5" * 64}},
    "fingerprint": {"model": {**RECORD.model, "fingerprint": "6" * 64}},
    "data": {"data": {"task": "cola"}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_figure_depends_on_is_part_of_its_identity(tmp_path: Path, change: str) -> None:
    other = replace(RECORD, **CHANGES[change])
    assert other.identity != RECORD.identity
    assert other.file_name != RECORD.file_name
    records.write(RECORD, tmp_path)
    assert records.reusable(other, tmp_path) is None


def test_what_a_figure_does_not_depend_on_is_not(tmp_path: Path) -> None:
    other = replace(
        RECORD,
        metrics={},
        seconds=0.0,
        model={**RECORD.model, "id": "elsewhere"},
        text={"name": "moved.txt", "sha256": "2" * 64},
    )
    assert other.identity == RECORD.identity
    records.write(RECORD, tmp_path)
    assert records.reusable(other, tmp_path) == RECORD


def test_a_record_is_reused_only_where_it_is_whole_and_of_the_same_versions(tmp_path: Path) -> None:
    assert records.reusable(RECORD, tmp_path) is None
    path = records.write(RECORD, tmp_path)
    assert records.reusable(RECORD, tmp_path) == RECORD
    assert records.reusable(replace(RECORD, versions={"orientc": "0.2.0"}), tmp_path) is None
    path.write_text(path.read_text()[:-20])
    assert records.reusable(RECORD, tmp_path) is None


def test_the_same_evaluation_again_replaces_its_record(tmp_path: Path) -> None:
    records.write(RECORD, tmp_path)
    path = records.write(replace(RECORD, metrics={"perplexity": 13.0}), tmp_path)
    assert os.listdir(tmp_path) == [path.name]
    assert records.read(path).metrics == {"perplexity": 13.0}


def test_names_say_what_was_measured() -> None:
    assert RECORD.file_name.startswith("svd-r2-1234abcd.perplexity-tied-")
    assert ORIGINAL.file_name.startswith("original.perplexity-tied-")
    assert GLUE.file_name.startswith("svd-r2-1234abcd.glue-mrpc-input-only-")
    assert SQUAD.file_name.startswith("original.squad-input-only-")


def test_a_record_of_before_there_were_several_tables_reads_as_one_of_today(tmp_path: Path) -> None:
    """It says untied where the head shares no table, and nothing of which table it is of."""
    path = records.write(replace(RECORD, head="input-only"), tmp_path)
    values = json.loads(path.read_text())
    values["head"] = "untied"
    values["model"]["table"].pop("table", None)
    path.write_text(json.dumps(values))
    read = records.read(path)
    assert (read.head, read.table.table) == ("input-only", "input")
    assert read.figures == {"perplexity.input-only": 12.5}


def test_figures_have_names_that_are_clear_without_the_record() -> None:
    assert RECORD.figures == {"perplexity.tied": 12.5}
    assert GLUE.figures == {"mrpc.accuracy": 0.75, "mrpc.f1": 0.5}
    assert SQUAD.figures == {"squad.exact_match": 50.0, "squad.f1": 62.5}
    assert replace(RECORD, metrics={"loss": 1.0}).figures == {}
    assert replace(GLUE, metrics={"accuracy": 0.5, "f1": 1}).figures == {"mrpc.accuracy": 0.5, "mrpc.f1": 1.0}


def test_counts_of_what_was_measured_on_are_no_figures() -> None:
    counted = {"cosine": 0.5, "sentences": 3, "cut_sentences": 1, "cut_tokens": 7, "zero_vectors": 1}
    assert replace(RECORD, kind="similarity", metrics=counted).figures == {"similarity.cosine": 0.5}


def test_infinity_is_a_word_in_the_file_and_a_number_when_it_is_read(tmp_path: Path) -> None:
    """Null was NaN too, and below every number to jq and in JavaScript."""
    record = replace(RECORD, metrics={"perplexity": math.inf, "loss": 800.0, "tokens": 3})
    path = records.write(record, tmp_path)
    values = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert values["metrics"]["perplexity"] == "Infinity"
    assert values == json.loads(json.dumps(record.as_dict()))
    assert records.read(path) == record
    assert records.read(path).figures == {"perplexity.tied": math.inf}


@pytest.mark.parametrize("base", [RECORD, GLUE], ids=["perplexity", "glue"])
@pytest.mark.parametrize("figure", [None, math.nan, "NaN", "nan", "-Infinity", -math.inf, "inf", True, [1.0], "1.0"])
def test_a_figure_that_is_no_number_makes_a_record_unusable(tmp_path: Path, base: Record, figure: object) -> None:
    name = next(iter(base.metrics))
    line = refused(tmp_path / "record.json", base.as_dict() | {"metrics": base.metrics | {name: figure}})
    assert name in line
    assert "measure again" in line


def test_a_score_between_bounds_is_never_infinite(tmp_path: Path) -> None:
    for figure in (math.inf, "Infinity"):
        refused(tmp_path / "record.json", GLUE.as_dict() | {"metrics": {"accuracy": figure}})


@pytest.mark.parametrize("seconds", [None, "1.5", math.nan, math.inf, [1]])
def test_seconds_are_a_number(tmp_path: Path, seconds: object) -> None:
    refused(tmp_path / "record.json", RECORD.as_dict() | {"seconds": seconds})


@pytest.mark.parametrize("key", ["artifact", "text"])
def test_an_empty_entry_is_not_the_same_as_none(tmp_path: Path, key: str) -> None:
    assert "is missing" in refused(tmp_path / "record.json", RECORD.as_dict() | {key: {}})


def test_sizes_no_table_has_are_refused(tmp_path: Path) -> None:
    values = RECORD.as_dict()
    values["model"]["table"] = TABLE | {"vocab": 10**400}
    refused(tmp_path / "record.json", values)


def test_a_file_too_large_for_a_record_or_without_an_end_is_not_read(tmp_path: Path) -> None:
    sparse, pipe = tmp_path / "sparse.json", tmp_path / "pipe.json"
    with sparse.open("wb") as stream:
        stream.truncate(5_000_000_000)
    os.mkfifo(pipe)
    for path, why in ((sparse, "5.0 GB"), (pipe, "pipe"), (tmp_path, "folder")):
        with pytest.raises(RecordError, match=why):
            records.read(path)


def test_files_are_found_in_folders_and_by_name_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b/2.json", "b/1.json", "a.json", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    paths = [tmp_path / "b" / "2.json", tmp_path, tmp_path / "a.txt", tmp_path / "none.json"]
    found = [path.relative_to(tmp_path).as_posix() for path in records.files_under(paths, ".json")]
    assert found == ["b/2.json", "a.json", "b/1.json", "none.json"]


def test_models_and_what_lies_beside_a_record_of_their_name_are_passed_over(tmp_path: Path) -> None:
    for name in (
        "run.json",
        "run/predictions.json",
        "run/deep/er.json",
        "run.checkpoints/checkpoint-1/config.json",
        "run.checkpoints/checkpoint-1/orientc-run.json",
        "model/config.json",
        "model/part/x.json",
        "other/x.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    def found(*paths: Path) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in records.files_under(paths, ".json")]

    assert found(tmp_path) == ["other/x.json", "run.json"]
    # a folder that was named is searched, whatever it is; so is a file
    assert found(tmp_path / "model") == ["model/config.json", "model/part/x.json"]
    assert found(tmp_path / "run") == ["run/deep/er.json", "run/predictions.json"]
    assert found(tmp_path / "model" / "config.json") == ["model/config.json"]


def test_a_strangers_name_of_a_metric_stays_within_one_line(tmp_path: Path) -> None:
    values = RECORD.as_dict()
    line = refused(tmp_path / "a.json", values | {"metrics": values["metrics"] | {"a\nb\x1b[2J": "N"}})
    assert line.isprintable()


def test_a_record_that_is_found_again_goes_by_the_names_of_today(tmp_path: Path) -> None:
    """One that does not say what was chosen, too."""
    records.write(RECORD, tmp_path)
    asked = replace(RECORD, metrics={}, chosen={"text": "new.txt"})
    found = records.reusable(asked, tmp_path)
    assert found == replace(RECORD, chosen={"text": "new.txt"}) == records.read(tmp_path / RECORD.file_name)
    assert records.reusable(replace(asked, versions={}), tmp_path) is None
