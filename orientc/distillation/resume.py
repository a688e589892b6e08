"""Where a long run stands, as a file to go on from: one safetensors file beside what the run is to leave.

Tensors as the run names them; string metadata: `format` ("orientc-state"), `run` (JSON: all its result depends on),
`step`, and `reports` (JSON: what it reported so far). Written whole or not at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from orientc.errors import OutputError
from orientc.storage import safetensors_file
from orientc.storage.safetensors_file import DamagedError
from orientc.utils.files import canonical_json, strict_json

FORMAT = "orientc-state"
SUFFIX = ".unfinished"


@dataclass(frozen=True)
class State:
    """Where a run stands after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    reports: list[dict[str, Any]]


@dataclass(frozen=True)
class Unfinished:
    """The file of one run; `run` is all its result depends on, as JSON values."""

    path: Path
    run: dict[str, Any]

    def save(self, state: State) -> None:
        """Keep a state in the place of the one before. Raises `OutputError`."""
        metadata = {
            "format": FORMAT,
            "run": self._identity,
            "step": str(state.step),
            "reports": canonical_json(state.reports),
        }
        safetensors_file.write(self.path, metadata, state.tensors)

    def last(self, *, resume: bool, overwrite: bool) -> State | None:
        """The state to go on from; None where the run starts afresh.

        Raises `OutputError` where the file is no state of this run, or is one and neither `resume` nor `overwrite`
        says what to do with it.
        """
        if overwrite or not self.path.exists():
            return None
        try:
            metadata = safetensors_file.read_header(self.path).metadata
            if metadata.get("format") != FORMAT:
                raise DamagedError("it is something else")
            step, reports = int(metadata["step"]), json.loads(metadata["reports"])
            same, tensors = metadata["run"] == self._identity, safetensors_file.read_tensors(self.path)
        except (DamagedError, OSError, ValueError, KeyError, RecursionError) as error:
            raise OutputError(f"{self.path} can't be gone on from ({error}): start over with --overwrite") from None
        if not same:
            raise OutputError(f"{self.path} is of another run: start over with --overwrite")
        if not resume:
            raise OutputError(
                f"an interrupted run has left {self.path}: go on from step {step} with --resume, or start over with "
                "--overwrite"
            )
        return State(step, tensors, reports)

    def clear(self) -> None:
        """Remove the file, if it is there."""
        self.path.unlink(missing_ok=True)

    @property
    def _identity(self) -> str:
        return canonical_json(strict_json(self.run))
