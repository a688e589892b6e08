"""GLUE's own TSV files: the true form of each of the nine tasks, their quirks, and what damaged files end with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orientc.errors import EvaluationError
from orientc.evaluation.glue import tsv
from orientc.evaluation.glue.tasks import TASKS

BOM = "\ufeff"
PARSES = ["sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"]
MNLI = ["index", "promptID", "pairID", "genre", *PARSES, "sentence1", "sentence2"]
STSB = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"]
QQP = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
BEFORE = ["7", "31193", "31193n", "government", "( a )", "( b )", "(ROOT a)", "(ROOT b)"]  # MNLI's first eight cells
CAPTION = ["main-captions", "MSRvid", "2012test", "0000", "none", "none"]


def table(*rows: Sequence[str], end: str = "\n") -> str:
    return end.join("\t".join(row) for row in rows) + end


def read(path: Path, task: str, content: str | bytes, *, test: bool = False) -> tsv.Rows:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tsv.read(path, TASKS[task], test=test)


def refusal(path: Path, task: str, content: str | bytes, *, test: bool = False) -> str:
    """The one line that reading this ends with, after the file's name."""
    with pytest.raises(EvaluationError) as raised:
        read(path, task, content, test=test)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.tsv"


TRUE_FORMS: list[tuple[str, str, list[dict[str, Any]]]] = [
    (
        "cola",
        "gj04\t1\t\tThe sailors rode the breeze.\ngj04\t0\t*\tThe sailors rode clear the.",  # nothing after the last
        [
            {"sentence": "The sailors rode the breeze.", "label": 1},
            {"sentence": "The sailors rode clear the.", "label": 0},
        ],
    ),
    (
        "sst2",
        table(["sentence", "label"], ["a charming journey . ", "1"]),
        [{"sentence": "a charming journey . ", "label": 1}],
    ),
    (
        "mrpc",
        BOM
        + table(
            ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
            ["1", "1355540", "1355592", "He said it doesn 't fit .", '" It does not fit .'],
            ["0", "2029631", "2029565", '" A "', "B"],
            end="\r\n",
        ),
        [
            {"sentence1": "He said it doesn 't fit .", "sentence2": '" It does not fit .', "label": 1},
            {"sentence1": '" A "', "sentence2": "B", "label": 0},
        ],
    ),
    (
        "stsb",
        table([*STSB, "score"], ["0", *CAPTION, '"A man', "A man in a hat.", "3.800"], ["1", *CAPTION, "a", "b", "0"]),
        [
            {"sentence1": '"A man', "sentence2": "A man in a hat.", "label": 3.8},
            {"sentence1": "a", "sentence2": "b", "label": 0.0},
        ],
    ),
    (
        "qqp",
        table(QQP, ["133273", "213221", "213222", "How?", "Why?", "0"], ["1", "2", "3", "", "Why not?", "1"]),
        [
            {"question1": "How?", "question2": "Why?", "label": 0},
            {"question1": "", "question2": "Why not?", "label": 1},
        ],
    ),
    (
        "mnli",
        table([*MNLI, "label1", "gold_label"], [*BEFORE, "P.", "H.", "neutral", "contradiction"]),
        [{"premise": "P.", "hypothesis": "H.", "label": 2}],
    ),
    (
        "mnli",
        table(
            [*MNLI, *(f"label{number}" for number in range(1, 6)), "gold_label"],
            [*BEFORE, "P.", "H.", "contradiction", "entailment", "entailment", "neutral", "entailment", "entailment"],
            [*BEFORE, "Q.", "I.", "entailment", "neutral", "entailment", "neutral", "neutral", "neutral"],
        ),
        [{"premise": "P.", "hypothesis": "H.", "label": 0}, {"premise": "Q.", "hypothesis": "I.", "label": 1}],
    ),
    (
        "qnli",
        table(
            ["index", "question", "sentence", "label"],
            ["5", "Who?", "He.", "entailment"],
            ["9", "W?", "H.", "not_entailment"],
        ),
        [{"question": "Who?", "sentence": "He.", "label": 0}, {"question": "W?", "sentence": "H.", "label": 1}],
    ),
    (
        "rte",
        table(
            ["index", "sentence1", "sentence2", "label"],
            ["0", "a", "b", "not_entailment"],
            ["1", "c", "d", "entailment"],
        ),
        [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "d", "label": 0}],
    ),
    (
        "wnli",
        table(["index", "sentence1", "sentence2", "label"], ["0", "a", "b", "1"], ["1", "c", "d", "0"]),
        [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "d", "label": 0}],
    ),
]


