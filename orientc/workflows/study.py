"""The settings of a study: what a sweep makes of a model's table, and what it measures of each result.

They come from keywords and from a TOML or JSON file, whose tables hold the settings of single tasks. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from orientc.compression.configs import BITS, BLOCKS, PRESETS, check_effort
from orientc.compression.settings import settings_from
from orientc.errors import UsageError
from orientc.evaluation.configs import FinetuningConfig, SquadConfig, check_choice, check_counts
from orientc.evaluation.glue.tasks import ALL, TASKS
from orientc.evaluation.option_values import KEEP, NONE
from orientc.evaluation.pairs import languages_of
from orientc.methods.effort import FAST

SQUAD = "squad"
GLUE = "glue"  # a file's table for all GLUE tasks
SVD, AE, QUANTIZE, TARGET = METHODS = ("svd", "ae", "quantize", "target")
AUTO = "auto"
_ALIASES = {"autoencoder": AE}
_OF_A_TASK = ("limit_train", "limit_eval", "seeds", "data")  # beside the fields of its config

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a sweep makes and measures.

    Attributes:
        methods: Of "svd", "ae" (the paper's autoencoder), "quantize" and "target".
        ratios: Parameter ratios of svd and ae.
        bits: Bits of the numbers that svd, ae and quantize store, None for floats, which quantize has none of.
        blocks: Types of ggml's blocks of quantize, such as "IQ4_NL", beside or in the place of bits.
        target_bits: Bits per weight of target.
        presets: Recipes of ae: "default", "paper".
        effort: How long target searches for codes: "fast" or "best".
        fit_seeds: Seeds of ae.
        calibration: What each artifact is made with, once for each: "none", "auto" (measured on the text that
            `calibrate` takes by default, and kept) or a calibration's file.
        perplexity: Whether to measure perplexity.
        similarity: Whether to measure sentence vectors, on STS-B.
        task: GLUE tasks and "squad", to fine-tune on.
        text: Text for perplexity; None for the default one.
        languages: Of an encoder-decoder's pairs, what source and target are called, and a multilingual tokenizer's
            languages.
        limit: Perplexity on so many lines (masked), tokens (causal) or pairs.
        data: Folder with GLUE's data; None for the hub.
        squad_data: Folder with SQuAD's data; None for the hub.
        limit_train: Train on so many examples.
        limit_eval: Score so many examples.
        seeds: Seeds of fine-tuning.
        keep: Which fine-tuned models stay; see `finetuning.run_seeds`.
        finetuning: Fields of `FinetuningConfig` for all tasks.
        of_task: Settings of single tasks by name, "glue" for all of GLUE: fields of their configs, `limit_train`,
            `limit_eval`, `seeds` and `data`.

    Raises:
        UsageError: For a value that no sweep can use.
    """

    methods: tuple[str, ...] = (SVD, AE)
    ratios: tuple[float, ...] = (2.5, 5.0, 10.0)
    bits: tuple[int | None, ...] = (None,)
    blocks: tuple[str, ...] = ()
    target_bits: tuple[float, ...] = (1.5, 2.0, 3.0)
    presets: tuple[str, ...] = ("default",)
    effort: str = FAST
    fit_seeds: tuple[int, ...] = (0,)
    calibration: tuple[str | Path, ...] = (NONE,)
    perplexity: bool = False
    similarity: bool = False
    task: tuple[str, ...] = ()
    text: Any = None
    languages: str | None = None
    limit: int | None = None
    data: str | Path | None = None
    squad_data: str | Path | None = None
    limit_train: int | None = None
    limit_eval: int | None = None
    seeds: tuple[int, ...] = (0,)
    keep: str = NONE
    finetuning: Mapping[str, Any] = field(default_factory=dict)
    of_task: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `UsageError` for a value that no sweep can use."""
        for name, values, known in (
            ("methods", self.methods, METHODS),
            ("presets", self.presets, [*PRESETS]),
            ("blocks", self.blocks, BLOCKS),
        ):
            if unknown := [value for value in values if value not in known]:
                raise UsageError(f"there is no {name[:-1]} {unknown[0]!r}: `{name}` takes {', '.join(known)}")
        if unknown := [task for task in self.task if task not in (*TASKS, SQUAD)]:
            raise UsageError(f"there is no `task` {unknown[0]!r}: choose from {', '.join([*TASKS, SQUAD, ALL])}")
        if outside := [ratio for ratio in self.ratios if not 1 <= ratio < inf]:
            raise UsageError(
                f"`ratios` must be at least 1, not {outside[0]:g}: at 1 as many numbers are stored as the table has"
            )
        check_choice("keep", self.keep, KEEP)
        check_effort(self.effort)
        if self.effort != FAST and TARGET not in self.methods:
            raise UsageError("`effort` is for target: say its sizes with `target_bits`, or choose it with `methods`")
        languages_of(self.languages)
        check_counts(limit_train=self.limit_train, limit_eval=self.limit_eval)
        for task in self.task:
            self.config_of(task)
            self.limits_of(task)

    def config_of(self, task: str) -> FinetuningConfig:
        """How a task is fine-tuned, but for its seeds. Raises `UsageError` for a setting that it does not have."""
        kind = SquadConfig if task == SQUAD else FinetuningConfig
        known = {entry.name for entry in fields(kind)} - {"seed"}
        own = {name: value for name, value in self._own(task).items() if name not in _OF_A_TASK}
        if unknown := sorted(own.keys() - known):
            raise UsageError(
                f"{task} has no setting {unknown[0]!r}: choose from {', '.join(sorted([*known, *_OF_A_TASK]))}"
            )
        return kind(**{**self.finetuning, **own})

    def seeds_of(self, task: str) -> tuple[int, ...]:
        """The seeds a task is fine-tuned with."""
        own = self._own(task).get("seeds")
        return self.seeds if own is None else _several("seeds", own, int)

    def data_of(self, task: str) -> str | Path | None:
        """The folder with a task's data; None for the hub."""
        found: str | Path | None = self._own(task).get("data", self.squad_data if task == SQUAD else self.data)
        return found

    def limits_of(self, task: str) -> tuple[int | None, int | None]:
        """How many examples a task is trained and scored on."""
        own = self._own(task)
        found = own.get("limit_train", self.limit_train), own.get("limit_eval", self.limit_eval)
        check_counts(limit_train=found[0], limit_eval=found[1])
        return found

    def _own(self, task: str) -> dict[str, Any]:
        shared = {} if task == SQUAD else self.of_task.get(GLUE, {})
        return {**shared, **self.of_task.get(task, {})}


