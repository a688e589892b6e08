"""Records: one JSON file for the result of one evaluation of one model or artifact. Imports no torch.

Keys that this version does not know are kept when a record is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from orientc.errors import RecordError
from orientc.modeling.table_names import INPUT
from orientc.storage.sizes import INPUT_ONLY, UNTIED
from orientc.storage.table_info import TableInfo
from orientc.utils import documents
from orientc.utils.files import INFINITY, read_bytes, short_hash, strict_json, write_json
from orientc.utils.messages import printable

ORIGINAL = "original"
# metrics that count, and are no figures: what was measured on, and what was left out of it
COUNTS = (
    "sentences", "tokens", "cut_sentences", "cut_lines", "cut_tokens", "short_lines", "unmasked_lines",
    "unscored_tokens", "zero_vectors",
)  # fmt: skip
DIVERGENCES = ("kl", "kl_p99", "kl_max", "same_top")  # of an artifact's predictions from the uncompressed model's
_UNBOUNDED = ("perplexity", "loss", "kl", "kl_p99", "kl_max")  # metrics that may be infinite
_LARGEST_BLOCKS = 20_000  # numbers in one list of blocks
_LARGEST = 16_000_000  # bytes of a file that may be a record
MODEL_CONFIG = "config.json"  # marks a folder as a model


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error, and the ends of an interval that holds the truth 95 times in 100.

    What varies is what was measured on: lines, windows or examples, neighbours counted as dependent. The interval need
    not be symmetrical, and ends within the bounds of the figure.
    """

    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class Record:
    """The result of one evaluation of one model or artifact.

    Attributes:
        kind: "perplexity", "similarity", "glue" or "squad".
        model: `id`, `revision`, `fingerprint`, `table_sha256`, and `table`, the values of `TableInfo`.
        artifact: `path`, `sha256`, `method`, `rank`, `bits_per_weight`; None for the uncompressed model.
        head: Head policy; for the uncompressed model "tied" where its head shares the table, else "input-only".
        settings: All settings that the figures depend on.
        metrics: The figures by name; GLUE's from 0 to 1, SQuAD's from 0 to 100. A perplexity, loss or divergence may be
            infinite, in JSON "Infinity"; no figure is NaN. And counts, as of tokens and of what was left out
            (`COUNTS`).
        seconds: Wall-clock time of the evaluation.
        environment: What it ran on: the `device`'s type, `threads` and `processes`.
        versions: Versions of orientc, Python, torch and transformers.
        text: `name` and `sha256` of the text, if any.
        data: The data sets, if any.
        blocks: What errors of the figures are computed from, by name: sums over blocks of neighbouring lines, pieces of
            windows, or examples, in the order of the text or data, so that records of the same text or data have the
            same blocks. A perplexity has `tokens`, `loss` (nats), and where that was measured `kl` (nats) and
            `same_top` (tokens); a classification `examples`, `correct`, and of two classes `true_positives`,
            `false_positives`, `false_negatives`, `true_negatives`; a Pearson correlation the moments `pairs`,
            `answer`, `label`, `answer_squared`, `label_squared`, `answer_label`; SQuAD `questions`, `exact_match`,
            `f1` (percent); sentence vectors `sentences`, `cosine`. A Spearman correlation has a number for each pair:
            `answer_rank`, `label_rank`. Names of MNLI's two sets end with `_matched` and `_mismatched`. None where
            there are none, as of an infinite loss.
        errors: By the name of a metric its `standard_error`, and `low` and `high`, the ends of its 95 % interval.
        finetuned: Fingerprint of the fine-tuned model that was scored and lies beside the record, if one was trained.
        chosen: What was chosen of the settings, limits and text: what is not as it is by default. Figures are named by
            it in comparisons. None where the record does not tell.
        extra: Keys of a record that this version does not know.
    """

    kind: str
    model: dict[str, Any]
    artifact: dict[str, Any] | None
    head: str
    settings: dict[str, Any]
    metrics: dict[str, Any]
    seconds: float
    environment: dict[str, Any]
    versions: dict[str, str]
    text: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    blocks: dict[str, list[float]] | None = None
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    finetuned: str | None = None
    chosen: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record as a JSON object."""
        values = asdict(self)
        extra: dict[str, Any] = values.pop("extra")
        values["metrics"] = strict_json(values["metrics"])
        return documents.document("record", extra | values)

    @property
    def table(self) -> TableInfo:
        """The facts of the base table."""
        values = self.model["table"]
        named = {"table": INPUT} | values  # records of before don't say which table it is
        return TableInfo(**{entry.name: named[entry.name] for entry in fields(TableInfo)})

    @property
    def perplexity(self) -> float:
        """The perplexity."""
        return float(self.metrics["perplexity"])

    def standard_error(self, name: str) -> float | None:
        """The standard error of a metric; None where none is known."""
        return self.errors[name]["standard_error"] if name in self.errors else None

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Each metric that has an error, with that and its interval."""
        return {name: Estimate(float(self.metrics[name]), **error) for name, error in self.errors.items()}

    @property
    def figures(self) -> dict[str, float]:
        """The figures under names that are clear without the record, as "sst2.accuracy"."""
        if self.kind == "perplexity":
            names = ("perplexity", *DIVERGENCES)
            return {f"{name}.{self.head}": float(self.metrics[name]) for name in names if name in self.metrics}
        task = (self.data or {}).get("task") or self.kind
        return {f"{task}.{name}": float(value) for name, value in self.metrics.items() if name not in COUNTS}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the figures depend on: what was measured, what it ran on, and the versions."""
        return self.measured | {"environment": self.environment, "versions": self.versions}

    @property
    def measured(self) -> dict[str, Any]:
        """What was measured, and how; wherever that is done, the figures are the same but for rounding."""
        return {
            "kind": self.kind,
            "model": {"fingerprint": self.model["fingerprint"], "table_sha256": self.model["table_sha256"]},
            "artifact": self.artifact and self.artifact["sha256"],
            "head": self.head,
            "text": self.text and self.text["sha256"],
            "data": self.data,
            "settings": self.settings,
        }

    @property
    def file_name(self) -> str:
        """`<artifact or "original">.<kind>[-<task>]-<head>-<8 hex digits of what was measured>.json`."""
        stem = Path(self.artifact["path"]).name.removesuffix(".safetensors") if self.artifact else ORIGINAL
        task = f"-{self.data['task']}" if self.data and self.data.get("task") else ""
        return f"{stem}.{self.kind}{task}-{self.head}-{short_hash(self.measured)}.json"


def sha256_of(artifacts: Sequence[str]) -> str:
    """The hash that a record has for its artifacts, from those of their files: of several that of all in order."""
    if len(artifacts) == 1:
        return artifacts[0]
    return hashlib.sha256("".join(sorted(artifacts)).encode()).hexdigest()


def write(record: Record, folder: Path) -> Path:
    """Write a record into a folder, atomically; one of the same measured on another device, say, is replaced.

    Returns:
        The file.

    Raises:
        OutputError: The file system refuses.
    """
    path = folder / record.file_name
    write_json(path, record.as_dict())
    return path


def read(path: Path) -> Record:
    """Read a record.

    Raises:
        RecordError: The file is damaged, foreign, too new or can't be read.
    """
    try:
        values = json.loads(read_bytes(path, _LARGEST))
    except OSError as error:
        raise RecordError(f"{path} can't be read as a record: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} can't be read as a record: {error!s:.200}") from None
    marks = documents.marks("record")
    if not isinstance(values, dict) or values.pop("format", None) != marks["format"]:
        raise RecordError(f"{path} is not a record")
    version = values.pop("version", None)
    if not isinstance(version, int):
        raise RecordError(f"{path} is damaged: its version is missing")
    if version > marks["version"]:
        raise RecordError(f"{path} has record version {version!s:.20}, newer than {marks['version']}: update orientc")
    names = [entry.name for entry in fields(Record) if entry.name != "extra"]
    absent: dict[str, Any] = {
        "text": None,
        "data": None,
        "finetuned": None,
        "blocks": None,
        "errors": {},
        "chosen": None,
    }
    complete = absent | values
    try:
        known = {name: complete[name] for name in names}
        if known["head"] == UNTIED:
            known["head"] = INPUT_ONLY
        if isinstance(known["metrics"], dict):
            known["metrics"] = {name: _unquoted(name, value) for name, value in known["metrics"].items()}
        record = Record(**known, extra={key: value for key, value in values.items() if key not in names})
        _check(record)
    except KeyError as error:
        raise RecordError(f"{path} is damaged: {error.args[0]} is missing") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RecordError(f"{path} is damaged: {printable(str(error)):.200}") from None
    return record


def reusable(record: Record, folder: Path) -> Record | None:
    """Find a record of the same identity in a folder; None where there is none.

    What was chosen is as in `record` from then on: figures go by that.

    Raises:
        OutputError: It has to be written anew, and the file system refuses.
    """
    path = folder / record.file_name
    try:
        found = read(path)
    except RecordError:
        return None
    if found.identity != record.identity:
        return None
    if found.chosen == record.chosen:
        return found
    renamed = replace(found, chosen=record.chosen)
    write(renamed, folder)
    return renamed


def files_under(paths: Iterable[Path], suffix: str) -> Iterator[Path]:
    """Find files with a suffix, each once: given files, and the files below given folders in order of their paths.

    Passed over are model folders, and folders beside a record that have its name (checkpoints and predictions).
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            below: list[Path] = []
            for place, folders, names in os.walk(path):
                if MODEL_CONFIG in names and Path(place) != path:
                    folders.clear()
                    continue
                folders[:] = [name for name in folders if f"{name}.json" not in names]
                below += (Path(place, name) for name in names if name.endswith(suffix))
            found.update(dict.fromkeys(sorted(below)))
        elif path.name.endswith(suffix):
            found[path] = None
    yield from found


