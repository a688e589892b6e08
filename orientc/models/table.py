"""Read one of a model's tables, and nothing else of the model.

`models/tables.py` names the parameter; `models/stored.py` finds it in the checkpoint.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orientc.errors import FitError, ModelError, NoTableError, UsageError
from orientc.modeling.factors import CHUNK, Factors
from orientc.modeling.modules import CompressedEmbedding, CompressedTable, embedding_scale, table_of
from orientc.modeling.swap import module_of, named_tensors, shares, users_of
from orientc.modeling.table_names import HEAD, INPUT
from orientc.models import compact
from orientc.models.source import ModelSource
from orientc.models.tables import ModelTable, table_named
from orientc.storage import gguf_file
from orientc.storage.artifact import check_ids
from orientc.storage.safetensors_file import DamagedError
from orientc.storage.table_info import TableInfo
from orientc.utils.messages import first_line

GGUF_TABLE = "token_embd.weight"  # its name in a GGUF file
GGUF_HEAD = "output.weight"
GGUF_NAMES = {INPUT: GGUF_TABLE, HEAD: GGUF_HEAD}


@dataclass(frozen=True)
class Table:
    """A table of a model.

    Attributes:
        weight: `[vocab, dim]`, of the checkpoint's float type; float32 where it was dequantized or decoded.
        info: The facts of the table and its model.
    """

    weight: Tensor
    info: TableInfo

    def check_finite(self) -> None:
        """Raise `FitError` where a number is not finite in float32; it names the first such row."""
        for number, block in enumerate(self.weight.split(CHUNK)):
            finite = block.float().isfinite().all(dim=1)
            if not finite.all():
                row = number * CHUNK + int((~finite).nonzero()[0])
                raise FitError(f"row {row} of the table holds a number that is not finite: the checkpoint is damaged")


@dataclass(frozen=True)
class _Stored:
    """A tensor of a checkpoint, or the compressed table that a compact model's tensors make.

    Attributes:
        content: The tensor, or the compressed table.
        dtype: Type of its numbers in the checkpoint.
        nbytes: Bytes in the checkpoint.
        checkpoint_bytes: Bytes of all the checkpoint's tensors.
        sha256: Hash of the numbers.
    """

    content: Tensor | Factors
    dtype: str
    nbytes: int
    checkpoint_bytes: int
    sha256: str

    @property
    def tensor(self) -> Tensor:
        """The tensor; a compressed table is decoded."""
        return self.content.dense() if isinstance(self.content, Factors) else self.content


def read_table(
    model: str | Path | ModelSource | Table,
    *,
    table: str | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Table:
    """Read a table of a model, unless another is named that which tokens are looked up in.

    Args:
        model: Hub id, local folder, `.gguf` file or "demo", or a source; a table that was read is returned as it is.
        table: "input"; "head", the output projection's own; or the name of another embedding, as `inspect` lists them.
        revision: Branch, tag or commit on the hub.
        allow_pickle: Read `.bin` weights too (tensors only).
        trust_remote_code: Run Python code from the model's repository.

    Raises:
        NoTableError: The model has no such table.
        TrustError: There are only `.bin` weights, or the model needs code of its own.
        ModelError: The model can't be found or read.
        UsageError: Options are given for a source or table, which has them already.
    """
    options: dict[str, Any] = {
        "revision": revision, "allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code,
    }  # fmt: skip
    if isinstance(model, Table):
        if table not in (None, model.info.table):
            raise UsageError(f"`table` is for a model: what is given is its {model.info.table} table already")
        if given := [name for name, value in options.items() if value]:
            raise UsageError(f"`{given[0]}` is for a model that is named, not for a table that was read already")
        return model
    source, name = ModelSource.resolve(model, **options), table or INPUT
    stored = _read(source, name)
    return Table(stored.tensor, _info(source, name, stored))


def table_info(model: str | Path | ModelSource | Table, table: str = INPUT) -> TableInfo:
    """Read the facts of a model's table; a compact model's is hashed but not decoded.

    Arguments and errors are those of `read_table`.
    """
    if isinstance(model, Table):
        return model.info
    source = ModelSource.resolve(model)
    return _info(source, table, _read(source, table))


def _read(source: ModelSource, name: str) -> _Stored:
    anchor = _anchor(source, name)
    if isinstance(anchor, CompressedTable):
        return _read_factors(source, anchor)
    parameter = table_of(anchor)
    return _read_gguf(source, parameter, name) if source.gguf else _read_tensor(source, parameter)


def _info(source: ModelSource, name: str, stored: _Stored) -> TableInfo:
    skeleton, table, anchor = source.skeleton, table_named(source.skeleton, name, source.id), _anchor(source, name)
    head = skeleton.get_output_embeddings()
    users = users_of(skeleton, name).values()
    lookup = next((user for user in users if isinstance(user, nn.Embedding | CompressedEmbedding)), anchor)
    lookup = anchor if name == INPUT else lookup
    compressed = compact.compressed_tables(skeleton)
    own = {id(tensor) for module in compressed.values() for tensor in module.factors.tensors.values()}  # codes, too
    body = sum(parameter.numel() for parameter in skeleton.parameters() if id(parameter) not in own)
    return TableInfo(
        id=source.id,
        revision=source.commit,
        sha256=stored.sha256,
        vocab=table.vocab,
        dim=table.dim,
        dtype=stored.dtype,
        nbytes=stored.nbytes,
        padding_idx=getattr(lookup, "padding_idx", None),
        embed_scale=embedding_scale(lookup),
        tied=name == INPUT and head is not None and shares(head, table_of(anchor)),
        model_parameters=body + sum(module.num_embeddings * module.embedding_dim for module in compressed.values()),
        model_bytes=stored.checkpoint_bytes,
        table=name,
    )


def stored_bytes(source: ModelSource, table: ModelTable) -> int | None:
    """Bytes that a table takes in the checkpoint; None where nothing is stored for it. Its numbers are not read."""
    if source.gguf:
        tensors = {tensor.name: int(tensor.n_bytes) for tensor in gguf_file.reader(source.gguf).tensors}
        return tensors.get(GGUF_NAMES.get(table.name, ""))
    keys = [found[0] for name in table.parameters if (found := source.checkpoint.keys_of.get(name))]
    if isinstance(module_of(source.skeleton, table.name), CompressedTable):
        return sum(map(source.checkpoint.nbytes_of, keys)) or None
    return source.checkpoint.nbytes_of(keys[0]) if keys else None


def table_sha256(weight: Tensor) -> str:
    """The sha256 of a table's values as little-endian float32, row-major."""
    digest = hashlib.sha256()
    for block in weight.detach().cpu().split(CHUNK):
        values = block.float().contiguous().numpy()
        digest.update((values if sys.byteorder == "little" else values.byteswap()).data)
    return digest.hexdigest()


