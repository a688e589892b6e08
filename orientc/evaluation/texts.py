"""Find the text a model is scored on, or calibrated and tuned on: a file, a data set, WikiText, the demo's own.

For an encoder-decoder it is a text of pairs, in the one form of `pairs`.
"""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orientc import demo
from orientc.errors import EvaluationError, UsageError
from orientc.evaluation import pairs as pairs_in
from orientc.evaluation.protocols import reads_pairs
from orientc.models.argument import DEMO
from orientc.models.source import ModelSource
from orientc.utils.files import read_bytes

LARGEST = 1_000_000_000  # bytes of a text; its tokens take some ten times as much memory
WIKITEXT = ("Salesforce/wikitext", "wikitext-103-raw-v1")
COLUMN = "text"  # of a data set, unless another is named
WIKITEXT_TEST = "/".join((*WIKITEXT, "test"))
WIKITEXT_TEST_SHA256 = "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08"  # wiki.test.raw, as a file


@dataclass(frozen=True)
class Text:
    """A text and the name it goes by in records."""

    name: str
    content: str

    @property
    def sha256(self) -> str:
        """Hash of the text's UTF-8 bytes."""
        return hashlib.sha256(self.content.encode()).hexdigest()


def scored_text(
    source: ModelSource,
    text: str | Path | Text | None = None,
    dataset: str | None = None,
    column: str = COLUMN,
    languages: str | None = None,
) -> Text:
    """The text a model's perplexity is measured on: by default WikiText-103's raw test set; for `demo` its own.

    Args:
        source: The model.
        text: A UTF-8 file, or a text.
        dataset: NAME[:CONFIG][:SPLIT], as in `from_dataset`.
        column: The data set's column that holds the text.
        languages: Of pairs, what source and target are called, as "en,de".

    Raises:
        UsageError: For both a file and a data set, or a column without a data set.
        EvaluationError: Where the text can't be had, or an encoder-decoder has none given.
    """
    if text is not None and dataset is not None:
        raise UsageError("`text` and `dataset` both name a text: give one of them")
    if dataset is None and column != COLUMN:
        raise UsageError("`column` is one of a data set: name that with `dataset`")
    if text is not None:
        return for_model(source, text if isinstance(text, Text) else from_file(text), languages)
    if dataset is not None:
        return for_model(source, from_dataset(dataset, column, pairs=reads_pairs(source)), languages)
    check_default(source)
    return demo_evaluation() if source.id == DEMO else wikitext("test")


def is_scored_by_default(source: ModelSource, text: Text) -> bool:
    """Whether a text is what `scored_text` gives by default, under whatever name."""
    if source.id == DEMO:
        return text.sha256 == demo_evaluation().sha256
    return text.name == WIKITEXT_TEST or text.sha256 == WIKITEXT_TEST_SHA256


def default_calibration_text(source: ModelSource) -> Text:
    """What a model is calibrated and tuned on where no text is named: WikiText-103's raw validation set, or docstrings.

    The latter for `demo`. It is never what `scored_text` gives by default.

    Raises `EvaluationError` where the text can't be had, or an encoder-decoder has none given.
    """
    check_default(source)
    return demo_calibration() if source.id == DEMO else wikitext("validation")


def for_model(source: ModelSource, text: Text, languages: str | None = None) -> Text:
    """A text as a model reads it: for an encoder-decoder pairs in their one form, for others as it is.

    Raises `EvaluationError` where they are no pairs.
    """
    if not reads_pairs(source):
        return text
    return Text(text.name, pairs_in.canonical(text.name, text.content, pairs_in.languages_of(languages)))


def check_default(source: ModelSource) -> None:
    """Raise `EvaluationError` for a model that there is no text for unless one is named."""
    if reads_pairs(source):
        raise EvaluationError(
            f"{source.id} is an encoder-decoder, which is measured on pairs of source and target: name some of yours "
            "with `text`, as TSV or JSON lines"
        )


def demo_evaluation() -> Text:
    """What `demo` is scored on: Python's language reference."""
    return Text("python-language-reference", demo.evaluation_text())


def demo_calibration() -> Text:
    """What `demo` is calibrated on: docstrings of Python's standard library."""
    return Text("python-docstrings", demo.calibration_text())


