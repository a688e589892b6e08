"""Files of what prepares pictures, sounds and chats for a model, which an export takes along."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from orientc.errors import ModelError
from orientc.models.source import ModelSource
from orientc.utils.files import copy_files, write_json
from orientc.utils.messages import first_line

_CONFIGS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
_TOKENIZER = "tokenizer_config.json"
_CHAT = "chat_template.json"  # a processor's; a tokenizer writes its own
_KEY = "processor_class"


@dataclass(frozen=True)
class Processor:
    """The processor of a model.

    Attributes:
        files: Its files, by their names in the model's folder.
        name: Its class in transformers; None where there is none, and its files are for parts of one.
    """

    files: Mapping[str, Path]
    name: str | None

    @classmethod
    def of(cls, source: ModelSource) -> Processor:
        """Find a model's processor; a model of text alone has no files of one.

        Raises `ModelError` where a file can't be read.
        """
        files = {name: path for name in (*_CONFIGS, _CHAT) if (path := source.file(name))}
        if not files.keys() & {*_CONFIGS}:
            return cls(files, None)
        named = [_values(path).get(_KEY) for name, path in files.items() if name in _CONFIGS]
        if (path := source.file(_TOKENIZER)) is not None:
            named.append(_values(path).get(_KEY))
        found = next(filter(None, named), None) or PROCESSOR_MAPPING_NAMES.get(source.config.model_type)
        return cls(files, found if found in PROCESSOR_MAPPING_NAMES.values() else None)

    def save(self, folder: Path) -> None:
        """Copy the files, and name the class in them: the architecture tells it to nobody who does not know that."""
        copy_files(self.files, folder)
        if self.name is not None:
            path = folder / next(name for name in _CONFIGS if name in self.files)
            write_json(path, _values(path) | {_KEY: self.name})


def _values(path: Path) -> dict[str, Any]:
    """The settings in a file. Raises `ModelError` where there are none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} can't be read as a processor's settings: {first_line(error)}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} can't be read as a processor's settings: it holds no object")
    return values
