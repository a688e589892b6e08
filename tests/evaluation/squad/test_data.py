"""SQuAD's questions are the same from JSON, Parquet, a folder saved to disk and the hub; what's damaged is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.commands import Client
from support.hub import Hub, write_dataset

from orientc.errors import EvaluationError
from orientc.evaluation.squad.data import REPOSITORY, load

CONTEXTS = [
    "The quick fox jumps over the dog in Zürich.",
    "“A slow fox”, she said – and slept.",
    "  Foxes, 東京 😀 and dogs.",
]
ANSWERS = ["fox", "slow fox", "dogs"]


def qa(split: str, number: int) -> dict[str, Any]:
    """A question in the official form; those scored have an answer more, and one that doesn't stand where it says."""
    context, text = CONTEXTS[number % 3], ANSWERS[number % 3]
    answers = [{"answer_start": context.index(text), "text": text}]
    if split == "validation":
        answers.append({"answer_start": 0, "text": "the fox"})
    return {"id": f"{split}-{number * 7 % 30}", "question": f" Who, number {number}?", "answers": answers}


def official(split: str) -> dict[str, Any]:
    """30 questions in three articles of one paragraph each, as the benchmark's files have them."""
    return {
        "version": "1.1",
        "data": [
            {
                "title": f"Title_{part}",
                "paragraphs": [
                    {"context": CONTEXTS[part], "qas": [qa(split, number) for number in range(part, 30, 3)]}
                ],
            }
            for part in range(3)
        ],
    }


def rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The same in the form of `rajpurkar/squad`."""
    return [
        {
            "id": asked["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": asked["question"],
            "answers": {key: [answer[key] for answer in asked["answers"]] for key in ("text", "answer_start")},
        }
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]


def write_official(folder: Path, names: tuple[str, str] = ("train-v1.1.json", "dev-v1.1.json")) -> Path:
    folder.mkdir()
    for name, split in zip(names, ("train", "validation"), strict=True):
        document = official(split)
        for article in document["data"]:  # other copies of the data say more than the official one
            article["paragraphs"][0]["qas"][0]["start_ambiguous"] = True
        (folder / name).write_text(json.dumps(document, ensure_ascii=name.startswith("dev")), encoding="utf-8")
    return folder


def write_parquet(folder: Path) -> Path:
    return write_dataset(folder, {"plain_text": {split: rows(official(split)) for split in ("train", "validation")}})


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_official(tmp_path / "squad")


@pytest.fixture
def damage(folder: Path) -> Callable[[str, Callable[[dict[str, Any]], object]], str]:
    """Change one of the two files, and return what is said about it."""

    def damaged(name: str, change: Callable[[dict[str, Any]], object]) -> str:
        document = official("train" if name.startswith("train") else "validation")
        change(document)
        (folder / name).write_text(json.dumps(document))
        with pytest.raises(EvaluationError) as raised:
            load(folder)
        message = str(raised.value)
        assert "\n" not in message
        return message

    return damaged


def test_the_official_files(folder: Path) -> None:
    data = load(folder)
    assert (data.name, len(data.train), len(data.evaluation), data.unusable) == ("squad", 30, 30, ())
    first = data.evaluation[0]
    assert (first.id, first.question, first.context) == ("validation-0", " Who, number 0?", CONTEXTS[0])
    assert (first.answers, first.starts) == (("fox", "the fox"), (10, 0))
    assert [question.id for question in data.train[:3]] == ["train-0", "train-21", "train-12"]
    assert load(write_official(folder.parent / "other", ("train.json", "dev.json"))).sha256 == data.sha256


def test_all_sources_give_the_same(tmp_path: Path, folder: Path) -> None:
    parquet = write_parquet(tmp_path / "parquet")
    saved = tmp_path / "saved"
    datasets.load_dataset(str(parquet)).save_to_disk(saved)
    lines = tmp_path / "lines"
    lines.mkdir()
    for split in ("train", "validation"):
        (lines / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows(official(split)))))
    for limits in ({}, {"limit_train": 7}, {"limit_eval": 4}, {"train": False}, {"train": False, "limit_eval": 1}):
        expected = load(folder, **limits)
        for other in (parquet, saved, lines):
            found = load(other, **limits)
            assert (found.train, found.evaluation) == (expected.train, expected.evaluation)
            assert found.sha256 == expected.sha256


def test_limits(folder: Path) -> None:
    whole = load(folder)
    assert load(folder, limit_eval=5).evaluation == whole.evaluation[:5]
    seven, nine = load(folder, limit_train=7).train, load(folder, limit_train=9).train
    assert seven == nine[:7]
    assert seven != whole.train[:7]
    assert len({question.context for question in seven}) == 3
    everything = load(folder, limit_train=100).train
    assert sorted(question.id for question in everything) == sorted(question.id for question in whole.train)
    # whatever order they are in, the same are taken
    document = official("train")
    document["data"].reverse()
    (folder / "train-v1.1.json").write_text(json.dumps(document))
    assert load(folder, limit_train=7).train == seven


def test_the_hash_is_of_what_is_used(folder: Path) -> None:
    found = {load(folder, **limits).sha256 for limits in ({}, {"limit_train": 9}, {"limit_eval": 9}, {"train": False})}
    assert len(found) == 4
    document = official("validation")
    document["data"][2]["paragraphs"][0]["qas"][9]["answers"][1]["text"] += "\ud800"  # JSON may say such a thing
    (folder / "dev-v1.1.json").write_text(json.dumps(document))
    assert load(folder).sha256 not in found
    assert load(folder, limit_eval=9).sha256 in found


def test_an_answer_that_stands_elsewhere_cant_be_learned(folder: Path) -> None:
    document = official("train")
    asked = document["data"][0]["paragraphs"][0]["qas"]
    asked[1]["answers"][0]["answer_start"] += 1
    asked[2]["answers"][0]["answer_start"] -= len(CONTEXTS[0])  # in Python, the right place
    asked[3]["answers"][0]["text"] = ""
    asked[4]["answers"][0]["answer_start"] = 1000
    (folder / "train-v1.1.json").write_text(json.dumps(document))
    data = load(folder)
    assert data.unusable == tuple(entry["id"] for entry in asked[1:5])
    assert [question.id for question in data.train] == [
        row["id"] for row in rows(official("train")) if row["id"] not in data.unusable
    ]
    assert load(folder, limit_train=100).unusable == data.unusable
    for article in document["data"]:
        for entry in article["paragraphs"][0]["qas"]:
            entry["answers"][0]["answer_start"] = 4
    (folder / "train-v1.1.json").write_text(json.dumps(document))
    with pytest.raises(EvaluationError, match="no training question"):
        load(folder)
    assert load(folder, train=False).train == []


def test_only_version_one(folder: Path, damage: Callable[..., str]) -> None:
    def unanswerable(document: dict[str, Any]) -> None:
        document["data"][1]["paragraphs"][0]["qas"][2] |= {"answers": [], "is_impossible": True}

    def impossible(document: dict[str, Any]) -> None:
        document["data"][1]["paragraphs"][0]["qas"][2]["is_impossible"] = True

    for name in ("dev-v1.1.json", "train-v1.1.json"):
        for change in (unanswerable, impossible):
            message = damage(name, change)
            assert message.startswith(str(folder / name))
            assert "article 2, paragraph 1" in message
            assert "SQuAD v1.1 is needed, not 2.0" in message
        (folder / name).write_text(json.dumps(official("train")))


def test_an_id_may_be_there_but_once(damage: Callable[..., str]) -> None:
    message = damage("dev-v1.1.json", lambda document: document["data"].append(document["data"][0]))
    assert "2 evaluation questions with the same id" in message


def test_damaged_questions_are_named_with_their_place(folder: Path, damage: Callable[..., str]) -> None:
    path = folder / "dev-v1.1.json"
    changes: list[tuple[Callable[[dict[str, Any]], object], str]] = [
        (lambda document: document.pop("data"), "'data' is missing or not a list"),
        (lambda document: document.update(data={}), "'data' is missing or not a list"),
        (lambda document: document["data"].insert(1, "x"), "article 2: 'paragraphs' is missing"),
        (lambda document: document["data"][2].update(paragraphs=None), "article 3: 'paragraphs' is missing"),
    ]
    part: list[tuple[Callable[[dict[str, Any]], object], str]] = [
        (lambda paragraph: paragraph.pop("context"), "'context' is missing or not a string"),
        (lambda paragraph: paragraph.update(qas=3), "'qas' is missing or not a list"),
        (lambda paragraph: paragraph["qas"][0].update(id=7), "'id' is missing or not a string"),
        (lambda paragraph: paragraph["qas"][0].update(question=None), "'question' is missing or not a string"),
        (lambda paragraph: paragraph["qas"][1].pop("answers"), "'answers' is missing or not a list"),
        (lambda paragraph: paragraph["qas"][1]["answers"][0].pop("text"), "'text' is missing or not a string"),
        (
            lambda paragraph: paragraph["qas"][1]["answers"][1].update(answer_start="0"),
            "'answer_start' is missing or not a whole number",
        ),
    ]
    for change, complaint in changes:
        assert damage(path.name, change).startswith(f"{path}")
        assert complaint in damage(path.name, change)
    for change, complaint in part:
        message = damage(path.name, lambda document, change=change: change(document["data"][1]["paragraphs"][0]))
        assert message == f"{path}, article 2, paragraph 1: {complaint}"
    assert damage(path.name, lambda document: document.update(data=[])).endswith("no questions in its validation split")
    (folder / path.name).write_text(json.dumps(official("validation")))
    assert damage("train-v1.1.json", lambda document: document.update(data=[])).endswith("in its train split")


def test_files_that_are_no_json(folder: Path) -> None:
    path = folder / "dev-v1.1.json"
    whole = path.read_bytes()
    for content in (b"", whole[:-100], b"\xff" + whole, b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(EvaluationError, match="not sound JSON"):
            load(folder)
    path.unlink()
    path.mkdir()
    with pytest.raises(EvaluationError, match="can't read"):
        load(folder)


def test_folders_without_the_data(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(EvaluationError, match="no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="no folder"):
        load(folder / "dev-v1.1.json")
    (folder / "train-v1.1.json").unlink()
    with pytest.raises(EvaluationError, match=r"no train-v1\.1\.json or train\.json in"):
        load(folder)
    assert len(load(folder, train=False).evaluation) == 30
    for name in ("empty", "texts", "train-only"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "train.txt").write_text("The fox.\n")
    (tmp_path / "train-only" / "train-v1.1.json").write_text(json.dumps(official("train")))
    for name in ("empty", "texts", "train-only"):
        with pytest.raises(EvaluationError, match=r"no dev-v1\.1\.json or dev\.json in .* datasets reads") as raised:
            load(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_other_tables(tmp_path: Path) -> None:
    good = rows(official("validation"))
    damaged = copy.deepcopy(good)
    damaged[4]["answers"]["answer_start"].pop()
    second = copy.deepcopy(good)
    second[3]["answers"] = {"text": [], "answer_start": []}
    gap = copy.deepcopy(good)
    gap[5]["context"] = None
    unnamed = [{"id": row["id"], "question": row["question"], "text": row["context"]} for row in good]
    flat = [row | {"answers": row["answers"]["text"]} for row in good]
    for name, table, complaint in (
        ("uneven", damaged, "row 5: 2 answers, but 1 starts of answers"),
        ("second", second, "row 4: question 'validation-3' has no answer; SQuAD v1.1 is needed"),
        ("gap", gap, "row 6: 'context' is missing or not a string"),
        ("unnamed", unnamed, "no column context or answers"),
        ("flat", flat, "row 1: 'answers' is missing or not an object"),
    ):
        folder = write_dataset(tmp_path / name, {"default": {"validation": table}})
        with pytest.raises(EvaluationError) as raised:
            load(folder, train=False)
        assert complaint in str(raised.value)
        assert f"{folder}, validation split" in str(raised.value)


def test_saved_folders_that_lack_something(tmp_path: Path) -> None:
    both = datasets.load_dataset(str(write_parquet(tmp_path / "parquet")))
    saved = tmp_path / "saved"
    both.save_to_disk(saved)
    [arrow] = (saved / "validation").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:500])
    single = tmp_path / "single"
    both["validation"].save_to_disk(single)
    del both["train"]
    both.save_to_disk(tmp_path / "lacking")
    for folder in (saved, single, tmp_path / "lacking"):
        with pytest.raises(EvaluationError, match=r"no dev-v1\.1\.json .* train and validation splits") as raised:
            load(folder)
        assert "\n" not in str(raised.value)
    assert len(load(tmp_path / "lacking", train=False).evaluation) == 30


def test_through_the_hub(hub: Hub, online: Client, tmp_path: Path, folder: Path) -> None:
    script = """
