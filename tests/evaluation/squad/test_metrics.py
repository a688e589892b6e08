"""The official figures of SQuAD v1.1: by hand, against a plain second version, and on the real answers."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

import pytest

from orientc.errors import EvaluationError
from orientc.evaluation.squad.metrics import differences, normalized, read_predictions, score


@pytest.mark.parametrize(
    ("answers", "predicted", "exact_match", "f1"),
    [
        (["The Denver Broncos"], "denver  broncos!", 100, 100),
        (["Denver Broncos"], "Carolina Panthers", 0, 0),
        (["New York City"], "York City Hall", 0, 200 / 3),
        (["1973", "October 1973"], "in October 1973", 0, 80),
        (["ha ha ha"], "Ha, ha", 0, 80),
        (["the cat and a dog"], "An cat and dog", 100, 100),
        (["another theory"], "other theory", 0, 50),
        (["12 a.m."], "12 AM", 100, 100),
        (["an-other"], "another", 100, 100),
        # each figure takes the answer that is best for it
        ([".", "oil crisis"], "", 100, 0),
        # nothing is left to compare: equal, but no word in common
        (["The"], "a", 100, 0),
        (["the"], "cat", 0, 0),
        (["cat"], "", 0, 0),
        # punctuation is ASCII's alone
        (["Arab–Israeli"], "Arab-Israeli", 0, 0),
        (["“oil shock”"], '"oil shock"', 0, 0),
        (["1，000"], "1,000", 0, 0),
        (["l’a"], "l’the", 100, 100),
        # what Python takes for upper case, blanks and words
        (["ＡＢＣ"], "ａｂｃ", 100, 100),
        (["ＡＢＣ"], "abc", 0, 0),
        (["United\u00a0States"], "united\u2003states", 100, 100),
        (["Straße"], "STRASSE", 0, 0),
        (["éa"], "é", 0, 0),
        # an underscore is punctuation, and gone before words are looked for
        (["snake_case"], "snakecase", 100, 100),
        (["the_end"], "end", 0, 0),
        (["___the___"], "a", 100, 0),
    ],
)
def test_by_hand(answers: list[str], predicted: str, exact_match: float, f1: float) -> None:
    assert score({"q": answers}, {"q": predicted}) == pytest.approx({"exact_match": exact_match, "f1": f1})


def test_a_missing_prediction_is_wrong_and_an_extra_one_nothing() -> None:
    golds = {"one": ["yes"], "two": ["no"], "three": ["maybe not"], "four": ["never"]}
    predictions = {"one": "yes", "three": "maybe", "five": "yes", "six": "yes", "seven": "yes"}
    assert score(golds, predictions) == pytest.approx({"exact_match": 25, "f1": (100 + 200 / 3) / 4})
    assert differences(golds, predictions) == (2, 3)
    assert differences(golds, golds) == (0, 0)
    assert score(golds, {}) == {"exact_match": 0, "f1": 0}
    with pytest.raises(EvaluationError, match="no questions"):
        score({}, predictions)


def plain_normalized(text: str) -> str:
    runs: list[str] = []
    for character in text.lower():
        if character in string.punctuation:
            continue
        if runs and runs[-1][-1].isalnum() == character.isalnum():
            runs[-1] += character
        else:
            runs.append(character)
    return " ".join("".join(" " if run in ("a", "an", "the") else run for run in runs).split())


def plain_f1(predicted: list[str], wanted: list[str]) -> float:
    left = list(wanted)
    for word in predicted:
        if word in left:
            left.remove(word)
    shared = len(wanted) - len(left)
    return 2 * shared / (len(predicted) + len(wanted)) if shared else 0.0


def test_against_a_plain_version_on_random_strings() -> None:
    rng = random.Random(0)
    pieces = [*"aAnTtheb1 _-.,’“éａ１ \u00a0\t\u0301²İ", "the ", " an ", " A", "cat ", " dog"]
    golds = {
        str(number): ["".join(rng.choices(pieces, k=rng.randint(0, 9))) for _ in range(rng.randint(1, 4))]
        for number in range(3000)
    }
    predictions = {
        id: rng.choice(answers)[rng.randint(0, 2) :] + rng.choice(pieces) if rng.random() < 0.9 else rng.choice(pieces)
        for id, answers in golds.items()
    }
    exact = f1 = 0.0
    for id, answers in golds.items():
        wanted = [plain_normalized(answer) for answer in answers]
        predicted = plain_normalized(predictions[id])
        assert [normalized(answer) for answer in answers] == wanted
        exact += max(predicted == answer for answer in wanted)
        f1 += max(plain_f1(predicted.split(), answer.split()) for answer in wanted)
    assert 0.2 < f1 / 3000 < 0.9
    assert score(golds, predictions) == pytest.approx({"exact_match": exact / 30, "f1": f1 / 30}, rel=1e-12)


def test_predictions_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    predictions = {"56be4db0acb8001400a502ec": "Zürich “Ａ”\n", "x": "", "": " the "}
    for ascii_only in (True, False):
        path.write_text(json.dumps(predictions, ensure_ascii=ascii_only), encoding="utf-8")
        assert read_predictions(path) == predictions
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(predictions).encode())
    assert read_predictions(path) == predictions


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not sound JSON"),
        (b"q\tanswer\n", "not sound JSON"),
        (b'{"q": "yes"', "not sound JSON"),
        (b'{"q": "\xff"}', "not sound JSON"),
        (b"[" * 100_000, "not sound JSON"),
        (b'{"q": "yes", "q": "no"}', "'q' is there twice"),
        (b'["yes"]', "not a predictions file"),
        (b"null", "not a predictions file"),
        (b'{"q": 1}', "'q' is not a string"),
        (b'{"p": "yes", "q": null}', "'q' is not a string"),
        (b'{"q": NaN}', "'q' is not a string"),
        (b'{"q": ["yes"]}', "'q' is not a string"),
    ],
)
def test_anything_else_is_no_predictions_file(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "predictions.json"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=complaint) as raised:
        read_predictions(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_predictions_file_that_cant_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(EvaluationError, match="can't read"):
            read_predictions(path)


@pytest.mark.assets
def test_every_gold_answer_of_the_dev_set_is_right(assets: Path) -> None:
    document = json.loads((assets / "squad" / "dev-v1.1.json").read_text())
    asked = [qa for article in document["data"] for part in article["paragraphs"] for qa in part["qas"]]
    golds = {qa["id"]: [answer["text"] for answer in qa["answers"]] for qa in asked}
    assert len(golds) == 10_570
    first = {id: answers[0] for id, answers in golds.items()}
    assert score(golds, first) == {"exact_match": 100, "f1": 100}
    # three questions have "." among their answers: equal to nothing at all, yet sharing no word with it
    empty = [id for id, answers in golds.items() if not all(map(normalized, answers))]
    assert len(empty) == 3
    nothing = score(golds, dict.fromkeys(golds, ""))
    assert nothing == pytest.approx({"exact_match": 300 / 10_570, "f1": 0})
