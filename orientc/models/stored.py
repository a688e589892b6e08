"""The tensors of a model's checkpoint, by the names that they have in the model.

Transformers' renaming rules say which key of the files becomes which parameter. Of a sharded checkpoint only those
shards are downloaded and opened that hold what is read.
"""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from orientc.errors import ModelError, ModelNotFoundError, TrustError
from orientc.models.checkpoint import PICKLES, WEIGHTS, read_index
from orientc.utils.messages import first_line

if TYPE_CHECKING:
    from orientc.models.files import ModelFiles

_ROWS = 4096  # compared at a time
_FLOATS = re.compile(r"B?F(16|32|64)")  # safetensors' names of the types that are no codes


class Checkpoint:
    """What a checkpoint stores.

    Args:
        source: The model.
        outline: The model as its configuration describes it; only its names matter.

    Raises:
        TrustError: There are only `.bin` weights, which are not allowed.
        ModelError: There are no weights that can be read, or they are damaged; reading raises it too.
    """

    def __init__(self, source: ModelFiles, outline: PreTrainedModel) -> None:
        self._source, self._outline = source, outline
        self._path = _weights(source)
        self._pickles = self._path.name not in WEIGHTS  # the names in an index don't decide that
        self._shards: dict[str, str] | None = None
        self._total = 0  # 0 where no index says it
        if self._path.suffix == ".json":
            self._shards, self._total = read_index(self._path)

    @cached_property
    def keys_of(self) -> Mapping[str, list[str]]:
        """The keys that transformers would load into a parameter, by the parameter's name, sorted."""
        found: dict[str, list[str]] = {}
        for key, names in sorted(self._names.items()):
            for name in names:
                found.setdefault(name, []).append(key)
        return found

    @property
    def unknown(self) -> list[str]:
        """Keys that the model has no place for."""
        return [key for key, names in self._names.items() if not names]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors; a table that is stored under several names is counted as often."""
        if self._total:
            return self._total
        if self._pickles:
            with self._pickled(self._path) as state:
                return sum(tensor.nbytes for tensor in state.values())
        total = 0
        for path in {self._file(key) for key in self._names}:
            with self._damage(path):
                total += _bytes_of(path)
        return total

    def read(self, key: str) -> Tensor:
        """Read a tensor by its key."""
        path = self._file(key)
        if self._pickles:
            with self._pickled(path) as state:
                return state[key].clone()
        with self._damage(path), safe_open(path, framework="pt") as file:
            found: Tensor = file.get_tensor(key)
            return found

    def nbytes_of(self, key: str) -> int:
        """Bytes of a tensor by its key."""
        path = self._file(key)
        if self._pickles:
            with self._pickled(path) as state:
                return state[key].nbytes
        with self._damage(path), safe_open(path, framework="pt") as file:
            return _bytes_of_slice(file.get_slice(key))

    def check_floats(self) -> None:
        """Raise `ModelError` where codes are stored for a parameter of floats: they would be taken for its numbers."""
        state = self._outline.state_dict()
        floats = {key for key, names in self._names.items() if any(state[name].is_floating_point() for name in names)}
        if codes := sorted(key for key in self._codes() if key in floats):
            raise ModelError(
                f"{self._source.id} is quantized ({codes[0]} holds codes), but its config.json does not say how: "
                "it lacks a quantization_config"
            )

    def kept_apart(self) -> frozenset[str]:
        """Parameters that the architecture ties, but that are stored with numbers of their own: the tied names.

        A parameter is tied again on loading where only one of both is stored, or both are the same.
        """
        keys = {name: found[0] for name, found in self.keys_of.items()}
        apart = set()
        for target, name in self._outline.all_tied_weights_keys.items():
            if target in keys and name in keys:
                if not _same(self.read(keys[target]), self.read(keys[name])):
                    apart.add(target)
            elif target in keys:  # it stands in for what it is tied to
                keys[name] = keys[target]
        return frozenset(apart)

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """The parameters that each key of the checkpoint is loaded into, by name: one, several of parts, or none."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        rules = get_model_conversion_mapping(self._outline)
        renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
        state, prefix = self._outline.state_dict(), self._outline.base_model_prefix
        found: dict[str, list[str]] = {}
        for key in self._keys():
            renamed, pattern = rename_source_key(key, renamings, converters, prefix, state)
            if renamed not in state:
                renamed, pattern = rename_source_key(key, [], [], prefix, state)
            # a tensor that is cut in parts goes by the first one's name
            parts = next((rule.target_patterns for rule in converters if pattern in rule.source_patterns), [""])
            found[key] = [name for part in parts if (name := renamed.replace(parts[0], part, 1)) in state]
        return found

    def _codes(self) -> Iterator[str]:
        """Keys of tensors that are no floats of at least 16 bits."""
        if self._pickles:
            for path in {self._file(key) for key in self._names}:
                with self._pickled(path) as state:
                    yield from (
                        key for key, tensor in state.items() if not tensor.is_floating_point() or tensor.itemsize < 2
                    )
            return
        for path in {self._file(key) for key in self._names}:
            with self._damage(path), safe_open(path, framework="pt") as file:
                kinds = {key: file.get_slice(key).get_dtype() for key in list(file.keys())}
            yield from (key for key, kind in kinds.items() if not _FLOATS.fullmatch(kind))

    def _keys(self) -> list[str]:
        if self._shards is not None:
            return list(self._shards)
        if self._pickles:
            with self._pickled(self._path) as state:
                return list(state)
        with self._damage(self._path), safe_open(self._path, framework="pt") as file:
            return list(file.keys())

    def _file(self, key: str) -> Path:
        """The file that holds a key; a shard is downloaded if need be."""
        if self._shards is None:
            return self._path
        if (path := self._source.file(self._shards[key])) is None:
            raise ModelError(f"{self._source.id} lacks the file {self._shards[key]} that its index names")
        return path

    @contextmanager
    def _damage(self, path: Path) -> Iterator[None]:
        """Within it what reading a file raises becomes a `ModelError` that names the file."""
        try:
            yield
        except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, LookupError, EOFError) as error:
            raise ModelError(f"{path} is damaged: {first_line(error)}") from error

    @contextmanager
    def _pickled(self, path: Path) -> Iterator[dict[str, Tensor]]:
        """Within it the tensors of a `.bin` file are there, by key."""
        with self._damage(path):
            try:
                loaded = torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True)
            except pickle.UnpicklingError as error:
                raise ModelError(
                    f"{path} is damaged, or holds more than tensors: it is not read any further"
                ) from error
            items = loaded.items() if isinstance(loaded, dict) else ()
            yield {key: value for key, value in items if isinstance(key, str) and isinstance(value, Tensor)}


