from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import Dataset

from orientc.errors import EvaluationError, UsageError
from orientc.evaluation import texts
from orientc.evaluation.pairs import canonical, languages_of, parse
from orientc.models.source import ModelSource

WANTED = [("a house", "ein Haus"), ('two\u2028lines "here"', "zwei Zeilen, [hier]")]
BY_NAME = [{"en": en, "de": de} for en, de in WANTED]


def lines(values: list[object]) -> str:
    return "\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        "".join(f"{source}\t{target}\r\n" for source, target in WANTED) + "\n",
        lines([list(pair) for pair in WANTED]),
        lines([*BY_NAME]),
        lines([{"id": 1, "translation": values} for values in BY_NAME]),
    ],
)
def test_every_form_gives_the_same_pairs_in_one_form(content: str) -> None:
    made = canonical("some", content)
    assert parse("some", content) == parse("some", made) == WANTED
    assert len(made.splitlines()) == len(WANTED)
    assert canonical("some", made) == made


def test_names_choose_the_two_and_their_direction() -> None:
    three = lines([{**values, "fr": "une"} for values in BY_NAME])
    assert parse("some", three, ("de", "en")) == [(target, source) for source, target in WANTED]
    with pytest.raises(EvaluationError, match="some, line 1: say with `languages` which two are meant of en, de, fr"):
        parse("some", three)
    with pytest.raises(EvaluationError, match="line 1: there is no it among en, de, fr"):
        parse("some", three, ("en", "it"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a\tb\n\none text\n", "line 3: it has 1 columns, not two"),
        ("a\tb\tc\n", "line 1: it has 3 columns"),
        ('["a", "b"]\nnothing', "line 2: it is not JSON"),
        ('["a", 3]', "line 1: these are not two texts"),
        ('["a"]', "line 1: these are not two texts"),
        ('{"translation": {"en": "a"}}', "line 1: say with"),
    ],
)
def test_what_is_no_pair_is_told_by_its_line(content: str, reason: str) -> None:
    with pytest.raises(EvaluationError, match=f"some, {reason}"):
        parse("some", content)


@pytest.mark.parametrize("named", ["en", "en,", "en,de,fr", "en,en", ","])
def test_languages_are_two(named: str) -> None:
    with pytest.raises(UsageError, match="`languages` takes the source's and the target's name"):
        languages_of(named)


def test_data_sets_have_pairs_as_translations_or_as_columns(t5_folder: Path, tmp_path: Path) -> None:
    source = ModelSource.resolve(t5_folder)
    kinds = {
        "translations": Dataset.from_dict({"id": [1, 2], "translation": BY_NAME}),
        "columns": Dataset.from_dict({"id": [1, 2], "en": [en for en, _ in WANTED], "de": [de for _, de in WANTED]}),
    }
    for name, rows in kinds.items():
        rows.to_parquet(tmp_path / name / "test.parquet")
        found = texts.scored_text(source, dataset=f"{tmp_path / name}::test", languages="de,en")
        assert parse("", found.content) == [(target, source) for source, target in WANTED]
        assert found.name == f"{name}/test"
        found = texts.scored_text(source, dataset=f"{tmp_path / name}::test")
        assert found.content == canonical("", lines(BY_NAME))
    with pytest.raises(EvaluationError, match='no column "other"'):
        texts.scored_text(source, dataset=f"{tmp_path / name}::test", column="other")


def test_an_encoder_decoder_has_no_text_by_default(t5_folder: Path) -> None:
    with pytest.raises(EvaluationError, match=r"encoder-decoder, which is measured on pairs.*`text`"):
        texts.scored_text(ModelSource.resolve(t5_folder))
