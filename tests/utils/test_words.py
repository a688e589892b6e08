"""The words on screen are explained where they stand, in one wording."""

from __future__ import annotations

import pytest
from support.readme import ROOT
from support.words import unexplained

from orientc.storage.sizes import INPUT_ONLY, POLICIES, TIED
from orientc.utils.words import WORDS, explained, glossary


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("svd r4, tied", ["tied"]),
        ("ppl input-only", ["input-only"]),
        ("model MB head-only", ["head-only"]),
        ("untied, or none", []),
        ("rank 4 of a table", []),
        ("a-tied-model runs/tied/x", []),
        ("predicted loss", ["predicted loss"]),
    ],
)
def test_a_text_is_explained_by_the_words_in_it(text: str, names: list[str]) -> None:
    assert explained(text) == tuple(f"{name}: {WORDS[name].meaning}" for name in names)
    assert unexplained(text) == names
    assert unexplained("\n".join([text, *explained(text)])) == []


def test_each_word_is_explained_once_and_in_the_order_of_the_glossary() -> None:
    assert [line.partition(":")[0] for line in explained("ppl tied", "ppl input-only", "ppl tied")] == [
        TIED,
        INPUT_ONLY,
    ]


def test_the_words_that_the_project_chose_are_among_them() -> None:
    assert {*POLICIES, "predicted loss", "row groups"} == {name for name, word in WORDS.items() if not word.familiar}


def test_the_readme_has_the_glossary() -> None:
    assert glossary() in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(glossary().splitlines()) == 13
