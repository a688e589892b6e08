"""What a folder that `glue` or `squad` saved was made from, and the figures it has: from the record beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from orientc.comparison.formats import escaped
from orientc.errors import RecordError
from orientc.models.fingerprint import fingerprint
from orientc.models.source import ModelSource
from orientc.storage import records
from orientc.storage.records import Record

_HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model's record, and whether the model is still the one that was scored."""

    record: Record
    unchanged: bool

    @classmethod
    def of(cls, source: ModelSource) -> Finetuned | None:
        """Find the record beside a model's folder; None where there is none."""
        if source.local is None or source.gguf:
            return None
        folder = source.local.absolute()
        try:
            record = records.read(folder.with_name(f"{folder.name}.json"))
        except RecordError:
            return None
        # as it was when it was scored: no code runs for it, whatever is allowed now
        return cls(record, record.finetuned == fingerprint(ModelSource.resolve(folder)))

    @property
    def base(self) -> str | None:
        """The hub id of the model it was fine-tuned from; None for a model on somebody's machine."""
        id: str = self.record.model["id"]
        try:
            validate_repo_id(id)
        except HFValidationError:
            return None
        return id if self.record.model.get("revision") else None

    @property
    def origin(self) -> str:
        """What it was fine-tuned on and from, as Markdown."""
        name = escaped(self.base or Path(self.record.model["id"]).name)
        base = f"[{name}]({_HUB}/{quote(self.base)})" if self.base else name
        task = (self.record.data or {}).get("task") or self.record.kind
        return f"It was fine-tuned on {escaped(str(task))} from {base}."
