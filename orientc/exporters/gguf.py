"""The gguf form: a copy of the base GGUF file with its table exchanged, for llama.cpp and what is built on it."""

from __future__ import annotations

from pathlib import Path

from orientc._version import __version__
from orientc.errors import ExportError, ModelError, OutputError, UsageError
from orientc.evaluation.setup import check_base
from orientc.exporters.facts import LLAMA_CPP, Facts, TableFacts
from orientc.exporters.forms import GGUF
from orientc.methods.ggml_packing import as_blocks
from orientc.modeling.ggml_types import BLOCK_TYPES
from orientc.modeling.layout import GGML
from orientc.modeling.table_names import HEAD, INPUT
from orientc.models.argument import is_gguf
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import GGUF_HEAD, GGUF_NAMES, table_info
from orientc.storage import gguf_file
from orientc.storage.artifact import Artifact
from orientc.storage.sizes import BOTH, HEAD_ONLY, INPUT_ONLY, TIED
from orientc.storage.table_info import TableInfo
from orientc.utils.files import check_writable
from orientc.utils.progress import Progress


def check_place(file: Path, *, overwrite: bool) -> None:
    """Refuse a place that is no GGUF file's, is taken by another program's file, or can't be written."""
    if not is_gguf(file):
        raise UsageError(f"{file} is to be a GGUF file: let its name end in .gguf")
    if file.exists():
        if not file.is_file() or not _is_ours(file):
            raise OutputError(f"{file} is there already, and orientc did not write it: name another place")
        if not overwrite:
            raise OutputError(f"{file} is there already: name another place, or replace it with `overwrite`")
    check_writable(next(parent for parent in file.absolute().parents if parent.exists()))


def check_base_file(source: ModelSource, file: Path | None) -> Path:
    """The GGUF file whose table is to be exchanged; refuse a model that is none, or is to be overwritten itself."""
    if source.gguf is None:
        raise ExportError(f"{source.id} is no GGUF file: name with `model` the one whose table is to be exchanged")
    if file is not None and file.exists() and file.samefile(source.gguf):
        raise OutputError(f"{file} is the file whose table is to be exchanged: name another place")
    return source.gguf


def _is_ours(file: Path) -> bool:
    try:
        return any(name.startswith(gguf_file.OWN) for name in gguf_file.reader(file).fields)
    except ModelError:
        return False


def save(file: Path, found: Subject, *, head: str | None, force: bool, progress: Progress) -> Facts:
    """Write the base GGUF file with its tables exchanged for the artifacts'.

    Args:
        file: The file to write.
        found: The artifacts, of the lookup's table, of a head's own, or of both; and the model, which must be a GGUF
            file.
        head: Head policy asked for; the file and the artifacts leave but one, "tied" or, where the file has a head's
            own table, what the artifacts are of.
        force: Go on, with a warning, where an artifact was made from another table.
        progress: Told of warnings.

    Raises:
        ExportError: An artifact is not in blocks, the model is no GGUF file, or the head policy is not the file's.
    """
    if not found.artifacts:
        raise ExportError(f"{found.source.id} is a folder: a GGUF file takes the table of an artifact in blocks")
    for artifact in found.artifacts:
        _check_blocks(artifact)
    base = check_base_file(found.source, file)
    tables, new, keys = [], {}, {"version": __version__}
    for name, artifact in zip(found.tables, found.artifacts, strict=True):
        info = table_info(found.source, name)
        check_base(artifact, info, force=force, progress=progress)
        layout, content = artifact.factors.layout, _table_bytes(artifact)
        if (layout.vocab, layout.dim) != (info.vocab, info.dim):
            raise ExportError(
                f"the artifact's table is {layout.vocab} × {layout.dim}, that of {base} {info.vocab} × {info.dim}"
            )
        new[GGUF_NAMES[name]] = gguf_file.NewTensor(_number(layout.block), content)
        keys |= _keys(artifact, info, prefix="" if name == INPUT else f"{name}.")
        method = artifact.description.method
        tables.append(TableFacts(name, info.vocab, info.dim, method, layout.rank, len(content), info.nbytes))
    policy = _policy(base, found)
    if head not in (None, policy):
        raise ExportError(f"{base} has one head policy, {policy}: {head} can't be had in a GGUF file")
    gguf_file.copy_with(base, file, new, keys)
    return Facts(
        base=found.source.id,
        form=GGUF,
        head=policy,
        dtype=f"table {' and '.join(dict.fromkeys(artifact.factors.layout.block for artifact in found.artifacts))}",
        auto_class="",
        library=LLAMA_CPP,
        code=None,
        tokenizer_code=None,
        tables=tuple(tables),
        base_weights=info.model_bytes,
    )


def _policy(base: Path, found: Subject) -> str:
    """The head policy that a file has with the artifacts in it."""
    if not any(tensor.name == GGUF_HEAD for tensor in gguf_file.reader(base).tensors):
        return TIED
    if HEAD not in found.tables:
        return INPUT_ONLY
    return BOTH if INPUT in found.tables else HEAD_ONLY


def _keys(artifact: Artifact, info: TableInfo, *, prefix: str) -> dict[str, str]:
    """What the file says of a table."""
    described = artifact.description
    keys = {
        "method": described.method,
        "artifact.sha256": artifact.sha256,
        "base.table_sha256": info.sha256,
        "table.type": artifact.factors.layout.block,
        "table.was": info.dtype,
    }
    if calibration := described.settings.get("calibration_sha256"):
        keys["calibration.sha256"] = str(calibration)
    return {f"{prefix}{name}": value for name, value in keys.items()}


def _check_blocks(artifact: Artifact) -> None:
    layout = artifact.factors.layout
    if layout.codec != GGML or layout.decoder or layout.kept:
        raise ExportError(
            f"the artifact's table is stored as {layout.codec} latents, a GGUF file's as blocks of ggml, and rounding "
            "twice would cost what no figure says: make one with orientc quantize and its `block`"
        )


def _table_bytes(artifact: Artifact) -> bytes:
    tensors, kind = artifact.factors.tensors, BLOCK_TYPES[artifact.factors.layout.block]
    return as_blocks(kind, tensors["latents.codes"], tensors["latents.scales"]).numpy().tobytes()


def _number(block: str) -> int:
    """ggml's number of a block type."""
    import gguf

    return int(gguf.GGMLQuantizationType[block])