def read_study(given: Mapping[str, Any], config: str | Path | None = None, base: Study | None = None) -> Study:
    """The study that keywords and a file of settings make; keywords go over the file, the file over `base`.

    Which methods are meant is told by the sizes, unless `methods` says it: ratios mean svd and ae, target bits
    target, blocks quantize, and so do bits without any of these.

    Args:
        given: Settings by name, as `sweep` takes them; one that is None says nothing.
        config: A TOML or JSON file of the same settings, with a table for a task's own.
        base: What is taken where neither says anything; a `Study` without settings unless given.

    Raises:
        UsageError: A setting is unknown, or of a wrong type or value.
    """
    said = {name: value for name, value in given.items() if value is not None}
    read = {} if config is None else settings_from(config)
    tables = {name: value for name, value in read.items() if isinstance(value, Mapping)}
    for name in tables:
        if name not in (*TASKS, SQUAD, GLUE):
            raise UsageError(f"{config}: there is no task {name!r} that a table could be about")
    flat = {name: value for name, value in read.items() if name not in tables}
    if unknown := sorted(flat.keys() - given.keys()):
        raise UsageError(f"{config}: no setting {unknown[0]!r}: choose from {', '.join(sorted(given))}")
    merged = flat | said
    study = base or Study()
    if base is None:
        merged.setdefault("methods", _meant(merged))
    tuned = {name: merged.pop(name) for name in [*merged] if name in _FINETUNING}
    if "seed" in merged:
        if "seeds" in merged:
            raise UsageError("`seed` and `seeds` exclude each other")
        merged["seeds"] = [merged.pop("seed")]
    values: dict[str, Any] = {
        name: _PARSED[name](name, value) if name in _PARSED else value for name, value in merged.items()
    }
    for name, kinds in _NONE_TYPES.items():
        if name in values and (
            not isinstance(values[name], kinds) or isinstance(values[name], bool) != (kinds is bool)
        ):
            raise UsageError(f"`{name}` must be of another type than {values[name]!r:.60} is")
    of_task = {task: {key.replace("-", "_"): value for key, value in own.items()} for task, own in tables.items()}
    try:
        return replace(
            study,
            **values,
            finetuning={**study.finetuning, **tuned},
            of_task=_over(study.of_task, tuned, of_task),
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"a setting is of the wrong type: {error}") from None


