"""The state of an unfinished tuning run, in one safetensors file beside the artifact to be made.

Tensors by the names that training gives them; string metadata: `format` ("orientc-state"), `run` (JSON: everything that
the run's result depends on), `step`, and `evaluations` (JSON: those so far). The file is written whole or not at all.
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


@dataclass(frozen=True)
class ResumeState:
    """What training needs to continue after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    evaluations: list[dict[str, Any]]


@dataclass(frozen=True)
class ResumeFile:
    """The file that one run keeps its state in; `run` is everything that its result depends on, as JSON values."""

    path: Path
    run: dict[str, Any]

    def save(self, state: ResumeState) -> None:
        """Replace the state in the file. Raises `OutputError`."""
        metadata = {
            "format": FORMAT,
            "run": self._identity,
            "step": str(state.step),
            "evaluations": canonical_json(state.evaluations),
        }
        safetensors_file.write(self.path, metadata, state.tensors)

    def load(self, *, resume: bool, overwrite: bool) -> ResumeState | None:
        """Read the state to continue from; None where the run starts from the beginning.

        Raises `OutputError` where the file is damaged or of another run, and where it is of this one but neither
        `resume` nor `overwrite` is set.
        """
        if not self.path.exists():
            return None
        if not safetensors_file.is_ours(self.path):
            raise OutputError(f"{self.path} is in the way, and orientc did not write it: move it")
        if overwrite:
            return None
        try:
            content = safetensors_file.read(self.path)
            metadata, tensors = content.header.metadata, content.tensors
            if metadata.get("format") != FORMAT:
                raise DamagedError("it is something else")
            step, evaluations = int(metadata["step"]), json.loads(metadata["evaluations"])
            same = metadata["run"] == self._identity
        except (DamagedError, OSError, ValueError, KeyError, RecursionError) as error:
            raise OutputError(f"{self.path} can't be resumed from ({error}): start over with `overwrite`") from None
        if not same:
            raise OutputError(f"{self.path} is of another run: start over with `overwrite`")
        if not resume:
            raise OutputError(
                f"an interrupted run has left {self.path}: go on from step {step} with `resume`, or start over with "
                "`overwrite`"
            )
        return ResumeState(step, tensors, evaluations)

    def remove(self) -> None:
        """Remove the file, if it is there and ours."""
        if safetensors_file.is_ours(self.path):
            self.path.unlink(missing_ok=True)

    @property
    def _identity(self) -> str:
        return canonical_json(strict_json(self.run))