@pytest.mark.parametrize(("task", "content", "rows"), TRUE_FORMS)
def test_each_task_is_read_in_its_true_form(path: Path, task: str, content: str, rows: list[dict[str, Any]]) -> None:
    found = read(path, task, content)

    assert found.rows == [row | {"idx": number} for number, row in enumerate(rows)]
    assert [type(row["label"]) for row in found.rows] == [float if task == "stsb" else int] * len(rows)
    assert found.unusable == []


@pytest.mark.parametrize(
    ("task", "header", "row", "texts"),
    [
        ("cola", ["index", "sentence"], ["12", "Bill left."], ["Bill left."]),
        ("sst2", ["index", "sentence"], ["12", "uneasy ."], ["uneasy ."]),
        ("mrpc", ["index", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["12", "1", "2", "a", '"b'], ["a", '"b']),
        ("stsb", STSB, ["12", *CAPTION, "a", "b"], ["a", "b"]),
        ("qqp", ["id", "question1", "question2"], ["12", "a?", "b?"], ["a?", "b?"]),
        ("mnli", MNLI, ["12", *BEFORE[1:], "P.", "H."], ["P.", "H."]),
        ("mnli", ["index", "sentence1", "sentence2"], ["12", "P.", "H."], ["P.", "H."]),  # the diagnostic set
        ("qnli", ["index", "question", "sentence"], ["12", "Who?", "He."], ["Who?", "He."]),
        ("rte", ["index", "sentence1", "sentence2"], ["12", "a", "b"], ["a", "b"]),
        ("wnli", ["index", "sentence1", "sentence2"], ["12", "a", "b"], ["a", "b"]),
    ],
)
def test_test_files_keep_their_index_and_have_no_label(
    path: Path, task: str, header: list[str], row: list[str], texts: list[str]
) -> None:
    (found,) = read(path, task, table(header, row), test=True).rows

    assert found == dict(zip(TASKS[task].texts, texts, strict=True)) | {"label": -1, "idx": 12}


def test_columns_go_by_their_names_and_more_of_them_do_no_harm(path: Path) -> None:
    content = table(["label", "extra", "sentence"], ["1", "x", "good", "and", "more"], ["0", "x", "bad"])

    assert read(path, "sst2", content).rows == [
        {"sentence": "good", "label": 1, "idx": 0},
        {"sentence": "bad", "label": 0, "idx": 1},
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_at_line_feeds_alone(path: Path, end: str) -> None:
    sentences = ["one\u2028two", "three\u0085four", "five\u2029six\x0b\x0c\x1cseven", "eight\rnine"]
    content = table(["sentence", "label"], *([sentence, "1"] for sentence in sentences), end=end)

    assert [row["sentence"] for row in read(path, "sst2", BOM + content).rows] == sentences


def test_an_empty_line_is_no_row_and_only_the_last_carriage_return_goes(path: Path) -> None:
    content = "sentence\tlabel\r\n\r\ngood\t1\r\n\nbad\r\t0\r\n\n\n"

    assert read(path, "sst2", content).rows == [
        {"sentence": "good", "label": 1, "idx": 0},
        {"sentence": "bad\r", "label": 0, "idx": 1},
    ]


def test_labels_are_words_or_ids_in_every_task(path: Path) -> None:
    for task in TASKS.values():
        for number, word in enumerate(task.labels):
            assert tsv.parse_label(task, word) == tsv.parse_label(task, str(number)) == number
        for wrong in ("-1", "", " 1", "1.0", "01", str(len(task.labels)), "Entailment", "-"):
            assert tsv.parse_label(task, wrong) is None or task.name == "stsb"
    for score in ("0", "5", "5.000", "2.25"):
        assert tsv.parse_label(TASKS["stsb"], score) == float(score)
    for wrong in ("-0.1", "5.001", "nan", "inf", "", "high"):
        assert tsv.parse_label(TASKS["stsb"], wrong) is None


def test_qqp_rows_may_be_short(path: Path) -> None:
    whole = ["1", "2", "3", "How?", "Why?", "1"]
    content = table(
        QQP, whole, ["4", "5", "6", "What if a question"], ["goes on here?"], whole, ["4", "5", "6", "a", "b"]
    )

    found = read(path, "qqp", content)

    assert [row["idx"] for row in found.rows] == [0, 3]
    assert found.unusable == [f"{path}, lines 3, 4, 6: too few columns, left out"]


def test_a_short_test_row_of_qqp_still_gets_an_answer(path: Path) -> None:
    content = table(["id", "question1", "question2"], ["0", "a?", "b?"], ["1", "c?"], ["2"])

    found = read(path, "qqp", content, test=True)

    assert found.rows == [
        {"question1": "a?", "question2": "b?", "label": -1, "idx": 0},
        {"question1": "c?", "question2": "", "label": -1, "idx": 1},
        {"question1": "", "question2": "", "label": -1, "idx": 2},
    ]
    assert found.unusable == [f"{path}, lines 3, 4: too few columns, kept with the missing sentence empty"]


def test_not_every_line_number_is_named(path: Path) -> None:
    whole = ["1", "2", "3", "How?", "Why?", "1"]

    assert read(path, "qqp", table(QQP, whole, ["1"])).unusable == [f"{path}, line 3: too few columns, left out"]
    (line,) = read(path, "qqp", table(QQP, whole, *[["1"]] * 300)).unusable
    assert line.endswith(", lines 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 290 more: too few columns, left out")


HEADER = table(["sentence", "label"])


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("sst2", "", " is empty"),
        ("sst2", "\n\r\n", " is empty"),
        ("sst2", BOM, " is empty"),
        ("cola", "\n", " has no rows"),
        ("sst2", HEADER, " has no rows"),
        ("qqp", table(QQP, ["1", "2"]), " has no rows"),
        ("sst2", HEADER + "good\t1\nbad\n", ", line 3: 1 columns, where SST-2 needs 2; is the file whole?"),
        ("cola", "gj04\t1\t\ta\n\ngj04\t1\n", ", line 3: 2 columns, where CoLA needs 4; is the file whole?"),
        ("sst2", HEADER + "good\t2\n", ", line 2: label '2', where SST-2 has negative (0), positive (1)"),
        ("cola", "gj04\t\t\ta\n", ", line 1: label '', where CoLA has unacceptable (0), acceptable (1)"),
        (
            "mnli",
            table([*MNLI, "label1", "gold_label"], [*BEFORE, "P.", "H.", "neutral", "-"]),
            ", line 2: label '-', where MNLI has entailment (0), neutral (1), contradiction (2)",
        ),
        (
            "stsb",
            table([*STSB, "score"], ["0", *CAPTION, "a", "b", "5.2"]),
            ", line 2: label '5.2', where STS-B has scores from 0 to 5",
        ),
        ("mrpc", HEADER + "good\t1\n", ' has no column "#1 String", which MRPC has there; is it another task\'s?'),
        ("sst2", "sentence\na\n", ' has no column "label", which SST-2 has there; is it another task\'s?'),
        ("sst2", HEADER.encode() + b"good\t1\ncaf\xe9\t0\n", ", line 3 is not UTF-8 text"),
        ("sst2", b"\xef\xbb\xbf\xff", ", line 1 is not UTF-8 text"),
        ("sst2", HEADER.encode("utf-16"), ", line 1 is not UTF-8 text"),
    ],
)
def test_a_damaged_or_foreign_file_gets_one_line(path: Path, task: str, content: str | bytes, message: str) -> None:
    assert refusal(path, task, content) == message