def _over(
    base: Mapping[str, Mapping[str, Any]], tuned: Mapping[str, Any], read: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """A base's settings of single tasks, under those said for all tasks, under those of a file's tables."""
    kept = {task: {name: value for name, value in own.items() if name not in tuned} for task, own in base.items()}
    return {task: {**kept.get(task, {}), **read.get(task, {})} for task in {**kept, **read}}


def _meant(merged: Mapping[str, Any]) -> list[str]:
    named = {"ratios": (SVD, AE), "blocks": (QUANTIZE,), "target_bits": (TARGET,)}
    sized = [method for name, methods in named.items() if name in merged for method in methods]
    return sized or ([QUANTIZE] if "bits" in merged else [SVD, AE])


def _several(name: str, value: Any, kind: Callable[[Any], T]) -> tuple[T, ...]:
    """Values in a list, in a text with commas between, or one alone. Raises `UsageError`."""
    values = value.split(",") if isinstance(value, str) else [*value] if isinstance(value, Sequence) else [value]
    example = _EXAMPLES.get(name, "some")
    try:
        found = tuple(kind(each.strip() if isinstance(each, str) else each) for each in values)
    except (ValueError, TypeError):
        raise UsageError(f"`{name}` takes values with commas between, such as {example}, not {value!r:.60}") from None
    if not found:
        raise UsageError(f"`{name}` takes one value or more, such as {example}, not none")
    return tuple(dict.fromkeys(found))


def _bits(value: Any) -> int | None:
    return None if value == NONE else int(value)


def _method(value: Any) -> str:
    return _ALIASES.get(str(value), str(value))


def _tasks(name: str, value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else [*value]
    named = [each.strip() for entry in given for each in str(entry).split(",")]
    if named == [NONE]:
        return ()
    return tuple(dict.fromkeys(task for each in named for task in ([*TASKS] if each == ALL else [each])))


def _calibrations(name: str, value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str | Path) or not isinstance(value, Sequence) else tuple(value)


_FINETUNING = ("epochs", "learning_rate", "train_embeddings", "precision")
_EXAMPLES = {
    "ratios": "2.5,5,10", "target_bits": "1.5,2,3", "bits": ",".join(map(str, (*BITS, NONE))),
    "blocks": "IQ4_NL,Q5_0", "seeds": "1,2,3", "fit_seeds": "1,2,3", "methods": ",".join(METHODS),
    "presets": ",".join(PRESETS),
}  # fmt: skip
_PARSED: dict[str, Callable[[str, Any], tuple[Any, ...]]] = {
    "ratios": lambda name, value: _several(name, value, float),
    "target_bits": lambda name, value: _several(name, value, float),
    "bits": lambda name, value: _several(name, value, _bits),
    "seeds": lambda name, value: _several(name, value, int),
    "fit_seeds": lambda name, value: _several(name, value, int),
    "methods": lambda name, value: _several(name, value, _method),
    "presets": lambda name, value: _several(name, value, str),
    "blocks": lambda name, value: _several(name, value, str),
    "task": _tasks,
    "calibration": _calibrations,
}
_NONE_TYPES: dict[str, type] = {
    "perplexity": bool, "similarity": bool, "limit": int, "limit_train": int, "limit_eval": int, "keep": str,
    "effort": str, "languages": str,
}  # fmt: skip
