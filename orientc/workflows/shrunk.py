"""What `shrink` leaves, as plain values that can be kept in a file and read again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orientc.utils import folders
from orientc.utils.documents import document, marks
from orientc.utils.files import INFINITY, file_sha256, read_bytes
from orientc.workflows.fresh_process import Loaded
from orientc.workflows.ruler import Outcome
from orientc.workflows.search import Tried
from orientc.workflows.tolerance import called, difference_in_words

_LARGEST = 1_000_000  # bytes of a file that says what was done
PAYS = 0.15  # of the model: where the table is less than that, making it smaller still hardly changes the model


@dataclass(frozen=True)
class Predicted:
    """A size without a measurement: `bits` per weight, bytes of table and model, loss in nats per token.

    `loss` and `table` are None where no form is so small.
    """

    bits: float
    table: int | None
    model: int | None
    loss: float | None


@dataclass(frozen=True)
class Verdict:
    """What the exported folder loses, measured on a text that nothing was chosen on.

    Attributes:
        measure: "perplexity", "similarity" or "spearman".
        text: Name of the text.
        outcome: The figures.
        tolerance: What was asked for, as it was given; None where a size was.
        allowed: The largest difference inside; None where a size was given.
        alone: What the body's bits cost, the table as it was; None where the body is not quantized.
    """

    measure: str
    text: str
    outcome: Outcome
    tolerance: str | None
    allowed: float | None
    alone: Outcome | None = None

    @property
    def inside(self) -> bool | None:
        """Whether the difference is within the tolerance; None where there is none."""
        return None if self.allowed is None else self.outcome.difference <= self.allowed

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What a card says of it, by name."""
        found = [(f"{called(self.measure)} on {self.text}", self._lost(self.outcome))]
        found += [("with the body's bits alone", self._lost(self.alone))] if self.alone else []
        return found + [(name, f"{value:.4g}") for name, value in self.outcome.also.items()]

    def _lost(self, outcome: Outcome) -> str:
        told = difference_in_words(self.measure, outcome.difference, outcome.error)
        return f"{outcome.original:.4g} → {outcome.here:.4g} ({told})"


@dataclass(frozen=True)
class Shrunk:
    """A model made smaller.

    Attributes:
        model: The model argument.
        folder: The exported folder, or GGUF file; None of a dry run.
        artifact: The artifact it was made from; of several the first.
        artifacts: All artifacts it was made from, one for each table that is compressed.
        calibration: The calibration; None of a dry run that had to measure one.
        bits: Bits per weight of the artifacts.
        head: Head policy of the folder.
        body: What linear layers were quantized to, "none" where they were not.
        texts: Names of the texts, by what they were for: "calibration", "search", "verdict".
        table: Bytes of the compressed tables in the folder, `base_table` before.
        weights: Bytes of the weight files, `base_weights` before.
        halved: What the weight files would be in float16; None where they are in 16 bits already.
        verdict: What it cost.
        tried: The sizes that were measured, in their order.
        bounds: Between which sizes was looked, a line each.
        predicted: Of a dry run, sizes with what they are predicted to cost.
        load: The line of Python that loads the folder.
        loaded: How it loaded in a process without orientc.
        needs: What has to be installed for that, as pip names it.
        block: The block types of a GGUF file's tables, with commas between; None of a folder.
        url: Address on the hub; None where it was not pushed.
        fresh: False where all of it was done before.
        seconds: How long it took.
    """

    model: str
    folder: Path | None
    artifact: Path | None
    artifacts: tuple[Path, ...]
    calibration: Path | None
    bits: float | None
    head: str
    body: str
    texts: Mapping[str, str]
    table: int | None
    base_table: int
    weights: int | None
    base_weights: int
    halved: int | None
    verdict: Verdict | None
    tried: tuple[Tried, ...]
    bounds: tuple[str, ...]
    predicted: tuple[Predicted, ...]
    load: str | None
    loaded: Loaded | None
    needs: tuple[str, ...] = ()
    block: str | None = None
    url: str | None = None
    fresh: bool = True
    seconds: float = 0.0

    @property
    def inside(self) -> bool | None:
        """Whether the verdict is within the tolerance; None where there is no verdict, or a size was asked for."""
        return self.verdict.inside if self.verdict else None

    @property
    def share(self) -> float | None:
        """The table's share of the model in the folder; None of a dry run."""
        return None if self.table is None or not self.weights else self.table / self.weights

    def as_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        values = dataclasses.asdict(self)
        for name in ("folder", "artifact", "calibration"):
            values[name] = None if values[name] is None else str(values[name])
        values["artifacts"] = [str(path) for path in self.artifacts]
        values["tried"] = [dataclasses.asdict(entry) | {"upper": entry.upper} for entry in self.tried]
        return document("shrink", values | {"inside": self.inside, "share": self.share})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shrunk:
        """Read what `as_dict` wrote. Raises `KeyError`, `TypeError` or `ValueError` where it is something else."""
        if any(values[mark] != value for mark, value in marks("shrink").items()):
            raise ValueError("another format")
        known = {entry.name: values[entry.name] for entry in dataclasses.fields(cls)}
        for name in ("folder", "artifact", "calibration"):
            known[name] = None if known[name] is None else Path(known[name])
        known["artifacts"] = tuple(map(Path, known["artifacts"]))
        names = {entry.name for entry in dataclasses.fields(Tried)}
        known["tried"] = tuple(Tried(**_numbers({name: entry[name] for name in names})) for entry in known["tried"])
        known["predicted"] = tuple(Predicted(**entry) for entry in known["predicted"])
        known["bounds"], known["needs"] = tuple(known["bounds"]), tuple(known["needs"])
        if known["verdict"] is not None:
            outcomes = {name: known["verdict"][name] for name in ("outcome", "alone")}
            read = {name: None if entry is None else Outcome(**_numbers(entry)) for name, entry in outcomes.items()}
            known["verdict"] = Verdict(**known["verdict"] | read)
        if known["loaded"] is not None:
            known["loaded"] = Loaded(**known["loaded"])
        return cls(**known)


def marked(folder: Path) -> str:
    """What tells an exported folder, or file, from another at its place. Raises `OSError` where there is none."""
    return file_sha256(folder if folder.is_file() else folder / folders.LIST)


def left_before(state: Path, folder: Path) -> Shrunk | None:
    """What the same request left before; None where there is none, or the folder is another by now."""
    try:
        values = json.loads(read_bytes(state, _LARGEST))
        if values["sha256"] != marked(folder):
            return None
        return replace(Shrunk.from_dict(values), fresh=False, url=None)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values read from JSON, in which an infinite number is a word."""
    nested = {name: _numbers(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: float(value) if value in (INFINITY, f"-{INFINITY}") else value for name, value in nested.items()}
