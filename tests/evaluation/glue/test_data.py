"""A task's data, wherever it lies: the same rows and hash from each form, one clear line from a damaged one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.commands import Client
from support.hub import Hub, write_dataset

from orientc.errors import EvaluationError
from orientc.evaluation.glue import data
from orientc.evaluation.glue.tasks import TASKS, Task

TSV = {
    "mrpc": (["Quality", "#1 ID", "#1 String", "#2 String"], ["index", "#1 ID", "#1 String", "#2 String"]),
    "stsb": (["index", "sentence1", "sentence2", "score"], ["index", "sentence1", "sentence2"]),
    "mnli": (["index", "sentence1", "sentence2", "label1", "gold_label"], ["index", "sentence1", "sentence2"]),
}
COLUMN = {
    "label1": "decoy",
    "#1 ID": "id",
    "label": "label",
    "gold_label": "label",
    "Quality": "label",
    "score": "label",
}
COLUMN |= {"index": "idx", "#1 String": "sentence1", "#2 String": "sentence2"}

Splits = dict[str, list[dict[str, Any]]]


def sample(task: Task, count: int = 12) -> Splits:
    """Rows that are hard to carry, by split; their `idx` are those a TSV folder gives."""
    hard = [
        'an " unbalanced quote',
        "None",
        "two\u2028lines\u0085here",
        "trailing ",
        "a, b; 'c'",
        "N/A",
        "",
        "naïve 日本",
    ]

    def rows(split: str) -> list[dict[str, Any]]:
        test = split.startswith("test")
        labels = (
            [-1.0 if task.regression else -1]
            if test
            else [0.2, 3.8, 5.0]
            if task.regression
            else range(len(task.labels))
        )
        return [
            {name: f"{split} {number} {hard[(number + column) % len(hard)]}" for column, name in enumerate(task.texts)}
            | {"label": list(labels)[number % len(labels)], "idx": number}
            for number in range(count)
        ] + [
            {name: hard[number + 5] for name in task.texts} | {"label": labels[0], "idx": count + number}
            for number in range(2)
        ]

    names = ["train", *(f"{kind}_{split}".rstrip("_") for kind in ("validation", "test") for split in task.splits)]
    return {name: rows(name) for name in names}


def as_tsv(folder: Path, task: Task, splits: Splits) -> Path:
    """The task's folder of GLUE's download."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = [*task.texts, "label"], ["index", *task.texts]
    for split, rows in splits.items():
        header = TSV.get(task.name, plain)[split.startswith("test")]
        spelled = dict(zip(("sentence1", "sentence2"), task.texts, strict=False)) if task.name == "mnli" else {}
        names = [spelled.get(name, name) for name in (COLUMN.get(name, name) for name in header)]
        lines = ["\t".join(str(row.get(name, "entailment")) for name in names) for row in rows]
        (folder / f"{split.replace('validation', 'dev')}.tsv").write_text("\n".join(["\t".join(header), *lines, ""]))
    return folder


def as_tables(splits: Splits) -> datasets.DatasetDict:
    return datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in splits.items()})


def in_files(kind: str) -> Callable[[Path, Task, Splits], Path]:
    """A writer of `train.parquet` and so on, or of csv, or json."""

    def write(folder: Path, _task: Task, splits: Splits) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in as_tables(splits).items():
            getattr(rows, f"to_{kind}")(folder / f"{name}.{kind}")
        return folder

    return write


def saved(folder: Path, task: Task, splits: Splits) -> Path:
    """`save_to_disk`, as the hub has them: classes under names, and a format that is not Python's."""
    tables = as_tables(splits)
    if task.labels:
        tables = tables.cast_column("label", datasets.ClassLabel(names=list(task.labels)))
    tables.with_format("numpy").save_to_disk(folder)
    return folder


def cloned(folder: Path, task: Task, splits: Splits) -> Path:
    """A copy of the hub's repository with another task's data in it."""
    return write_dataset(folder, {"qnli": sample(TASKS["qnli"]), task.name: splits})


FORMS: dict[str, Callable[[Path, Task, Splits], Path]] = {
    "parquet": in_files("parquet"),
    "csv": in_files("csv"),
    "json": in_files("json"),
    "saved": saved,
    "cloned": cloned,
}


def content(rows: datasets.Dataset) -> list[dict[str, Any]]:
    return list(rows)


