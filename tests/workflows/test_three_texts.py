"""Three texts that never overlap."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.data import SENTENCES

from orientc.errors import EvaluationError
from orientc.evaluation.texts import Text
from orientc.models import hub
from orientc.models.source import ModelSource
from orientc.utils.progress import Progress
from orientc.workflows.three_texts import PARTS, calibration_text, split, three_texts

LINES = [
    f"This is line number {number} of a text that is long enough to be told from another." for number in range(900)
]


def lines_of(text: Text) -> list[str]:
    return [line for line in text.content.splitlines() if line.strip()]


@pytest.mark.parametrize("seed", range(3))
def test_a_text_is_split_in_parts_of_like_size_that_share_no_line(seed: int) -> None:
    parts = split(Text("t", "\n".join(LINES)), PARTS, seed)
    found = [lines_of(part) for part in parts]
    assert sorted(line for part in found for line in part) == sorted(LINES)
    assert all(250 < len(part) < 350 for part in found)
    assert [part.name for part in parts] == ["t/calibration", "t/search", "t/verdict"]
    for part in found:  # from all over the text, in its order
        places = [LINES.index(line) for line in part]
        assert places == sorted(places)
        assert max(places) - min(places) > 800


def test_other_seeds_split_otherwise_and_the_same_alike() -> None:
    text = Text("t", "\n".join(LINES))
    assert split(text, PARTS, 0) == split(text, PARTS, 0)
    assert split(text, PARTS, 0)[1] != split(text, PARTS, 1)[1]


def test_a_line_that_comes_again_stays_in_one_part() -> None:
    """But for headings and brackets, which say nothing."""
    text = Text("t", "\n".join(line for number in range(300) for line in (LINES[number % 7], LINES[number], "}")))
    found = [set(lines_of(part)) for part in split(text, PARTS, 0)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert found[one] & found[other] <= {"}"}


@pytest.mark.parametrize("content", ["one line\n", "\n\n\n", "one\ntwo\n"])
def test_what_is_too_short_is_refused(content: str) -> None:
    with pytest.raises(EvaluationError, match="split"):
        split(Text("short", content), PARTS, 0)


def test_a_file_is_split(tmp_path: Path, bert_folder: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("\n".join(SENTENCES))
    found = three_texts(ModelSource.resolve(bert_folder), path, 0, Progress())
    assert found.search.name == "own.txt/search"


def test_without_a_hub_it_is_pythons_own_texts_and_that_is_said(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: object, **__: object) -> None:
        time.sleep(30)

    source = ModelSource.resolve(bert_folder)
    assert source.config.model_type == "bert"  # read before there is no hub any more
    monkeypatch.setattr(hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub, "get_session", hang)  # as a name server that does not answer
    monkeypatch.setattr("orientc.evaluation.texts.wikitext_at_hand", lambda: False)
    told: list[str] = []
    start = time.monotonic()
    assert not hub.answers(within=0.2)
    assert time.monotonic() - start < 2
    monkeypatch.setattr(hub, "answers", lambda: False)
    found = three_texts(source, None, 0, Progress(warn=told.append))
    assert found.calibration.name == "python-docstrings"
    shared = set(lines_of(found.search)) & set(lines_of(found.verdict))
    assert all(len(line) < 40 for line in shared)
    assert not set(lines_of(found.calibration)) & (set(lines_of(found.search)) | set(lines_of(found.verdict)))
    [line] = told
    assert "docstrings" in line
    assert "language reference" in line
    assert "other languages" in line
    told.clear()
    assert calibration_text(source, None, Progress(warn=told.append)) == found.calibration
    assert "language reference" not in told[0]