def _weights(source: ModelFiles) -> Path:
    """Find the checkpoint's one file or the index of its shards; safetensors before `.bin`."""
    missing: ModelNotFoundError | None = None
    for name in (*WEIGHTS, *(PICKLES if source.allow_pickle else ())):
        try:
            if (path := source.file(name)) is not None:
                return path
        except ModelNotFoundError as error:  # without the hub another of these files may be in the cache
            missing = error
    if missing:
        raise missing
    if not source.allow_pickle and any(map(source.has, PICKLES)):
        raise TrustError(f"{source.id} has no safetensors weights: allow .bin files with `allow_pickle`")
    raise ModelError(f"{source.id} has no weights that can be read: no {WEIGHTS[0]} and no {PICKLES[0]}")


def _bytes_of(path: Path) -> int:
    """Bytes of all tensors of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return sum(_bytes_of_slice(file.get_slice(key)) for key in list(file.keys()))


def _bytes_of_slice(piece: Any) -> int:
    """Bytes of a tensor of a safetensors file, whose numbers are not read."""
    bits: int = math.prod(piece.get_shape()) * _item_bits(piece.get_dtype())
    return bits // 8


def _item_bits(code: str) -> int:
    """Bits of one number by safetensors' code of the type: F32, BF16, F8_E4M3, BOOL …"""
    bits = re.match(r"[A-Z]+(\d+)", code)
    return int(bits[1]) if bits else 8


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same numbers, NaN counted as one, whatever their types."""
    if one.shape != other.shape:
        return False

    def alike(first: Tensor, second: Tensor) -> bool:
        first, second = first.double(), second.double()
        return bool(((first == second) | (first.isnan() & second.isnan())).all())

    return all(map(alike, one.split(_ROWS), other.split(_ROWS)))
