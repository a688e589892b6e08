"""A calibration as an importance matrix of llama.cpp, a GGUF file that `llama-quantize --imatrix` takes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orientc.errors import ModelError, UsageError
from orientc.storage.calibration import Calibration
from orientc.utils.files import write_atomically

TABLE, HEAD = "token_embd.weight", "output.weight"


def check(path: str | Path) -> None:
    """Refuse, before anything is measured, a name that is no GGUF file's, or an installation without `gguf`."""
    if Path(path).suffix.lower() != ".gguf":
        raise UsageError(f"`imatrix` is a GGUF file to write: let {path} end in .gguf")
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise ModelError("writing .gguf files needs the extra: pip install 'orientc[gguf]'") from None


def save(calibration: Calibration, path: str | Path) -> None:
    """Write the diagonal of the importance matrix, M + H of a tied model, under the names of its table and its head.

    llama.cpp has the mean square of a tensor's inputs there; of a head these are the diagonal of H.

    Raises:
        UsageError: The calibration has counts alone.
        OutputError: The file can't be written.
    """
    described = calibration.description
    if calibration.input_importance is None:
        raise UsageError("`imatrix` needs importance matrices, which are measured on a text: name one with `text`")
    values = calibration.input_importance.diagonal()
    names = [TABLE]
    if calibration.head_importance is not None:
        values = values + calibration.head_importance.diagonal()
        names.append(HEAD)
    with TemporaryDirectory() as folder:
        content = _content(Path(folder) / "imatrix.gguf", names, values.double(), described.measured, described.text)
    write_atomically(Path(path), lambda stream: stream.write(content))


def _content(scratch: Path, names: list[str], values: Any, count: int, text: str | None) -> bytes:
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
    for name in names:
        writer.add_tensor(f"{name}.in_sum2", (values * count).float().unsqueeze(0).numpy())
        writer.add_tensor(f"{name}.counts", numpy.full((1, 1), count, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return scratch.read_bytes()