def _anchor(source: ModelSource, name: str) -> nn.Module:
    """The module of the model's skeleton that a table goes by. Raises `NoTableError`."""
    table_named(source.skeleton, name, source.id)
    anchor = module_of(source.skeleton, name)
    assert anchor is not None
    return anchor


def _read_factors(source: ModelSource, held: CompressedTable) -> _Stored:
    """Read a compact model's compressed table; its hash is over its tensors, so that decoding can't change it."""
    factors = held.factors
    stored = {name: _read_tensor(source, parameter) for name, parameter in factors.tensors.items()}
    for name, part in stored.items():
        expected, found = factors.tensors[name].dtype, part.tensor.dtype
        if expected != found and not (expected.is_floating_point and found.is_floating_point):
            raise ModelError(f"{source.id} is damaged: its {name} is of type {part.dtype}")
    read = factors.with_tensors({name: part.tensor for name, part in stored.items()})
    try:
        check_ids(read)
    except DamagedError as error:
        raise ModelError(f"{source.id} is damaged: {error}") from None
    hashes = "".join(part.sha256 for part in stored.values())
    floats = next(part for part in stored.values() if part.tensor.is_floating_point())
    return _Stored(
        read,
        floats.dtype,
        sum(part.nbytes for part in stored.values()),
        floats.checkpoint_bytes,
        hashlib.sha256(hashes.encode()).hexdigest(),
    )


def _read_tensor(source: ModelSource, parameter: Tensor) -> _Stored:
    """Read the tensor that a checkpoint stores for a parameter of the skeleton."""
    checkpoint = source.checkpoint
    names = sorted(name for name, entry in named_tensors(source.skeleton) if entry is parameter)
    compact.check_left_over(source.id, checkpoint.unknown)
    keys = sorted(key for name in names for key in checkpoint.keys_of.get(name, ()))
    if not keys:
        raise ModelError(f"{source.id} lacks its token-embedding table: no {names[0]} in its weights")
    weight = checkpoint.read(keys[0])
    coded = source.compact is not None and weight.dtype in (torch.uint8, torch.int8, torch.int32)  # no floats
    if not coded and (not weight.dtype.is_floating_point or weight.dtype.itemsize < 2):
        raise ModelError(f"{source.id} stores its table as {weight.dtype}: only 16- to 64-bit floats can be read")
    _check_shape(source, weight, parameter)
    # A checkpoint may hold a tied table under several names; it counts once.
    return _Stored(
        weight,
        str(weight.dtype).removeprefix("torch."),
        weight.nbytes,
        checkpoint.nbytes - (len(keys) - 1) * weight.nbytes,
        table_sha256(weight),
    )


def _read_gguf(source: ModelSource, parameter: Tensor, name: str) -> _Stored:
    import gguf

    if (key := GGUF_NAMES.get(name)) is None:
        raise NoTableError(f"{source.id} is a GGUF file, of which its input and head can be read, not {name}")

    assert source.gguf is not None
    try:
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(source.gguf).tensors}
        if key not in tensors:
            raise NoTableError(f"{source.id} has no {key}")
        table = tensors[key]
        weight = torch.from_numpy(gguf.dequantize(table.data, table.tensor_type).copy())
    except (ValueError, IndexError, OSError, NotImplementedError) as error:
        raise ModelError(f"{source.gguf} is not a GGUF file that can be read: {first_line(error)}") from error
    _check_shape(source, weight, parameter)
    total = sum(int(tensor.n_bytes) for tensor in tensors.values())
    return _Stored(weight, table.tensor_type.name, int(table.n_bytes), total, table_sha256(weight))


def _check_shape(source: ModelSource, weight: Tensor, parameter: Tensor) -> None:
    if weight.shape != parameter.shape:
        stored, configured = (" × ".join(map(str, tensor.shape)) for tensor in (weight, parameter))
        raise ModelError(f"{source.id} stores a table of {stored}, its configuration says {configured}")
