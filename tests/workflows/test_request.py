"""Which texts a request is measured and calibrated on."""

from __future__ import annotations

from pathlib import Path

import transformers

from orientc.evaluation.similarity import Pairs
from orientc.evaluation.texts import Text
from orientc.models.source import ModelSource
from orientc.utils.progress import Progress
from orientc.workflows.request import measure_for, texts_for


def test_with_sts_some_of_its_train_set_is_calibrated_on_and_the_rest_searched(
    bert_folder: Path, glue_folder: Path
) -> None:
    source = ModelSource.resolve(bert_folder)

    def found(text: Text | None, seed: int = 0) -> tuple[Text, Pairs, Pairs]:
        texts = texts_for(
            source, "spearman", text=text, sts=glue_folder, data=None, seed=seed, progress=Progress()
        )  # fmt: skip
        assert isinstance(texts.search, Pairs)
        assert isinstance(texts.verdict, Pairs)
        return texts.calibration, texts.search, texts.verdict

    calibration, search, verdict = found(None)
    assert (calibration.name, search.name) == ("glue/stsb/calibration", "glue/stsb/search")
    own = {*filter(None, calibration.content.split("\n"))}
    assert own
    assert not own & {*search.first, *search.second, *verdict.first, *verdict.second}
    assert len(search.scores) == 13  # of 16
    assert found(None, seed=1)[1].sha256 != search.sha256
    # a text of one's own leaves all pairs to the search
    given, whole, _ = found(Text("mine", "A village."))
    assert (given.name, len(whole.scores)) == ("mine", 16)


def test_of_a_classifier_whose_task_is_not_named_that_is_said(bert_folder: Path, tmp_path: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(bert_folder)
    model.save_pretrained(tmp_path)
    said: list[str] = []
    source = ModelSource.resolve(tmp_path)
    assert measure_for(source, None, sts=None, data=None, progress=Progress(warn=said.append)) == "similarity"
    assert "name its task with `measure`" in said[0]
