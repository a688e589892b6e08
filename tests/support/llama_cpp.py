"""llama.cpp itself, unmodified, as the package `xllamacpp` carries it: its own rounding, and logits of GGUF files.

Its C functions are called by ctypes. They take and return structures by value, whose sizes change from version to
version: here they are blocks of memory that are large enough, of which the functions use what is theirs.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from orientc.modeling.ggml_types import BLOCK_TYPES

_CONTEXT = 2048  # tokens


class _Parameters(ctypes.Structure):
    _fields_ = (("words", ctypes.c_uint64 * 128),)


class _Batch(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_int32),
        ("tokens", ctypes.POINTER(ctypes.c_int32)),
        ("embeddings", ctypes.c_void_p),
        ("positions", ctypes.POINTER(ctypes.c_int32)),
        ("sequence_counts", ctypes.POINTER(ctypes.c_int32)),
        ("sequences", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("wanted", ctypes.POINTER(ctypes.c_int8)),
    )


@cache
def _library() -> Any:
    """The library, or None where the package is not installed."""
    try:
        from xllamacpp import xllamacpp
    except ImportError:
        return None
    library = ctypes.CDLL(xllamacpp.__file__)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, number, number, number, pointer]
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    for name, result, arguments in (
        ("llama_model_default_params", _Parameters, []),
        ("llama_context_default_params", _Parameters, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, _Parameters]),
        ("llama_init_from_model", pointer, [pointer, _Parameters]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", ctypes.c_int32, [pointer]),
        ("llama_batch_init", _Batch, [ctypes.c_int32] * 3),
        ("llama_batch_free", None, [_Batch]),
        ("llama_decode", ctypes.c_int32, [pointer, _Batch]),
        ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [pointer]),
        ("llama_set_n_threads", None, [pointer, ctypes.c_int32, ctypes.c_int32]),
        ("llama_free", None, [pointer]),
        ("llama_model_free", None, [pointer]),
        ("llama_log_set", None, [pointer, pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def is_there() -> bool:
    """Whether llama.cpp is installed."""
    return _library() is not None


def rounded(block: str, table: Tensor, importance: Tensor | None = None) -> numpy.ndarray[Any, Any]:
    """A table's rows in blocks as ggml rounds them, uint8 `[rows, bytes]`; `importance [dim]` as llama-quantize has."""
    import gguf

    kind = BLOCK_TYPES[block]
    values = numpy.ascontiguousarray(table.float().numpy())
    rows, width = values.shape
    found = numpy.empty((rows, width // kind.width * kind.nbytes), numpy.uint8)
    weights = None if importance is None else numpy.ascontiguousarray(importance.float().numpy())
    _library().ggml_quantize_chunk(
        int(gguf.GGMLQuantizationType[block]), values.ctypes.data, found.ctypes.data, 0, rows, width,
        None if weights is None else weights.ctypes.data,
    )  # fmt: skip
    return found


class Model:
    """A GGUF file loaded by llama.cpp."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        library = self._library = _library()
        self._silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        library.llama_log_set(ctypes.cast(self._silent, ctypes.c_void_p), None)
        self._model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
        if not self._model:
            raise ValueError(f"llama.cpp can't load {path}")
        parameters = library.llama_context_default_params()
        ctypes.cast(ctypes.byref(parameters), ctypes.POINTER(ctypes.c_uint32))[0] = _CONTEXT
        self._parameters, self._threads = parameters, threads
        self.vocab = int(library.llama_vocab_n_tokens(library.llama_model_get_vocab(self._model)))

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Logits `[tokens, vocab]` behind each of some tokens, in a context of their own."""
        context = self._context()
        try:
            self._decode(context, ids, 0)
            values = self._library.llama_get_logits(context)
            return torch.from_numpy(numpy.ctypeslib.as_array(values, (len(ids), self.vocab)).copy())
        finally:
            self._library.llama_free(context)

    def seconds_per_token(self, ids: Sequence[int]) -> float:
        """The least time of a step of one token, of several."""
        context, taken = self._context(), []
        for place, id in enumerate(ids):
            start = time.perf_counter()
            self._decode(context, [id], place)
            self._library.llama_get_logits(context)
            taken.append(time.perf_counter() - start)
        self._library.llama_free(context)
        return min(taken)

    def close(self) -> None:
        """Free its memory."""
        self._library.llama_model_free(self._model)

    def _context(self) -> Any:
        context = self._library.llama_init_from_model(self._model, self._parameters)
        assert context
        self._library.llama_set_n_threads(context, self._threads, self._threads)
        return context

    def _decode(self, context: Any, ids: Sequence[int], first: int) -> None:
        batch = self._library.llama_batch_init(len(ids), 0, 1)
        batch.count = len(ids)
        for place, id in enumerate(ids):
            batch.tokens[place], batch.positions[place] = id, first + place
            batch.sequence_counts[place], batch.sequences[place][0] = 1, 0
            batch.wanted[place] = 1
        failed = self._library.llama_decode(context, batch)
        self._library.llama_batch_free(batch)
        assert not failed
