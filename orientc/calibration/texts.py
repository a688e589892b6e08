"""The text that a model is calibrated or an artifact tuned on."""

from __future__ import annotations

from pathlib import Path

from orientc.errors import UsageError
from orientc.evaluation import texts
from orientc.evaluation.texts import Text
from orientc.models.source import DEMO, ModelSource


def calibration_text(
    source: ModelSource, text: str | Path | Text | None = None, dataset: str | None = None, column: str = "text"
) -> Text:
    """Read a text file or a column of a data set; by default a text that no model is scored on.

    Args:
        source: the model; "demo" has a default of its own, which needs no hub.
        text: a UTF-8 file, or a `Text` as it stands.
        dataset: NAME[:CONFIG][:SPLIT] as the datasets library names it.
        column: the data set's column that holds the text.

    Returns:
        The text; with neither `text` nor `dataset` WikiText-103's validation set, for "demo" docstrings.

    Raises:
        UsageError: for both `text` and `dataset`.
        EvaluationError: where the text can't be had, or is empty.
    """
    if text is not None and dataset is not None:
        raise UsageError("`text` and `dataset` both name a text: give one of them")
    if isinstance(text, Text):
        return text
    if text is not None:
        return texts.from_file(Path(text))
    if dataset is not None:
        return texts.from_dataset(dataset, column)
    return texts.demo_calibration() if source.id == DEMO else texts.wikitext("validation")
