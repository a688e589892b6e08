"""Names of code in a model folder's JSON files: what loading such a folder would import and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orientc.utils.files import write_json

# Maps of tokens and tensors by name, where nobody looks for code and any key means itself.
_MAPS = {"tokenizer.json", "vocab.json", "added_tokens.json"}
_MAPS_END = ".index.json"
# Beside `auto_map`: by key, of which type a value is that names code, or trusts it unasked.
_KINDS: dict[str, tuple[type, ...]] = {
    "custom_pipelines": (dict,),
    "code_revision": (str,),
    "trust_remote_code": (bool, str),
}
_KERNELS = {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}


def is_foreign(kind: type) -> bool:
    """Whether a class comes from a repository's code rather than from transformers."""
    return kind.__module__.partition(".")[0] != "transformers"


def strip(folder: Path) -> None:
    """Remove from all JSON files in a folder the names of code that is not in the folder itself.

    An entry of `auto_map` stays where the file it names lies in the folder; `custom_pipelines`, kernels of the hub, and
    settings that trust code unasked go in any case.
    """
    own = {path.stem for path in folder.glob("*.py")}
    for path in sorted(folder.rglob("*.json")):
        if path.name in _MAPS or path.name.endswith(_MAPS_END):
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):  # nobody else can read it either
            continue
        if (kept := _without(values, own)) != values:
            write_json(path, kept)


def _without(value: Any, own: set[str]) -> Any:
    if isinstance(value, list):
        return [_without(entry, own) for entry in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, entry in value.items():
        if key == "auto_map" and isinstance(entry, str | list | dict):
            entry = _own_entries(entry, own)
            if not entry:
                continue
        elif isinstance(entry, _KINDS.get(key, ())) or (key in _KERNELS and isinstance(entry, str) and "/" in entry):
            continue
        kept[key] = _without(entry, own)
    return kept


def _own_entries(places: Any, own: set[str]) -> Any:
    """Of an `auto_map` the entries whose files are there; a tokenizer's can be a list of a slow and a fast class."""
    if isinstance(places, dict):
        return {auto: place for auto, place in places.items() if _own_entries(place, own)}
    named = [place for place in (places if isinstance(places, list) else [places]) if place is not None]
    fits = all(isinstance(place, str) and place.rpartition(".")[0] in own for place in named)
    return places if named and fits else None
