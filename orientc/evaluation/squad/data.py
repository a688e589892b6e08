"""SQuAD v1.1's questions: from the official JSON files, a folder `datasets` reads, or the hub."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from orientc.errors import EvaluationError
from orientc.utils.files import read_bytes
from orientc.utils.messages import first_line

REPOSITORY = "rajpurkar/squad"
PARQUET = "plain_text/{}-00000-of-00001.parquet"
OFFICIAL = {"train": ("train-v1.1.json", "train.json"), "validation": ("dev-v1.1.json", "dev.json")}
LARGEST = 1_000_000_000  # bytes of a JSON file; the official ones have 30 MB
COLUMNS = ("id", "question", "context", "answers")

T = TypeVar("T")
_KINDS = {str: "a string", int: "a whole number", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Question:
    """A question on a context, with its gold answers and the characters of the context they start at."""

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]

    @property
    def learnable(self) -> bool:
        """Whether its first answer stands where the data says, so that a model can be shown the place."""
        answer, start = self.answers[0], self.starts[0]
        return bool(answer.strip()) and start >= 0 and self.context.startswith(answer, start)


@dataclass(frozen=True)
class Data:
    """The questions to train on and those to score; `unusable` are ids of training questions that were left out."""

    name: str
    train: list[Question]
    evaluation: list[Question]
    unusable: tuple[str, ...]

    @cached_property
    def sha256(self) -> str:
        """Hash of the questions to train on and to score, wherever they were read from."""
        digest = hashlib.sha256()
        for split, questions in (("train", self.train), ("validation", self.evaluation)):
            for entry in questions:
                row = [split, entry.id, entry.question, entry.context, entry.answers, entry.starts]
                digest.update(json.dumps(row).encode())
        return digest.hexdigest()


def load(
    folder: Path | None, *, limit_train: int | None = None, limit_eval: int | None = None, train: bool = True
) -> Data:
    """SQuAD from a folder, or through the hub where there is none; without `train`, its evaluation set alone.

    The folder holds the official JSON files, a `DatasetDict` saved to disk, or whatever `datasets.load_dataset` makes
    splits "train" and "validation" of. `limit_train` takes the first of the questions in an order that depends on
    their ids alone, `limit_eval` the first as they stand. Raises `EvaluationError` where that is not to be had.
    """
    splits = ("train", "validation") if train else ("validation",)
    if folder is None:
        name, found = REPOSITORY, _from_hub(splits)
    else:
        name, found = folder.resolve().name, _from_folder(folder, splits)
    for split, questions in found.items():
        if not questions:
            raise EvaluationError(f"{folder or REPOSITORY} has no questions in its {split} split")
    evaluation = found["validation"]
    (often, count), *_ = Counter(entry.id for entry in evaluation).most_common(1)
    if count > 1:
        raise EvaluationError(f"{folder or REPOSITORY} has {count} evaluation questions with the same id, {often!r}")
    learnable = [entry for entry in found.get("train", []) if entry.learnable]
    unusable = tuple(entry.id for entry in found.get("train", []) if not entry.learnable)
    if train and not learnable:
        raise EvaluationError(f"no training question of {folder or REPOSITORY} has its answer where it should start")
    if limit_train is not None:
        learnable.sort(key=lambda entry: entry.id)
        random.Random(0).shuffle(learnable)
    return Data(name, learnable[:limit_train], evaluation[:limit_eval], unusable)


def read_json(path: Path) -> Any:
    """What a JSON file says. Raises `EvaluationError` where it can't be read, is not JSON, or has a key twice."""
    try:
        return json.loads(read_bytes(path, LARGEST), object_pairs_hook=_without_duplicates)
    except OSError as error:
        raise EvaluationError(f"can't read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} is not sound JSON: {error}") from None


def _from_folder(folder: Path, splits: Sequence[str]) -> dict[str, list[Question]]:
    if not folder.is_dir():
        raise EvaluationError(f"no folder {folder}: name one with SQuAD's train-v1.1.json and dev-v1.1.json")
    files = {split: [folder / name for name in OFFICIAL[split] if (folder / name).exists()] for split in splits}
    if not files["validation"]:
        return _from_datasets(folder, splits)
    for split in splits:
        if not files[split]:
            raise EvaluationError(f"no {' or '.join(OFFICIAL[split])} in {folder}")
    return {split: list(_official(files[split][0])) for split in splits}


