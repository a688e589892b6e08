from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from support.data import SENTENCES
from support.hub import write_dataset

from orientc.errors import EvaluationError, UsageError
from orientc.evaluation import texts
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set in a folder, with two splits and a column that is no text."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = {
        "train": [{"review": line, "stars": 5, "title": " "} for line in SENTENCES[:4]],
        "test": [{"review": f"{line}\n", "stars": 1, "title": " "} for line in SENTENCES[4:6]],
    }
    return str(write_dataset(tmp_path / "reviews", {"plain": rows}))


def test_a_column_of_a_data_set_is_a_text_with_a_row_a_line(reviews: str) -> None:
    train = texts.from_dataset(f"{reviews}:plain", "review")
    assert (train.name, train.content) == ("reviews/plain/train", "\n".join(SENTENCES[:4]) + "\n")
    for named in (f"{reviews}:plain:test", f"{reviews}::test"):
        assert texts.from_dataset(named, "review").content == "\n".join(SENTENCES[4:6]) + "\n"


@pytest.mark.parametrize(
    ("options", "column", "named"),
    [
        ("", "text", 'no column "text", choose another with `column`: review, stars, title'),
        ("", "stars", "is not text"),
        ("", "title", "no text in it"),
        ("::dev", "review", "can't load"),
        (":fancy", "review", "can't load"),
        ("-and-more", "review", "can't load"),
    ],
)
def test_what_has_no_text_is_refused_in_one_line(reviews: str, options: str, column: str, named: str) -> None:
    with pytest.raises(EvaluationError, match=named) as caught:
        texts.from_dataset(reviews + options, column)
    assert "\n" not in str(caught.value)


def test_the_default_text_is_the_demos_own_or_wikitext(monkeypatch: pytest.MonkeyPatch, bert_folder: Path) -> None:
    """And never the one that is scored, for a calibration."""
    monkeypatch.setattr(texts, "wikitext", lambda split: Text(split, "words"))
    demo, model = ModelSource.resolve("demo"), ModelSource.resolve(str(bert_folder))
    assert [texts.scored_text(source).name for source in (demo, model)] == ["python-language-reference", "test"]
    assert [texts.default_calibration_text(source).name for source in (demo, model)] == [
        "python-docstrings",
        "validation",
    ]


def test_a_text_that_is_named_comes_before_the_default(reviews: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("some words")
    demo, mine = ModelSource.resolve("demo"), Text("mine.txt", "some words")
    for given in (mine, tmp_path / "mine.txt", str(tmp_path / "mine.txt")):
        assert texts.scored_text(demo, given) == mine
    assert texts.scored_text(demo, dataset=f"{reviews}::test", column="review").name == "reviews/test"
    with pytest.raises(UsageError, match="`text` and `dataset` both"):
        texts.scored_text(demo, mine, reviews)
    with pytest.raises(UsageError, match="`column` is one of a data set"):
        texts.scored_text(demo, mine, column="review")
