"""`squad` from Python: what it takes, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import Ended
from support.data import squad_questions

from orientc.errors import UsageError
from orientc.evaluation.squad.squad import SquadResult, SquadScore, squad


def test_the_function_gives_the_commands_document(
    orientc: Callable[..., Ended], bert_folder: Path, squad_folder: Path, tmp_path: Path
) -> None:
    found = squad(model=bert_folder, data=squad_folder, epochs=0, window_step=24, device="cpu", out=tmp_path)
    assert isinstance(found, SquadResult)
    assert [path.name for path in found.predictions] == ["predictions.json"]
    asked = ["squad", "--model", bert_folder, "--data", squad_folder, "--epochs", "0", "--window-step", "24"]
    document = orientc(*asked, "--device", "cpu", "--out", tmp_path, "--json", "-q").document
    assert (document["runs"][0].pop("fresh"), found.runs[0].fresh) == (False, True)
    expected = found.as_dict()
    del expected["runs"][0]["fresh"]
    assert document == expected

    scored = squad(score=found.predictions[0], data=squad_folder)
    figures = found.runs[0].record.metrics
    asked = len(squad_questions("validation"))
    errors = found.runs[0].record.errors
    assert scored == SquadScore(figures["exact_match"], figures["f1"], asked, 0, 0, errors)


def test_predictions_are_scored_without_a_model(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`score` takes a file of predictions and no model"):
        squad(model=bert_folder, score=tmp_path / "predictions.json")
