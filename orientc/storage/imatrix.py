"""A calibration as an importance matrix of llama.cpp, a GGUF file that `llama-quantize --imatrix` takes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orientc.errors import ModelError, OutputError, UsageError
from orientc.storage import gguf_file
from orientc.storage.calibration import Calibration
from orientc.utils.files import write_atomically

TABLE, HEAD = "token_embd.weight", "output.weight"


def check(path: str | Path, *, measured: bool) -> None:
    """Refuse a file that can't be written, before anything is measured.

    Args:
        path: The file.
        measured: Whether importance matrices are to be measured.

    Raises:
        UsageError: The name is no GGUF file's, or there will be counts alone.
        ModelError: `gguf` is not installed.
        OutputError: Something that is no importance matrix is there.
    """
    if Path(path).suffix.lower() != ".gguf":
        raise UsageError(f"`imatrix` is a GGUF file to write: let {path} end in .gguf")
    if not measured:
        raise UsageError("`imatrix` needs importance matrices, which are measured on a text: name one with `text`")
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise ModelError("writing .gguf files needs the extra: pip install 'orientc[gguf]'") from None
    if Path(path).exists() and not _is_imatrix(Path(path)):
        raise OutputError(f"{path} is there already, and is no importance matrix: name another place")


def save(calibration: Calibration, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the diagonals of the importance matrices under the names of the table and the head.

    These are M and H; of a tied model, whose files have one table for both, M + H under both names.

    llama.cpp has the mean square of a tensor's inputs there; of a head these are the diagonal of H.

    Args:
        calibration: A calibration with importance matrices.
        path: The file. One that holds the same already is left as it is.
        overwrite: Replace another importance matrix that is there.

    Raises:
        OutputError: Something else is there, or the file can't be written.
    """
    described, path = calibration.description, Path(path)
    assert calibration.input_importance is not None
    values = {TABLE: calibration.input_importance.diagonal().double()}
    if calibration.head_importance is not None:
        own = calibration.head_importance.diagonal().double()
        whole = values[TABLE] + own if described.head is None else None
        values = {TABLE: values[TABLE], HEAD: own} if whole is None else {TABLE: whole, HEAD: whole}
    with TemporaryDirectory() as folder:
        content = _content(Path(folder) / "imatrix.gguf", values, described.measured, described.text)
    if path.exists():
        if path.read_bytes() == content:
            return
        if not (overwrite and _is_imatrix(path)):
            raise OutputError(f"{path} is there already: name another place, or replace it with `overwrite`")
    write_atomically(path, lambda stream: stream.write(content))


def _is_imatrix(path: Path) -> bool:
    """Whether a file is an importance matrix of llama.cpp; it replaces no other."""
    try:
        field = gguf_file.reader(path).fields.get("general.type")
    except ModelError:
        return False
    return field is not None and field.contents() == "imatrix"


def _content(scratch: Path, tensors: dict[str, Any], count: int, text: str | None) -> bytes:
    import gguf
    import numpy

    class Writer(gguf.GGUFWriter):
        def add_architecture(self) -> None:
            """An importance matrix is of no architecture."""

    writer = Writer(scratch, "imatrix")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", [text or ""])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", count)
    for name, values in tensors.items():
        writer.add_tensor(f"{name}.in_sum2", (values * count).float().unsqueeze(0).numpy())
        writer.add_tensor(f"{name}.counts", numpy.full((1, 1), count, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return scratch.read_bytes()