def _check(record: Record) -> None:
    """Raise `KeyError`, `TypeError` or `ValueError` where an entry that is used is missing or of the wrong type."""
    mappings = (record.model, record.settings, record.metrics, record.environment, record.versions)
    if not all(isinstance(value, dict) for value in mappings):
        raise ValueError("model, settings, metrics, environment and versions must be JSON objects")
    for value in (record.artifact, record.text, record.data, record.chosen):
        if value is not None and not isinstance(value, dict):
            raise ValueError("artifact, text, data and chosen must be JSON objects or null")
    names = [record.kind, record.head, *(record.model[key] for key in ("id", "fingerprint", "table_sha256"))]
    names += [record.file_name]
    names += [record.artifact["path"], record.artifact["sha256"]] if record.artifact is not None else []
    names += [record.text["name"], record.text["sha256"]] if record.text is not None else []
    names += [record.finetuned] if record.finetuned is not None else []
    if not all(isinstance(name, str) for name in names):
        raise ValueError("kind, head, names and hashes must be strings")
    table = record.table
    sizes = (table.vocab, table.dim, table.nbytes, table.model_parameters, table.model_bytes)
    if not all(isinstance(size, int) and 0 < size < 1 << 63 for size in sizes):
        raise ValueError("the sizes of its table must be whole numbers above 0")
    if not isinstance(record.seconds, int | float) or not math.isfinite(record.seconds):
        raise ValueError("its seconds are no number")
    for name, figure in record.metrics.items():
        if not isinstance(figure, int | float) or isinstance(figure, bool) or math.isnan(figure):
            raise ValueError(f"its {name:.60} is {figure!r:.60}, not a number: measure again")
        if math.isinf(figure) and (figure < 0 or name not in _UNBOUNDED):
            raise ValueError(f"its {name:.60} is infinite: measure again")
    _check_errors(record)


def _check_errors(record: Record) -> None:
    """Raise `ValueError` where blocks or errors are not what `Record` says."""
    blocks, errors = record.blocks or {}, record.errors
    if not isinstance(blocks, dict) or not all(
        isinstance(sums, list) and 0 < len(sums) <= _LARGEST_BLOCKS and all(map(_is_finite, sums))
        for sums in blocks.values()
    ):
        raise ValueError("its blocks must be lists of numbers")
    if not isinstance(errors, dict) or not all(
        name in record.metrics
        and isinstance(error, dict)
        and error.keys() == {"standard_error", "low", "high"}
        and all(map(_is_finite, error.values()))
        for name, error in errors.items()
    ):
        raise ValueError("its errors must have a standard error and the ends of an interval, for metrics it has")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _unquoted(name: str, value: Any) -> Any:
    """A metric as a number where JSON has it as a word."""
    return math.inf if value == INFINITY and name in _UNBOUNDED else value