def _from_datasets(folder: Path, splits: Sequence[str]) -> dict[str, list[Question]]:
    import datasets

    datasets.disable_progress_bars()
    try:
        if (folder / "dataset_dict.json").exists():
            tables = [datasets.load_from_disk(folder / split) for split in splits]
        else:
            tables = datasets.load_dataset(str(folder), split=list(splits))
    except Exception as error:  # the library raises a dozen unrelated types
        raise EvaluationError(
            f"no {' or '.join(OFFICIAL['validation'])} in {folder}, and nothing that datasets reads the"
            f" {' and '.join(splits)} split{'s' * (len(splits) > 1)} of SQuAD from ({first_line(error)})"
        ) from error
    named = zip(splits, tables, strict=True)
    return {split: list(_rows(table, f"{folder}, {split} split")) for split, table in named}


def _from_hub(splits: Sequence[str]) -> dict[str, list[Question]]:
    import datasets

    from orientc.models import hub

    datasets.disable_progress_bars()
    try:
        # each split is one file; load_dataset would bring the training split along, and comment on a missing network
        files = [hub.download(REPOSITORY, PARQUET.format(split), kind="dataset") for split in splits]
        tables = [datasets.Dataset.from_parquet(str(file)) for file in files]
    except Exception as error:  # network errors among them
        raise EvaluationError(
            f"can't load {REPOSITORY} through the hub ({hub.reason(error)}): name a folder of your own with `data`"
        ) from error
    named = zip(splits, tables, strict=True)
    return {split: list(_rows(table, f"{REPOSITORY}, {split} split")) for split, table in named}


def _official(path: Path) -> Iterator[Question]:
    """The questions of a file in the benchmark's own form."""
    for article_number, article in enumerate(_entry(read_json(path), "data", list, str(path)), 1):
        where = f"{path}, article {article_number}"
        for number, paragraph in enumerate(_entry(article, "paragraphs", list, where), 1):
            place = f"{where}, paragraph {number}"
            context = _entry(paragraph, "context", str, place)
            for asked in _entry(paragraph, "qas", list, place):
                yield _question(asked, context, place)


def _rows(table: Any, where: str) -> Iterator[Question]:
    """The questions of a `datasets.Dataset` with the columns of `rajpurkar/squad`."""
    if missing := [column for column in COLUMNS if column not in table.column_names]:
        raise EvaluationError(f"{where}: no column {' or '.join(missing)}")
    for number, row in enumerate(table.with_format(None).select_columns(list(COLUMNS)), 1):
        place = f"{where}, row {number}"
        answers = _entry(row, "answers", dict, place)
        texts, starts = (_entry(answers, key, list, place) for key in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise EvaluationError(f"{place}: {len(texts)} answers, but {len(starts)} starts of answers")
        pairs = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
        yield _question({**row, "answers": pairs}, _entry(row, "context", str, place), place)


def _question(asked: Mapping[str, Any], context: str, where: str) -> Question:
    answers = _entry(asked, "answers", list, where)
    id = _entry(asked, "id", str, where)
    if not answers or asked.get("is_impossible"):
        raise EvaluationError(f"{where}: question {id!r} has no answer; SQuAD v1.1 is needed, not 2.0")
    return Question(
        id,
        _entry(asked, "question", str, where),
        context,
        tuple(_entry(answer, "text", str, where) for answer in answers),
        tuple(_entry(answer, "answer_start", int, where) for answer in answers),
    )


def _entry(value: Any, key: str, kind: type[T], where: str) -> T:
    """`value[key]`, which has to be there and of this kind."""
    entry = value.get(key) if isinstance(value, dict) else None
    if not isinstance(entry, kind):
        raise EvaluationError(f"{where}: {key!r} is missing or not {_KINDS[kind]}")
    return entry


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, entry in pairs:
        if key in value:
            raise ValueError(f"the key {key!r} is there twice")
        value[key] = entry
    return value
