"""The fingerprint of a model: one hash over everything that loading it reads, and nothing else.

Models of equal fingerprint give equal figures. Of a folder it is over the names and contents of: the configurations,
the weight files that loading picks (an index's shards and no others), every file that a tokenizer of transformers may
read, the files of a sentence encoder and its modules, and Python code where it is trusted. Of a model on the hub it is
the commit, and the commit of each other repository whose code is trusted. What else lies in a folder (artifacts,
records, checkpoints of a training, a card) does not count, nor where the folder is or what it is called.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import resolve_revision
from transformers import CONFIG_MAPPING

from orientc.errors import ModelError, ModelNotFoundError
from orientc.models import hub
from orientc.models.checkpoint import PICKLES, WEIGHTS, shards_of
from orientc.models.source import ModelSource
from orientc.utils.content_hash import content_hash
from orientc.utils.files import canonical_json, stays_inside

CONFIGS = ("config.json", "config.*.json", "generation_config.json", "adapter_config.json")
VOCABULARIES = (  # as transformers' tokenizers call them
    "bpe.codes", "byte_maps.json", "dict.txt", "emoji.json", "entity_vocab.json", "merges.txt", "normalizer.json",
    "prophetnet.tokenizer", "sentencepiece.bpe.model", "sentencepiece.model", "source.spm", "spiece.model", "spm.model",
    "spm_char.model", "target.spm", "target_vocab.json", "tekken.json", "tokenizer.model", "vocab-src.json",
    "vocab-tgt.json", "vocab.json", "vocab.txt", "word_pronunciation.json", "word_shape.json", "*.model",
    "tokenizer.model.*", "*.tiktoken",
)  # fmt: skip
TOKENIZERS = (
    "tokenizer.json", "tokenizer.*.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.*", "additional_chat_templates/*.jinja", "*processor_config.json", *VOCABULARIES,
)  # fmt: skip
LISTS = ("modules.json", "router_config.json")  # of a sentence encoder's modules, which name their folders
SENTENCES = (*LISTS, "config_sentence_transformers.json", "sentence_*_config.json", "*_Pooling/config.json")
# where one of these is in a folder, transformers reads all its safetensors files
_DISTRIBUTED = re.compile(r"shard-[0-9]{5}-model-[0-9]{5}-of-[0-9]{5}\.safetensors")
_LARGEST_CODE = 1 << 24  # bytes


def fingerprint(source: ModelSource) -> str:
    """The fingerprint of a model as it is now, 64 hex digits.

    Raises:
        ModelError: A file can't be read, or an index of weights is damaged.
        ModelNotFoundError: The hub does not know the model, or can't be reached.
    """
    try:
        content: dict[str, Any] = {"code": _repositories(source)} if source.trust_remote_code else {}
        if source.local is None:
            content["commit"] = source.commit
        else:
            content["files"] = {name: content_hash(path) for name, path in sorted(files(source).items())}
    except OSError as error:
        raise ModelError(f"{source.id} can't be read: {error.filename}: {error.strerror or error}") from error
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def check_unchanged(source: ModelSource, before: str) -> None:
    """Raise `ModelError` where the fingerprint is not what it was before the model was loaded.

    What was made from a mixture would be no model's.
    """
    if fingerprint(source) != before:
        raise ModelError(f"{source.id} was changed while it was read: start again")


def files(source: ModelSource) -> dict[str, Path]:
    """All files that loading a model on this machine reads, by their names in its folder; `OSError` where it fails."""
    assert source.local is not None
    folder = source.local.parent if source.gguf else source.local
    found = {name: folder / name for name in _named(folder)}
    if source.gguf:
        return found | {".gguf": source.gguf}  # whatever it is called
    found |= {name: folder / name for name in [*_weights(source, folder), *_of_modules(folder)]}
    if source.trust_remote_code:
        found |= {name: folder / name for name in _code(folder, found)}
    return {name: path for name, path in found.items() if path.is_file()}


def _named(folder: Path) -> Iterator[str]:
    """Configurations and files of tokenizers and sentence encoders, by their names."""
    for pattern in (*CONFIGS, *TOKENIZERS, *SENTENCES):
        yield from (path.relative_to(folder).as_posix() for path in folder.glob(pattern))


def _weights(source: ModelSource, folder: Path) -> Iterator[str]:
    """The weight files that loading picks: the first of its names that is there, with the shards of an index."""
    there = os.listdir(folder)
    if any(map(_DISTRIBUTED.fullmatch, there)):
        yield from (name for name in there if name.endswith(".safetensors"))
    names = (*WEIGHTS, *(PICKLES if source.allow_pickle else ()))
    configurations = _configurations(source)
    configured = [config.get("transformers_weights") for config in configurations]
    for name in [next((name for name in names if (folder / name).is_file()), None), *configured]:
        if isinstance(name, str) and stays_inside(name) and (folder / name).is_file():
            yield name
            yield from shards_of(folder / name)
    for config in configurations:
        if isinstance(kind := config.get("model_type"), str) and kind in CONFIG_MAPPING:
            yield from getattr(CONFIG_MAPPING[kind], "extra_files", ())


def _of_modules(folder: Path) -> Iterator[str]:
    """All files in the folders of a sentence encoder's modules."""
    named = {text for name in LISTS for text in _texts(_json(folder / name)) if stays_inside(text)}
    for place in (folder / text for text in named):
        if place.is_dir() and place.resolve() != folder.resolve():
            yield from _below(folder, place)