@pytest.mark.parametrize("index", ["", "-1", "x", "1.5", "²", "9" * 19])
def test_a_test_row_without_an_index_is_refused(path: Path, index: str) -> None:
    content = table(["index", "sentence"], ["0", "a"], [index, "b"])

    assert refusal(path, "sst2", content, test=True) == f", line 3: index {index!r} is no number"


def test_a_training_file_is_no_test_file(path: Path) -> None:
    told = ' has no column "index", which SST-2 has there; is it another task\'s?'
    assert refusal(path, "sst2", HEADER + "good\t1\n", test=True) == told


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"^can't read .*file\.tsv: No such file or directory$"):
        tsv.read(path, TASKS["sst2"], test=False)


COUNTS = {
    "SST-2": (67349, 872, 1821),
    "CoLA": (8551, 1043, 1063),
    "MRPC": (3668, 408, 1725),
    "STS-B": (5749, 1500, 1379),
}


@pytest.mark.assets
@pytest.mark.parametrize("name", COUNTS)
def test_the_real_files_have_the_rows_they_should(assets: Path, name: str) -> None:
    (task,) = [task for task in TASKS.values() if task.folder == name]
    read = [
        tsv.read(assets / "glue" / name / f"{file}.tsv", task, test=file == "test") for file in ("train", "dev", "test")
    ]

    assert tuple(len(found.rows) for found in read) == COUNTS[name]
    assert [row["idx"] for row in read[2].rows] == list(range(COUNTS[name][2]))
    assert not any(found.unusable for found in read)