def from_file(path: str | Path) -> Text:
    """A UTF-8 text file, as it stands.

    Raises `EvaluationError` where it can't be read, is not UTF-8, is empty, larger than `LARGEST`, or no regular file.
    """
    path = Path(path)
    if str(path) == "-":
        raise EvaluationError("no text is read from stdin: write it to a file, and name that with `text`")
    try:
        content = read_bytes(path, LARGEST).decode()
    except OSError as error:
        advice = ": cut it, or name a part of it" if error.errno == errno.EFBIG else ""
        raise EvaluationError(f"can't read {path}: {error.strerror or error}{advice}") from error
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path} is not UTF-8 text: byte {error.start} can't be decoded") from None
    if not content.strip():
        raise EvaluationError(f"{path} has no text in it")
    return Text(path.name, content)


def from_dataset(named: str, column: str, *, pairs: bool = False) -> Text:
    """One column of a data set, of the hub or in a folder, a row a line; `named` is NAME[:CONFIG][:SPLIT].

    For `pairs` unless another column is named, it is that of translations, or all of text, in JSON as `pairs` reads it.

    The split is "train" unless named (NAME::SPLIT where there is no configuration). Raises `EvaluationError` where it
    can't be loaded, or has no such column of text.
    """
    import datasets

    from orientc.models import hub

    name, configuration, split = (*named.split(":"), "", "")[:3]
    split = split or "train"
    datasets.disable_progress_bars()
    try:
        with hub.patience():
            rows = datasets.load_dataset(name, configuration or None, split=split)
    except Exception as error:  # the library raises a dozen unrelated types, network ones among them
        raise EvaluationError(
            f"can't load {named} through datasets ({hub.reason(error)}): name it as NAME[:CONFIG][:SPLIT], or a file "
            "of your own with `text`"
        ) from error
    if pairs:
        return Text(_known_as(name, configuration, split), _rows_of_pairs(rows, column))
    if column not in rows.column_names:
        raise EvaluationError(
            f'{named} has no column "{column}", choose another with `column`: {", ".join(rows.column_names)}'
        )
    values = rows[column][:]
    if not all(isinstance(value, str) for value in values):
        raise EvaluationError(f'column "{column}" of {named} is not text: choose another with `column`')
    content = "".join(value if value.endswith("\n") else f"{value}\n" for value in values)
    if not content.strip():
        raise EvaluationError(f"{named} has no text in it")
    return Text(_known_as(name, configuration, split), content)


def _known_as(name: str, *parts: str) -> str:
    """What a text of a data set is called: a folder by its own name."""
    known = Path(name).resolve().name if Path(name).exists() else name
    return "/".join(part for part in (known, *parts) if part)


def _rows_of_pairs(rows: Any, column: str) -> str:
    """Rows of a data set as JSON lines: of a column with two texts by language, or the columns of text."""
    named = pairs_in.TRANSLATION if column == COLUMN else column
    if named not in rows.column_names and column != COLUMN:
        raise EvaluationError(
            f'there is no column "{column}", choose another with `column`: {", ".join(rows.column_names)}'
        )
    if named in rows.column_names:
        return "".join(f"{json.dumps(value)}\n" for value in rows[named][:])
    kinds = {name: feature.dtype for name, feature in rows.features.items() if hasattr(feature, "dtype")}
    texts = [name for name, kind in kinds.items() if kind in ("string", "large_string")]
    return "".join(f"{json.dumps({name: row[name] for name in texts})}\n" for row in rows)


def wikitext_at_hand() -> bool:
    """Whether WikiText-103's validation and test sets were downloaded before."""
    from orientc.models import hub

    repository, _ = WIKITEXT
    return all(hub.cached(repository, _wikitext_file(split), kind="dataset") for split in ("validation", "test"))


def wikitext(split: str) -> Text:
    """A split of WikiText-103 raw from the hub, its rows joined as they are."""
    import datasets

    from orientc.models import hub

    repository, configuration = WIKITEXT
    datasets.disable_progress_bars()
    try:
        # the one file of this split; load_dataset would bring the training split's 300 MB along
        file = hub.download(repository, _wikitext_file(split), kind="dataset")
        rows = datasets.Dataset.from_parquet(str(file))
    except Exception as error:  # the library raises a dozen unrelated types, network ones among them
        raise EvaluationError(
            f"can't load {repository} through the hub ({hub.reason(error)}): name a file of your own with `text`"
        ) from error
    return Text(f"{repository}/{configuration}/{split}", "".join(rows["text"]))


def _wikitext_file(split: str) -> str:
    return f"{WIKITEXT[1]}/{split}-00000-of-00001.parquet"