def refusal(task: str, folder: Path, load: Callable[[Task, Path], object] = data.load) -> str:
    """The one line that loading this ends with."""
    with pytest.raises(EvaluationError) as raised:
        load(TASKS[task], folder)
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["sst2", "mrpc", "stsb", "mnli"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows_and_hash(tmp_path: Path, name: str, form: str) -> None:
    task, splits = TASKS[name], sample(TASKS[name])
    original = as_tsv(tmp_path / "glue" / task.folder, task, splits).parent
    other = FORMS[form](tmp_path / "other", task, splits)

    first, second = data.load(task, original), data.load(task, other)

    assert (first.name, second.name) == ("glue", "other")
    assert first.sha256 == second.sha256
    assert content(first.train) == content(second.train)
    assert first.train.features == second.train.features
    assert first.train.column_names == [*task.texts, "label", "idx"]
    assert list(first.evaluation) == list(second.evaluation) == list(task.splits)
    for split in task.splits:
        assert content(first.evaluation[split]) == content(second.evaluation[split])
    wanted = datasets.Dataset.from_list(splits["train"], features=first.train.features)
    assert content(first.train) == content(wanted)
    assert first.unusable == second.unusable == ()

    tests, others = data.load_tests(task, original), data.load_tests(task, other)

    assert list(tests) == list(others) == (["MNLI-m", "MNLI-mm"] if name == "mnli" else [task.folder])
    for stem, rows in tests.items():
        assert content(rows) == content(others[stem])
        assert set(rows["label"]) == {-1}


@pytest.mark.parametrize("form", ["parquet", "saved", "tsv"])
@pytest.mark.parametrize("place", [".", "sst2", "SST-2"])
def test_a_folder_holds_the_data_itself_or_under_the_tasks_name(tmp_path: Path, form: str, place: str) -> None:
    task = TASKS["sst2"]
    ({"tsv": as_tsv} | FORMS)[form](tmp_path / place, task, sample(task))

    assert len(data.load(task, tmp_path).train) == 14


def test_the_current_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS["rte"]
    monkeypatch.chdir(as_tsv(tmp_path / "RTE", task, sample(task)))

    assert data.load(task, Path(".")).name == "RTE"


def test_a_folder_named_like_a_pattern_is_a_folder(tmp_path: Path) -> None:
    task = TASKS["rte"]
    folder = in_files("parquet")(tmp_path / "[a]*?", task, sample(task))

    assert len(data.load(task, folder).train) == 14


def test_loading_leaves_nothing_behind_and_sees_what_has_changed(tmp_path: Path) -> None:
    task, splits = TASKS["rte"], sample(TASKS["rte"])
    for form in ("csv", "saved"):
        folder = FORMS[form](tmp_path / form, task, splits)
        before = sorted(folder.rglob("*"))
        data.load(task, folder, limit_train=3, limit_eval=3).train.map(lambda row: row)
        assert sorted(folder.rglob("*")) == before

    file = tmp_path / "csv" / "train.csv"
    first, times = data.load(task, file.parent), file.stat()
    file.write_text(file.read_text().replace("train 3", "TRAIN 3"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = data.load(task, file.parent)

    assert [row["sentence1"][:7] for row in content(second.train)][3] == "TRAIN 3"
    assert first.sha256 != second.sha256


def test_limits_take_the_same_rows_each_time(tmp_path: Path) -> None:
    task, splits = TASKS["mnli"], sample(TASKS["mnli"])
    original = as_tsv(tmp_path / "MNLI", task, splits)
    other = saved(tmp_path / "other", task, splits)

    first = data.load(task, original, limit_train=5, limit_eval=3)
    second = data.load(task, other, limit_train=5, limit_eval=3)

    chosen = first.train["idx"][:]
    assert len(set(chosen)) == 5
    assert chosen != sorted(chosen)
    assert content(first.train) == content(second.train)
    assert {split: rows["idx"][:] for split, rows in first.evaluation.items()} == {
        "matched": [0, 1, 2],
        "mismatched": [0, 1, 2],
    }
    assert first.sha256 == second.sha256
    assert len({first.sha256, data.load(task, original).sha256, data.load(task, original, limit_train=5).sha256}) == 3
    assert data.load(task, original, limit_train=7).train["idx"][:5] == chosen
    assert len(data.load(task, original, limit_train=100, limit_eval=100).train) == 14


def test_the_hash_knows_texts_labels_and_order_but_not_indices(tmp_path: Path) -> None:
    task = TASKS["rte"]

    def hashed(change: Callable[[Splits], object]) -> str:
        splits = sample(task)
        change(splits)
        folder = in_files("parquet")(tmp_path / "data", task, splits)
        return data.load(task, folder).sha256

    same = hashed(lambda splits: None)
    assert hashed(lambda splits: splits["train"][0].update(idx=99)) == same
    assert hashed(lambda splits: splits["test"].pop()) == same
    changes: list[Callable[[Splits], object]] = [
        lambda splits: splits["train"][0].update(sentence2="x"),
        lambda splits: splits["train"][0].update(label=1),
        lambda splits: splits["train"].reverse(),
        lambda splits: splits["validation"].pop(),
        lambda splits: splits["train"].append(splits["validation"].pop(0)),
    ]
    assert len({same, *map(hashed, changes)}) == len(changes) + 1


def test_qqps_short_rows_are_told_of(tmp_path: Path) -> None:
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text(f"{header}1\t2\t3\ta?\tb?\t1\n1\t2\n")

    found = data.load(TASKS["qqp"], tmp_path)

    assert (len(found.train), len(found.evaluation[""])) == (1, 1)
    assert [line.rpartition("/")[2] for line in found.unusable] == [
        "train.tsv, line 3: too few columns, left out",
        "dev.tsv, line 3: too few columns, left out",
    ]


DIAGNOSTIC = "index\tsentence1\tsentence2\n0\tThe cat sat.\tThe cat did not sit.\n"


@pytest.mark.parametrize("file", ["diagnostic/diagnostic.tsv", "AX/AX.tsv", "AX.tsv"])
@pytest.mark.parametrize("inside", [False, True])
def test_the_diagnostic_set_lies_beside_mnli(tmp_path: Path, file: str, inside: bool) -> None:
    folder = as_tsv(tmp_path / "MNLI", TASKS["mnli"], sample(TASKS["mnli"]))
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(DIAGNOSTIC)

    tests = data.load_tests(TASKS["mnli"], folder if inside else tmp_path)

    assert list(tests) == ["MNLI-m", "MNLI-mm", "AX"]
    assert content(tests["AX"]) == [
        {"premise": "The cat sat.", "hypothesis": "The cat did not sit.", "label": -1, "idx": 0}
    ]
    assert list(data.load_tests(TASKS["mnli"], folder)) == [*tests][: 3 if inside else None]


@pytest.mark.parametrize("form", ["parquet", "saved"])
def test_the_diagnostic_set_of_a_data_set_is_called_ax(tmp_path: Path, form: str) -> None:
    task = TASKS["mnli"]
    FORMS[form](tmp_path / "mnli", task, sample(task))
    FORMS[form](tmp_path / "ax", task, {"test": [{"premise": "P", "hypothesis": "H", "label": -1, "idx": 0}]})

    assert [len(rows) for rows in data.load_tests(task, tmp_path).values()] == [14, 14, 1]
    assert list(data.load_tests(task, tmp_path / "mnli")) == ["MNLI-m", "MNLI-mm"]


def test_labels_go_by_their_names(tmp_path: Path) -> None:
    """Another order of the classes, words, or ids as text: the ids are the benchmark's."""
    task, splits = TASKS["mnli"], sample(TASKS["mnli"])
    wanted = data.load(task, in_files("parquet")(tmp_path / "ids", task, splits)).sha256
    for rows in splits.values():
        for row in rows:
            row["label"] = task.labels[row["label"]] if row["label"] >= 0 else None
    words = in_files("csv")(tmp_path / "words", task, splits)
    shuffled = as_tables(splits).cast_column("label", datasets.ClassLabel(names=sorted(task.labels)))
    shuffled.save_to_disk(tmp_path / "shuffled")

    assert data.load(task, words).sha256 == wanted
    assert data.load(task, tmp_path / "shuffled").sha256 == wanted


def test_rows_without_an_index_are_numbered(tmp_path: Path) -> None:
    task, splits = TASKS["rte"], sample(TASKS["rte"])
    for rows in splits.values():
        for row in rows:
            del row["idx"]
    folder = in_files("parquet")(tmp_path, task, splits)

    assert data.load(task, folder).train["idx"][:] == list(range(14))


def test_test_files_may_have_other_columns(tmp_path: Path) -> None:
    task, splits = TASKS["rte"], sample(TASKS["rte"])
    for row in splits["test"]:
        del row["label"]
        row["more"] = 1.5
    folder = in_files("csv")(tmp_path, task, splits)

    assert len(data.load(task, folder).train) == 14
    assert set(data.load_tests(task, folder)["RTE"]["label"]) == {-1}


def test_files_in_parts_and_in_data_are_one_split(tmp_path: Path) -> None:
    task, splits = TASKS["rte"], sample(TASKS["rte"])
    (tmp_path / "data").mkdir()
    train = datasets.Dataset.from_list(splits["train"])
    for part in range(2):
        train.shard(2, part, contiguous=True).to_parquet(tmp_path / "data" / f"train-0000{part}-of-00002.parquet")
    datasets.Dataset.from_list(splits["validation"]).to_json(tmp_path / "data" / "validation.jsonl")

    assert data.load(task, tmp_path).train["idx"][:] == list(range(14))


def test_a_folder_without_the_data_is_told_what_was_looked_for(tmp_path: Path) -> None:
    as_tsv(tmp_path / "SST-2", TASKS["sst2"], sample(TASKS["sst2"]))
    (tmp_path / "README.md").write_text("# My notes\n")
    (tmp_path / "MRPC").mkdir()

    assert refusal("mrpc", tmp_path) == (
        f"{tmp_path} has no data for MRPC: neither MRPC/train.tsv, nor a saved data set, nor files for train and "
        "validation (.parquet, .csv, .json, .jsonl), in it or in its mrpc/"
    )
    assert refusal("mnli", tmp_path, data.load_tests).startswith(
        f"{tmp_path} has no data for MNLI: neither MNLI/test_matched.tsv, nor"
    )
    assert refusal("rte", tmp_path / "nowhere") == f"can't read {tmp_path}/nowhere: No such file or directory"
    assert refusal("rte", tmp_path / "README.md") == f"can't read {tmp_path}/README.md: Not a directory"


def test_another_tasks_folder_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    for name in ("sst2", "rte"):
        as_tsv(tmp_path / TASKS[name].folder, TASKS[name], sample(TASKS[name]))
    in_files("parquet")(tmp_path / "STS-B", TASKS["stsb"], sample(TASKS["stsb"]))

    assert refusal("mrpc", tmp_path / "SST-2").startswith(f"{tmp_path}/SST-2 has no data for MRPC: ")
    assert refusal("wnli", tmp_path / "RTE").startswith(f"{tmp_path}/RTE has no data for WNLI: ")
    assert refusal("mrpc", tmp_path / "STS-B").startswith(f"{tmp_path}/STS-B has no data for MRPC: ")
    nameless = (tmp_path / "SST-2").rename(tmp_path / "mine")
    assert refusal("mrpc", nameless) == (
        f'{nameless}/train.tsv has no column "#1 String", which MRPC has there; is it another task\'s?'
    )


def test_a_missing_file_or_split_is_named(tmp_path: Path) -> None:
    task, splits = TASKS["rte"], sample(TASKS["rte"])
    folder = as_tsv(tmp_path / "RTE", task, splits)
    (folder / "dev.tsv").unlink()
    (folder / "test.tsv").unlink()
    assert refusal("rte", tmp_path) == f"can't read {folder}/dev.tsv: No such file or directory"
    assert refusal("rte", folder, data.load_tests) == f"can't read {folder}/test.tsv: No such file or directory"

    del splits["validation"], splits["test"]
    for form in ("parquet", "saved"):
        folder = FORMS[form](tmp_path / form, task, splits)
        assert refusal("rte", folder) == f'{folder} has no split "validation" for RTE; it has train'
    folder = tmp_path / "saved"
    assert refusal("rte", folder, data.load_tests) == f'{folder} has no split "test" for RTE; it has train'


def rows_with(change: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """Three rows of RTE, the last one changed."""
    return [*sample(TASKS["rte"])["train"][:2], {"sentence1": "a", "sentence2": "b", "label": 1, "idx": 2} | change]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_with({"label": -1}), ", row 2: label '-1', where RTE has entailment (0), not_entailment (1)"),
        (rows_with({"label": 2}), ", row 2: label '2', where RTE has entailment (0), not_entailment (1)"),
        (rows_with({"label": None}), ", row 2: label 'None', where RTE has entailment (0), not_entailment (1)"),
        (rows_with({"sentence2": None}), ', row 2: "sentence2" is None, not text'),
        (rows_with({"idx": None}), ', row 2: "idx" is None, not a number'),
        ([{"sentence1": "a", "sentence2": 3, "label": 0}], ', row 0: "sentence2" is 3, not text'),
        (
            [{"sentence1": "a", "sentence2": "b", "label": [1]}],
            ", row 0: label '[1]', where RTE has entailment (0), not_entailment (1)",
        ),
        ([{"sentence1": "a", "label": 1}], ' has no column "sentence2", which RTE needs'),
        ([{"sentence1": "a", "sentence2": "b"}], ' has no column "label", which RTE needs'),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, rows: Sequence[dict[str, Any]], message: str) -> None:
    folder = in_files("parquet")(tmp_path, TASKS["rte"], {"train": list(rows), "validation": list(rows)})

    assert refusal("rte", folder) == f'{folder}, split "train"{message}'


@pytest.mark.parametrize("score", [-1.0, 5.5, float("nan")])
def test_scores_out_of_range_are_named(tmp_path: Path, score: float) -> None:
    rows = [{"sentence1": "a", "sentence2": "b", "label": score, "idx": 0}]
    folder = saved(tmp_path / "data", TASKS["stsb"], {"train": rows, "validation": rows})

    assert refusal("stsb", folder) == (
        f"{folder}, split \"train\", row 0: label '{score}', where STS-B has scores from 0 to 5"
    )


def test_a_split_without_rows_ends_with_one_line(tmp_path: Path) -> None:
    splits = sample(TASKS["rte"])
    in_files("csv")(tmp_path / "csv", TASKS["rte"], splits)
    (tmp_path / "csv" / "validation.csv").write_text("sentence1,sentence2,label,idx\n")
    tables = as_tables(splits)
    tables["validation"] = tables["validation"].select([])
    tables.save_to_disk(tmp_path / "saved")

    for form in ("csv", "saved"):
        assert refusal("rte", tmp_path / form).endswith("): are its files whole, and none of them empty?")


@pytest.mark.parametrize("form", ["parquet", "json", "saved", "cloned"])
def test_damaged_files_end_with_one_line(tmp_path: Path, form: str) -> None:
    task = TASKS["rte"]
    folder = FORMS[form](tmp_path / "data", task, sample(task))
    for file in folder.rglob("*.*"):
        if file.suffix in (".parquet", ".json", ".arrow"):
            file.write_bytes(b"{" + file.read_bytes()[1:400])

    message = refusal("rte", folder)

    assert message.startswith(f"can't load {folder} (")
    assert message.endswith("): are its files whole, and none of them empty?")


PROGRAM = """
import json, sys
from orientc.evaluation.glue import data
from orientc.evaluation.glue.tasks import TASKS
from orientc.errors import EvaluationError
task = TASKS[sys.argv[1]]
try:
    found, tests = data.load(task, None), data.load_tests(task, None)
    counts = {name: len(rows) for name, rows in tests.items()}
    print(json.dumps([found.name, found.sha256, len(found.train), counts]))
except EvaluationError as error:
    print(error)
"""


def test_the_hub_gives_what_a_folder_gives(hub: Hub, online: Client, tmp_path: Path) -> None:
    splits = {name: sample(TASKS[name]) for name in ("sst2", "mnli")}
    diagnostic = {"test": [{"premise": "P", "hypothesis": "H", "label": -1, "idx": 0}]}
    published = write_dataset(tmp_path / "published", splits | {"ax": diagnostic})
    hub.publish("nyu-mll/glue", published, kind="datasets")
    copy = shutil.copytree(published, tmp_path / "copy")

    for name, tests in (("sst2", {"SST-2": 14}), ("mnli", {"MNLI-m": 14, "MNLI-mm": 14, "AX": 1})):
        done = online.python(PROGRAM, name)
        assert (done.code, done.err) == (0, "")
        assert json.loads(done.out) == ["nyu-mll/glue", data.load(TASKS[name], copy).sha256, 14, tests]
        assert {stem: len(rows) for stem, rows in data.load_tests(TASKS[name], copy).items()} == tests
        if name == "sst2":
            assert {file.partition("/")[0] for file in hub.downloads("nyu-mll/glue", "datasets")} <= {"README.md", name}

    asked = len(hub.log)
    offline = online.python(PROGRAM, "sst2", offline=True)

    assert (offline.code, offline.err) == (0, "")
    assert json.loads(offline.out)[1] == data.load(TASKS["sst2"], copy).sha256
    assert len(hub.log) == asked


def test_a_hub_without_the_data_names_the_way_out(online: Client) -> None:
    done = online.python(PROGRAM, "sst2")

    assert (done.code, done.err) == (0, "")
    (line,) = done.out.splitlines()
    assert line.startswith("can't load nyu-mll/glue through the hub (")
    assert line.endswith("): name a folder of your own with `data`")


@pytest.mark.assets
def test_the_real_download_is_found_whole(assets: Path) -> None:
    counts = {
        "sst2": (67349, 872, 1821),
        "cola": (8551, 1043, 1063),
        "mrpc": (3668, 408, 1725),
        "stsb": (5749, 1500, 1379),
    }
    for name, count in counts.items():
        task = TASKS[name]
        found = data.load(task, assets / "glue")
        tests = data.load_tests(task, assets / "glue" / task.folder)
        assert (len(found.train), len(found.evaluation[""]), len(tests[task.folder])) == count
        assert (found.name, found.unusable) == ("glue", ())
