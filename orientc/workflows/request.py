"""What `shrink` is asked for: a measure with a tolerance or a size, and the texts for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orientc.compression.configs import RUNTIMES
from orientc.errors import EvaluationError, UsageError
from orientc.evaluation import finetuning
from orientc.evaluation.configs import check_counts
from orientc.evaluation.glue.finetuned import Rows
from orientc.evaluation.glue.tasks import TASKS
from orientc.evaluation.protocols import head_protocol, reads_pairs
from orientc.evaluation.similarity import Pairs, stsb
from orientc.evaluation.texts import Text
from orientc.exporters import push as hub
from orientc.modeling.table_names import HEAD, INPUT
from orientc.models.source import ModelSource
from orientc.models.tables import ALL, table_named, tables_of
from orientc.storage.artifact import FLOAT_DTYPES
from orientc.utils.progress import Progress
from orientc.workflows.three_texts import calibration_text, three_sets, three_texts
from orientc.workflows.tolerance import PERPLEXITY, SIMILARITY, SPEARMAN, check_measure

HUB = "hub"  # in the place of a folder with STS-B


@dataclass(frozen=True)
class Texts:
    """What is calibrated on, searched on, and judged on."""

    calibration: Text
    search: Text | Pairs | Rows
    verdict: Text | Pairs | Rows

    @property
    def names(self) -> dict[str, str]:
        """The names of all three, by what they are for."""
        return {"calibration": self.calibration.name, "search": self.search.name, "verdict": self.verdict.name}


def tables_for(source: ModelSource, table: str | None, measure: str, *, progress: Progress) -> tuple[str, ...]:
    """The names of the tables to compress.

    Args:
        source: The model.
        table: "input", "head" or "all"; None for all that can be.
        measure: What the model is measured by: a head is compressed where that is perplexity.
        progress: Told of tables that stay as they are.

    Raises:
        UsageError: A table is asked for whose loss nothing predicts.
        NoTableError: The model has no such table.
    """
    there = tables_of(source.skeleton)
    predicted = [INPUT, HEAD] if measure == PERPLEXITY else [INPUT]
    if table not in (None, ALL):
        name = table_named(source.skeleton, str(table), source.id).name
        if name not in predicted:
            raise UsageError(f"the table {name} can't be made smaller by {measure}: only {' and '.join(predicted)}")
        return (name,)
    if left := [name for name in there if name not in predicted and not (table is None and name == HEAD)]:
        progress.warn(f"nothing predicts what {', '.join(left)} would lose: left as in the original")
    return tuple(name for name in there if name in predicted)


def texts_for(
    source: ModelSource,
    measure: str,
    *,
    text: str | Path | Text | None,
    sts: str | Path | None,
    data: str | Path | None,
    seed: int,
    progress: Progress,
    languages: str | None = None,
) -> Texts:
    """The texts for each step.

    With `sts`, STS-B's train set is searched on and its dev set judged on; for a task its own train and dev sets. Some
    of the train set's texts, on which nothing is measured, are calibrated on unless there is a `text` for that.
    """
    if languages is not None and not reads_pairs(source):
        raise EvaluationError(f"{source.id} is no encoder-decoder: `languages` is for the pairs that those read")
    given = None if text is None else calibration_text(source, text, progress)
    if measure in TASKS:
        own, search, verdict = three_sets(TASKS[measure], None if data is None else Path(data), seed)
        for line in verdict.data.unusable:
            progress.warn(f"not used: {line}")
        return Texts(given or own, search, verdict)
    if sts is not None:
        folder = None if str(sts) == HUB else Path(sts)
        if given is not None:
            return Texts(given, stsb(folder, "train"), stsb(folder, "dev"))
        own, search, _ = three_sets(TASKS["stsb"], folder, seed)
        return Texts(own, _pairs(search), stsb(folder, "dev"))
    found = three_texts(source, text, seed, progress, languages)
    return Texts(found.calibration, found.search, found.verdict)


def _pairs(rows: Rows) -> Pairs:
    """Rows of STS-B as pairs."""
    columns = rows.data.evaluation[""]
    return Pairs(rows.name, rows.sha256, *(columns[name][:] for name in (*rows.task.texts, "label")))


def measure_for(
    source: ModelSource, measure: str | None, *, sts: str | Path | None, data: str | Path | None, progress: Progress
) -> str:
    """The measure that is meant, by the model's kind; `progress` is told where another would say more.

    Raises `UsageError` for one there is not, or for data that it needs or does not; `EvaluationError` for a task that
    the model was not fine-tuned for.
    """
    if measure is not None:
        check_measure(measure)
    if data is not None and measure not in TASKS:
        raise UsageError(f"`data` is a task's: choose it with `measure`, one of {', '.join(TASKS)}")
    if measure is None:
        if sts is not None:
            return SPEARMAN
        if finetuning.is_classifier(source):
            progress.warn(
                f"{source.id} is a classifier: sentence vectors say little of it; name its task with `measure`"
            )
        return PERPLEXITY if head_protocol(source) else SIMILARITY
    if (measure == SPEARMAN) != (sts is not None):
        raise UsageError(
            "`measure` spearman needs sentence pairs with scores: say where STS-B is with `sts`, and only then"
        )
    if measure in TASKS and not finetuning.is_classifier(source):
        raise EvaluationError(
            f"{source.id} ({source.architecture.__name__}) was not fine-tuned for {measure}: it has no head that gives "
            "a text its class; fine-tune it with orientc glue, or choose another `measure`"
        )
    return measure


def size_asked(sizes: dict[str, float | None], within: str | None) -> tuple[str, float] | None:
    """The size that is asked for, by its field; None where a tolerance is. Raises `UsageError` for more than one."""
    given = [(name, float(value)) for name, value in sizes.items() if value is not None]
    if not given:
        return None
    if len(given) > 1:
        raise UsageError(f"`{given[0][0]}` and `{given[1][0]}` exclude each other: give one size")
    name, value = given[0]
    if within is not None:
        raise UsageError(f"`within` and `{name}` exclude each other: ask for a tolerance or for a size")
    if not 0 < value < math.inf:
        raise UsageError(f"`{name}` must be above 0, not {value:g}")
    return name, value


def check_request(
    to: str | Path | None, dtype: str | None, *, dry_run: bool, limit: int | None, push: str | None, private: bool
) -> None:
    """Raise `UsageError` for options that can't be used, or not together."""
    check_counts(limit=limit)
    if to is None and not dry_run:
        raise UsageError("`to` is missing: the folder to write")
    if dtype not in (None, *FLOAT_DTYPES):
        raise UsageError(f"`dtype` must be one of {', '.join(FLOAT_DTYPES)}, not {dtype!r}")
    if push is not None:
        if dry_run:
            raise UsageError("`push` and `dry_run` exclude each other: a dry run has nothing to upload")
        hub.prepare(push)
    elif private:
        raise UsageError("`private` is for a repository on the hub: name it with `push`")


def check_runtime(runtime: str | None, given: Mapping[str, str | None]) -> None:
    """Raise `UsageError` for a runtime there is not, or for fields that are `given` though they are not for it."""
    if runtime not in (None, *RUNTIMES):
        raise UsageError(f"`runtime` must be {' or '.join(RUNTIMES)}, not {runtime!r:.40}")
    if runtime is not None and (wrong := [name for name, value in given.items() if value is not None]):
        raise UsageError(f"`{wrong[0]}` is not for a GGUF file: all but the table stays as it is, in one file")
