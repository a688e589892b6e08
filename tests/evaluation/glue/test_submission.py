"""The files for GLUE's server."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy
import pytest

from orientc.errors import EvaluationError, OutputError
from orientc.evaluation.glue import submission
from orientc.evaluation.glue.tasks import TASKS

STEMS = ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI"]


def predictions(folder: Path, stem: str, *values: float) -> list[str]:
    """What the file has for these predictions."""
    (path,) = submission.write(folder, {stem: (range(len(values)), values)})
    assert path == folder / f"{stem}.tsv"
    header, *rows = path.read_bytes().decode().split("\n")
    assert header == "index\tprediction"
    assert rows.pop() == ""
    cells = [row.split("\t") for row in rows]
    assert [index for index, _ in cells] == [str(number) for number in range(len(values))]
    return [value for _, value in cells]


def test_stems_are_the_servers_names() -> None:
    assert [submission.stem(task, split) for task in TASKS.values() for split in task.splits] == STEMS


@pytest.mark.parametrize("stem", ["CoLA", "SST-2", "MRPC", "QQP", "WNLI"])
def test_these_are_answered_in_ids(tmp_path: Path, stem: str) -> None:
    assert predictions(tmp_path, stem, 0, 1) == ["0", "1"]


@pytest.mark.parametrize("stem", ["QNLI", "RTE"])
def test_entailment_is_answered_in_words(tmp_path: Path, stem: str) -> None:
    assert predictions(tmp_path, stem, 0, 1) == ["entailment", "not_entailment"]


@pytest.mark.parametrize("stem", ["MNLI-m", "MNLI-mm", "AX"])
def test_inference_is_answered_in_words(tmp_path: Path, stem: str) -> None:
    assert predictions(tmp_path, stem, 2, 0, 1) == ["contradiction", "entailment", "neutral"]


def test_scores_are_cut_to_their_range(tmp_path: Path) -> None:
    scores = (-0.4, -0.0, 0.00049, 3.14159, 5, 5.0001, math.inf)
    assert predictions(tmp_path, "STS-B", *scores) == ["0.000", "0.000", "0.000", "3.142", "5.000", "5.000", "5.000"]


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"^STS-B can't be submitted: .* not a number$"):
        submission.write(tmp_path, {"STS-B": ([0], [math.nan])})
    assert list(tmp_path.iterdir()) == []


def test_indices_are_the_rows_own_and_arrays_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    answers = {"RTE": (numpy.array([7, 3]), numpy.array([1, 0])), "STS-B": ([2], numpy.array([1.5], "float32"))}

    paths = submission.write(folder, answers)

    assert [path.name for path in paths] == ["RTE.tsv", "STS-B.tsv"]
    assert paths[0].read_text() == "index\tprediction\n7\tnot_entailment\n3\tentailment\n"
    assert paths[1].read_text() == "index\tprediction\n2\t1.500\n"
    assert sorted(folder.iterdir()) == paths


def test_a_file_is_known_by_its_hash_and_a_missing_one_by_none(tmp_path: Path) -> None:
    (path,) = submission.write(tmp_path, {"MNLI-m": ([0], [0])})
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert submission.sha256s(tmp_path, ["MNLI-m", "MNLI-mm"]) == {"MNLI-m": sha256, "MNLI-mm": None}
    assert submission.sha256s(tmp_path / "nowhere", ["RTE"]) == {"RTE": None}


def test_a_folder_that_can_not_be_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't write"):
        submission.write(tmp_path / "file", {"RTE": ([0], [0])})
