"""Where a task's data comes from: the hub, GLUE's own download, or a folder of the `datasets` library."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets

from orientc.errors import EvaluationError
from orientc.evaluation.glue import tsv
from orientc.evaluation.glue.submission import DIAGNOSTIC, stem
from orientc.evaluation.glue.tasks import TASKS, Task
from orientc.models import hub
from orientc.utils.files import canonical_json

HUB = "nyu-mll/glue"

_KINDS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}
_WHOLE = "are its files whole, and none of them empty?"
_DIAGNOSTIC_FILES = ("diagnostic/diagnostic.tsv", "AX/AX.tsv", "AX.tsv")


@dataclass(frozen=True)
class Data:
    """What a task is trained and scored on; every data set has the columns `task.texts`, `label` and `idx`.

    `evaluation` goes by `task.splits`. `unusable` are lines for the user: rows that can't be used as they stand.
    """

    name: str
    train: datasets.Dataset | None
    evaluation: dict[str, datasets.Dataset]
    unusable: tuple[str, ...]

    @cached_property
    def sha256(self) -> str:
        """Hash of all texts and labels in their order: the same rows give the same, whatever they were stored in."""
        digest = hashlib.sha256()
        for name, rows in {"train": self.train, **self.evaluation}.items():
            if rows is not None:
                digest.update(f"{name}\n".encode())
                _add_rows(digest, rows, without=("idx",))
        return digest.hexdigest()


def rows_sha256(rows: datasets.Dataset) -> str:
    """Hash of all of a test set's rows in their order, with their indices, which predictions are handed in by."""
    digest = hashlib.sha256()
    _add_rows(digest, rows)
    return digest.hexdigest()


def _add_rows(digest: Any, rows: datasets.Dataset, without: Sequence[str] = ()) -> None:
    columns = (rows[column][:] for column in rows.column_names if column not in without)
    for row in zip(*columns, strict=True):
        digest.update(f"{canonical_json(row)}\n".encode())


def load(
    task: Task,
    folder: Path | None,
    *,
    limit_train: int | None = None,
    limit_eval: int | None = None,
    train: bool = True,
) -> Data:
    """A task's training and evaluation sets, from the hub (`nyu-mll/glue`) or a folder; without `train`, the latter.

    A folder holds GLUE's own TSV files, a data set saved with `save_to_disk`, or what `load_dataset` reads, itself or
    in a folder named for the task. `limit_train` keeps that many rows after a shuffle that is always the same,
    `limit_eval` the first of each evaluation set. Raises `EvaluationError` where the data is missing or damaged.
    """
    evaluation = {split: _named("validation", split) for split in task.splits}
    splits, unusable = _splits(task, folder, [*(["train"] if train else []), *evaluation.values()])
    examples = splits.get("train")
    if examples is not None and limit_train is not None:
        examples = _first(examples.shuffle(seed=0, keep_in_memory=True), limit_train)
    return Data(
        HUB if folder is None else _absolute(folder).name,
        examples,
        {split: _first(splits[name], limit_eval) for split, name in evaluation.items()},
        tuple(unusable),
    )


def load_tests(task: Task, folder: Path | None) -> dict[str, datasets.Dataset]:
    """A task's test sets by the stem of their submission file ("SST-2", "MNLI-mm"), their labels -1.

    MNLI's include the diagnostic set, "AX", unless it is not in the folder. Raises as `load` does.
    """
    stems = {stem(task, split): _named("test", split) for split in task.splits}
    splits, _ = _splits(task, folder, list(stems.values()))
    tests = {name: splits[split] for name, split in stems.items()}
    diagnostic = _diagnostic(task, folder) if task.name == "mnli" else None
    return tests if diagnostic is None else tests | {DIAGNOSTIC: diagnostic}


def _named(kind: str, split: str) -> str:
    return f"{kind}_{split}".rstrip("_")


def _first(rows: datasets.Dataset, limit: int | None) -> datasets.Dataset:
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))


def _splits(task: Task, folder: Path | None, names: Sequence[str]) -> tuple[dict[str, datasets.Dataset], list[str]]:
    """The splits by the names they have on the hub, and what the user should know of them."""
    if folder is None:
        stored = _from_hub(task.name)
        return {name: _checked(task, stored, HUB, name) for name in names}, []
    for place in _places(task.name, folder):
        if any((place / _tsv(name)).is_file() for name in ("train", *names)):
            read = {name: tsv.read(place / _tsv(name), task, test=name.startswith("test")) for name in names}
            return (
                {name: _from_rows(task, found.rows) for name, found in read.items()},
                [line for found in read.values() for line in found.unusable],
            )
    stored = _from_datasets(task.name, folder, names)
    if not stored:
        raise EvaluationError(
            f"{folder} has no data for {task.folder}: neither {task.folder}/{_tsv(names[0])}, nor a saved data set, "
            f"nor files for {' and '.join(names)} ({', '.join(_KINDS)}), in it or in its {task.name}/"
        )
    return {name: _checked(task, stored, str(folder), name) for name in names}, []


def _diagnostic(task: Task, folder: Path | None) -> datasets.Dataset | None:
    """The diagnostic set, which lies beside MNLI's data; None where a folder has none."""
    if folder is None:
        return _checked(task, _from_hub("ax"), HUB, "test")
    beside = [_absolute(folder).parent] if (folder / _tsv("test_matched")).is_file() else []
    for path in (base / file for base in (folder, *beside) for file in _DIAGNOSTIC_FILES):
        if path.is_file():
            return _from_rows(task, tsv.read(path, task, test=True).rows)
    stored = _from_datasets("ax", folder, ["test"])
    return _checked(task, stored, str(folder), "test") if stored else None