import sys
from orientc.errors import EvaluationError
from orientc.evaluation.squad.data import load
try:
    data = load(None, train=sys.argv[1] == "train", limit_train=7)
    print(data.name, len(data.train), len(data.evaluation), data.sha256)
except EvaluationError as error:
    print(error)
"""

    def run(what: str, offline: bool = False) -> str:
        done = online.python(script, what, offline=offline)
        assert (done.code, done.err) == (0, "")
        return done.out.strip()

    complaint = run("evaluation")
    assert complaint.startswith(f"can't load {REPOSITORY} through the hub")
    assert complaint.endswith("with `data`")
    hub.publish(REPOSITORY, write_parquet(tmp_path / "published"), kind="datasets")
    alone = run("evaluation")
    assert alone == f"{REPOSITORY} 0 30 {load(folder, train=False).sha256}"
    assert hub.downloads(REPOSITORY, "datasets") == {"plain_text/validation-00000-of-00001.parquet"}
    both = run("train")
    assert both == f"{REPOSITORY} 7 30 {load(folder, limit_train=7).sha256}"
    asked = len(hub.log)
    assert [run(what, offline=True) for what in ("evaluation", "train")] == [alone, both]
    assert len(hub.log) == asked


@pytest.mark.assets
def test_real_data(assets: Path, tmp_path: Path) -> None:
    data = load(assets / "squad")
    assert (len(data.train), len(data.evaluation), data.unusable) == (87_599, 10_570, ())
    assert sum(len(question.answers) for question in data.evaluation) > 30_000
    thousand = load(assets / "squad", limit_train=1000, limit_eval=50)
    assert thousand.evaluation == data.evaluation[:50]
    assert len({question.context for question in thousand.train}) > 900
    table = datasets.Dataset.from_list(rows(json.loads((assets / "squad" / "dev-v1.1.json").read_text())))
    datasets.DatasetDict(validation=table).save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved", train=False).evaluation == data.evaluation
