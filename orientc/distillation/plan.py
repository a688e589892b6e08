"""What is to be tuned, on what and how: decided before a model is loaded."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from orientc.calibration.tokenized_text import CAUSAL, MASKED, SENTENCE, Passages
from orientc.distillation import data
from orientc.distillation.config import Settings
from orientc.errors import EvaluationError, UsageError
from orientc.evaluation.texts import Text
from orientc.models.resolve import Subject
from orientc.models.substitute import head_policies
from orientc.storage.sizes import TIED, UNTIED
from orientc.utils.files import file_sha256

_BATCH = {MASKED: 32, CAUSAL: 4, SENTENCE: 32}


class Plan:
    """Tuning that is settled but not done: its full `settings` are those of the artifact it leads to.

    `head` is a head policy; None for tied where the head shares the table. Raises `UsageError` or `EvaluationError`
    where the artifact can't be tuned so.
    """

    def __init__(self, found: Subject, text: Text, settings: Settings, head: str | None = None) -> None:
        if found.artifact is None or found.path is None:
            raise UsageError("what is tuned is an artifact, which ends in .safetensors")
        data.check(found.source)
        allowed = head_policies(found.source.skeleton)
        self.head = head or (TIED if TIED in allowed else UNTIED)
        if self.head not in allowed:
            raise EvaluationError(f"the head of {found.source.id} can be {' or '.join(allowed)}, not {self.head}")
        self.source, self.artifact, self.text = found.source, found.artifact, text
        parts = data.parted(text.content)
        self.passages, self.held_out = (Passages(found.source, part) for part in parts)
        self.batch_size = settings.batch_size or _BATCH[self.passages.objective]
        self.asked = replace(settings, batch_size=self.batch_size)
        own = {name: value for name, value in asdict(self.asked).items() if value is not None}
        own |= {"from_sha256": file_sha256(found.path), "head": self.head}
        own |= {"text": text.name, "text_sha256": text.sha256, **self.passages.settings}
        untuned = {
            name: value for name, value in self.artifact.description.settings.items() if not name.startswith("tuned_")
        }
        self.settings: dict[str, Any] = untuned | {f"tuned_{name}": value for name, value in own.items()}