def _places(name: str, folder: Path) -> list[Path]:
    """Where the data called `name` may lie: folders named for it (`SST-2`, `sst2`), then the folder itself.

    Not the latter where its name is another task's: WNLI would find RTE's columns and labels to be its own.
    """
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir() and _plain(path) == name)
    except OSError as error:
        raise EvaluationError(f"can't read {folder}: {error.strerror or error}") from error
    own = _plain(_absolute(folder))
    return [*below, folder] if own == name or (name in TASKS and own not in TASKS) else below


def _plain(folder: Path) -> str:
    return folder.name.lower().replace("-", "")


def _tsv(split: str) -> str:
    return f"{split.replace('validation', 'dev')}.tsv"


def _from_hub(name: str) -> Mapping[str, datasets.Dataset]:
    with _loading(f"{HUB} through the hub", "name a folder of your own with `data`"), hub.patience():
        stored: Mapping[str, datasets.Dataset] = datasets.load_dataset(HUB, name)
    return stored


def _from_datasets(name: str, folder: Path, splits: Sequence[str]) -> Mapping[str, datasets.Dataset]:
    """The splits in the first place that has any, in a form the `datasets` library reads."""
    with _loading(folder, _WHOLE):
        if name in _configurations(folder):
            return _prepared(str(_absolute(folder)), name)
    for place in _places(name, folder):
        with _loading(place, _WHOLE):
            if (place / "dataset_dict.json").is_file():
                return dict(datasets.load_from_disk(str(place)))
            found = {split: files for split in splits if (files := _files(place, split))}
            # each split by itself: the test files' columns may be others
            stored = {
                split: _prepared(_KINDS[Path(files[0]).suffix], data_files=[*map(glob.escape, files)])
                for split, files in found.items()
            }
        if stored:
            return {split: rows["train"] for split, rows in stored.items()}
    return {}


def _configurations(folder: Path) -> list[str]:
    """The configurations a folder's card names."""
    if not (folder / "README.md").is_file():
        return []
    try:
        return list(datasets.get_dataset_config_names(str(_absolute(folder))))
    except FileNotFoundError:  # a card of something else
        return []


def _files(place: Path, split: str) -> list[str]:
    """The files of one split and one kind: `test.csv`, or `test-00000-of-00001.parquet`, or the same in `data`."""
    files = sorted(str(_absolute(file)) for base in (place, place / "data") for file in base.glob(f"{split}[.-]*"))
    kinds = [[file for file in files if file.endswith(suffix)] for suffix in _KINDS]
    return next(filter(None, kinds), [])


def _prepared(path: str, configuration: str | None = None, **options: Any) -> Mapping[str, datasets.Dataset]:
    """What `load_dataset` gives, but never an older copy: its cache goes by the files' times."""
    with TemporaryDirectory(prefix="orientc-") as cache:
        builder = datasets.load_dataset_builder(path, configuration, cache_dir=cache, **options)
        if hasattr(builder.config, "keep_default_na"):
            builder.config.keep_default_na = False  # in CSV: "" and "None" are sentences
        builder.download_and_prepare()
        stored: Mapping[str, datasets.Dataset] = builder.as_dataset(in_memory=True)
    return stored


@contextmanager
def _loading(where: str | Path, advice: str) -> Iterator[None]:
    """Let the library work in silence, and give its failures one line."""
    datasets.disable_progress_bars()
    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity_error()
    try:
        yield
    except Exception as error:  # the library raises a dozen unrelated types, network ones among them
        raise EvaluationError(f"can't load {where} ({hub.reason(error)}): {advice}") from error
    finally:
        datasets.logging.set_verbosity(verbosity)


def _checked(task: Task, stored: Mapping[str, datasets.Dataset], where: str, split: str) -> datasets.Dataset:
    """A split with the columns it should have and no others, in memory: later work leaves nothing in the folder."""
    if split not in stored:
        raise EvaluationError(f'{where} has no split "{split}" for {task.folder}; it has {", ".join(stored)}')
    rows = stored[split].with_format(None)
    where = f'{where}, split "{split}"'
    test = split.startswith("test")
    for name in task.texts if test else (*task.texts, "label"):
        if name not in rows.column_names:
            raise EvaluationError(f'{where} has no column "{name}", which {task.folder} needs')
    columns = {name: rows[name][:] for name in task.texts}
    columns["label"] = [tsv.no_label(task)] * len(rows) if test else _labels(task, rows, where)
    columns["idx"] = rows["idx"][:] if "idx" in rows.column_names else list(range(len(rows)))
    for name, kind, called in [*((name, str, "text") for name in task.texts), ("idx", int, "a number")]:
        for number, value in enumerate(columns[name]):
            if not isinstance(value, kind):
                raise EvaluationError(f'{where}, row {number}: "{name}" is {value!r}, not {called}')
    return datasets.Dataset.from_dict(columns, features=_features(task))


def _labels(task: Task, rows: datasets.Dataset, where: str) -> list[int | float]:
    """The labels as the task's ids, whether they are ids or words, and in whatever order the words were numbered."""
    words = {str(number): word for number, word in enumerate(getattr(rows.features["label"], "names", ()))}
    labels = []
    for number, value in enumerate(rows["label"][:]):
        written = words.get(str(value), str(value))
        label = tsv.parse_label(task, written)
        if label is None:
            raise EvaluationError(f"{where}, row {number}: label {written!r}, where {tsv.describe_labels(task)}")
        labels.append(label)
    return labels


def _from_rows(task: Task, rows: list[dict[str, Any]]) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows, features=_features(task))


def _features(task: Task) -> datasets.Features:
    label = datasets.Value("float32" if task.regression else "int64")
    texts = {name: datasets.Value("string") for name in task.texts}
    return datasets.Features(texts | {"label": label, "idx": datasets.Value("int64")})