def _code(folder: Path, known: dict[str, Path]) -> Iterator[str]:
    """Python files, and others that a Python file names: a tokenizer of its own reads a vocabulary of its own."""
    below = [name for name in _below(folder, folder) if name not in known]
    modules = [name for name in below if name.endswith(".py")]
    yield from modules
    text = "\n".join((folder / name).read_bytes()[:_LARGEST_CODE].decode(errors="replace") for name in modules)
    yield from (name for name in below if name.rpartition("/")[2] in text)


def _below(folder: Path, part: Path) -> Iterator[str]:
    """All files below a part of a folder, by their names in the folder; what is hidden is passed over."""
    for place, inner, names in os.walk(part, followlinks=False):
        inner[:] = [name for name in inner if not name.startswith(".") and name != "__pycache__"]
        yield from (Path(place, name).relative_to(folder).as_posix() for name in names if not name.startswith("."))


def _repositories(source: ModelSource) -> dict[str, str]:
    """The repositories whose code a model runs, and their commits; "" for its own, which has the model's."""
    found: dict[str, str] = {}
    for reference in sorted({name for config in _configurations(source) for name in _references(config)}):
        repository = reference.partition("--")[0] if "--" in reference else ""
        if repository and (folder := Path(repository)).is_dir():  # transformers takes a folder first, too
            found[repository] = canonical_json({name: content_hash(folder / name) for name in _code(folder, {})})
        elif repository:
            try:
                with hub.errors(repository, None):
                    found[repository] = str(resolve_revision(repository).resolved)
            except ModelNotFoundError:  # named, but not to be had: where loading needs it, loading says so
                found[repository] = "unknown"
        else:
            found[repository] = ""
    return found


def _configurations(source: ModelSource) -> list[dict[str, Any]]:
    """What the files say that may name code or weights; none of a GGUF file."""
    if source.gguf:
        return []
    names, found = ["config.json", "tokenizer_config.json"], []
    for name in names:
        path = source.file(name)
        if path is not None and isinstance(config := _json(path), dict):
            found.append(config)
            names += [other for other in _texts(config.get("configuration_files")) if other not in names]
    return found


def _references(value: Any, *, named: bool = False) -> Iterator[str]:
    """The classes that `auto_map` entries name, in whatever depth: "module.Class" or "repository--module.Class"."""
    if named and isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _references(entry, named=named or key == "auto_map")
    elif isinstance(value, list):
        for entry in value:
            yield from _references(entry, named=named)


def _texts(value: Any) -> Iterator[str]:
    """All strings in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
