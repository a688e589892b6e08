"""`export`: from an artifact, or a folder that `glue` or `squad` saved, to a model folder that others can load.

Four forms: *compact* keeps the table as factors and takes the code along that transformers needs for it; *dense* is
the original architecture, with the table decoded: no smaller, and it loads anywhere; *onnx* is the compact graph;
*gguf* is the base GGUF file with the table of an artifact in ggml's blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orientc.errors import ExportError, ModelError, OutputError, SubstitutionError, UsageError
from orientc.evaluation.setup import check_base
from orientc.exporters import bodies, dense, gguf, links, model_card, onnx, sentence_transformers
from orientc.exporters import push as hub
from orientc.exporters.facts import Facts
from orientc.exporters.finetuned import Finetuned
from orientc.exporters.forms import COMPACT, DENSE, FORMS, GGUF, NONE, ONNX
from orientc.exporters.processors import Processor
from orientc.modeling.modules import CompressedTable, table_of
from orientc.modeling.swap import users_of
from orientc.models import compact, compact_code, foreign_code, resolve
from orientc.models.fingerprint import check_unchanged, fingerprint
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute
from orientc.models.table import table_info
from orientc.storage.artifact import FLOAT_DTYPES
from orientc.storage.sizes import MB
from orientc.storage.table_info import TableInfo
from orientc.utils import distributed
from orientc.utils.documents import document
from orientc.utils.files import check_writable, copy_files
from orientc.utils.folders import check_place, write_folder
from orientc.utils.progress import Progress

WEIGHTS = {".safetensors"}
_LARGER = 1.01  # what is said; less than that are tensors that files keep or leave out


@dataclass(frozen=True)
class Exported:
    """A folder that was written, or for the gguf form a file.

    `facts` are about the model, `weights` and `nbytes` the bytes of its weight files and of all its files; `halved` is
    what the weights would be in float16, None where they are in 16 bits already or the body is quantized; `url` is its
    address on the hub, None where it was not pushed.
    """

    folder: Path
    facts: Facts
    weights: int
    nbytes: int
    halved: int | None = None
    url: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        others = {"weights": self.weights, "nbytes": self.nbytes, "halved": self.halved, "url": self.url}
        return document("export", {"folder": str(self.folder)} | self.facts.as_dict() | others)


def export(
    subject: str | Path | Sequence[str | Path],
    to: str | Path,
    *,
    form: str = COMPACT,
    head: str | None = None,
    body: str = NONE,
    dtype: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    push: str | None = None,
    private: bool = False,
    model: str | Path | None = None,
    force: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write a model with its table compressed as a folder that loads without orientc, and push it to the hub if asked.

    The folder appears complete or not at all.

    Args:
        subject: An artifact, or a folder in the compact form, such as `glue` and `squad` save; or artifacts of several
            of a model's tables.
        to: Folder to write; for the gguf form the file.
        form: "compact", "dense", "onnx" or "gguf".
        head: What a tied head runs from, "tied" (the compressed table) or "input-only" (the original one); the policy
            that makes the model smallest unless given. A head with a table of its own runs from its own artifact.
        body: What the weights of linear layers are quantized to: "none", "int8" (torchao) or "int4" (NF4, by
            bitsandbytes), in a graph by ONNX Runtime's quantizers. Heads, and all else in the model, stay floats.
        dtype: Type of all weights; the base checkpoint's unless given. A graph has no bfloat16, and computes in
            float32 whatever its weights are stored as. Not for the gguf form, nor are `body`, `name`, `push` and
            `private`.
        name: Title of the model's card; the base and what became of its table unless given.
        overwrite: Replace what is there already, if an export wrote all of it.
        push: Repository on the hub, NAME or OWNER/NAME, to upload the folder to.
        private: Make that repository private; a public one is left alone.
        model: Base model of the artifact; the one it names unless given.
        force: Go on, with a warning, where the artifact was made from another table.
        revision: Hub branch, tag or commit of the model.
        allow_pickle: Read .bin weights (tensors only, no code).
        trust_remote_code: Run Python code from the model's repository.
        progress: Told of warnings.

    Raises:
        UsageError: The request is wrong by itself.
        ExportError: The model can't be written in this form, or was written but not pushed.
        OutputError: The folder can't be written, or something else is there.
        ModelError, ArtifactError, SubstitutionError: Loading or substituting fails.
    """
    distributed.check_alone("export")
    progress, folder = progress or Progress(), Path(to)
    if push is not None:
        hub.prepare(push)
    elif private:
        raise UsageError("`private` is for a repository on the hub: name it with `push`")
    _check_request(form, dtype, body, name, push)
    if form == GGUF:
        gguf.check_place(folder, overwrite=overwrite)
    else:
        _check_place(folder, overwrite=overwrite)
    found = resolve.subject(
        subject,
        model=None if model is None else str(model),
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
    if form == GGUF:
        facts = gguf.save(folder, found, head=head, force=force, progress=progress)
        weights = facts.base_weights - facts.base_table + facts.table
        return Exported(folder, facts, weights, folder.stat().st_size)
    if found.artifact is None and found.source.compact is None:
        raise ExportError(
            f"{found.source.id} holds no compressed table: name an artifact, or a folder glue or squad saved"
        )
    _check_not_inside(folder, found)
    facts = _write(
        folder,
        found,
        form=form,
        head=head,
        body=body,
        dtype=dtype,
        name=name,
        force=force,
        overwrite=overwrite,
        progress=progress,
    )
    url = hub.push(folder, push, private=private) if push is not None else None
    return Exported(folder, facts, weights_in(folder), _taken(folder), _halved(folder, facts), url)


def _write(
    folder: Path,
    found: Subject,
    *,
    form: str,
    head: str | None,
    body: str,
    dtype: str | None,
    name: str | None,
    force: bool,
    overwrite: bool,
    progress: Progress,
) -> Facts:
    """Load the model, put the artifact in, and write all files of the form."""
    before = fingerprint(found.source)
    infos = _infos(found, force=force, progress=progress)
    info = next(iter(infos.values()))
    beside = sentence_transformers.files_of(found.source)
    processor, finetuned = Processor.of(found.source), None if found.artifact else Finetuned.of(found.source)
    if finetuned and not finetuned.unchanged:
        progress.warn(f"{found.source.id} is not known to be as it was when it was scored: its card has no figures")
    links.check(found.source, [*beside.values(), *processor.files.values()])
    _check_form(form, found.source, encoder=bool(beside))
    loaded = NONE if form == ONNX else body  # a graph's body is quantized when the graph is there
    bodies.check(found.source, form, loaded, artifact=found.artifact is not None)
    tokenizer = _tokenizer(form, found.source, progress)
    known = onnx.DTYPES if form == ONNX else FLOAT_DTYPES
    chosen = dtype or (info.dtype if info.dtype in known else "float32")
    held = found.source.load(None, dtype=getattr(torch, chosen), quantization=bodies.quantization(found.source, loaded))
    check_unchanged(found.source, before)
    bodies.check_quantized(found.source.id, held, loaded)
    coded = loaded != NONE or found.source.kept_quantized is not None
    if not coded and body == NONE:
        _tell_if_larger(held, found.source, infos, chosen, progress, chosen=dtype is not None)
    policy = _put_in(held, found, head, decoded=coded and form == DENSE)
    if form == DENSE:
        dense.check(policy, tied=info.tied)
    facts = Facts.of(
        held,
        found,
        infos,
        form=form,
        head=policy,
        dtype=chosen,
        sentences=bool(beside),
        tokenizer=tokenizer,
        processor=processor.name is not None,
        body=body,
    )

    def fill(target: Path) -> None:
        if form == COMPACT:
            compact.save(held, target, policy)
        elif form == DENSE:
            dense.save(held, target)
        else:
            onnx.save(held.float(), found.source.tokenizer, target, body=body, dtype=chosen, progress=progress)
        if tokenizer:
            tokenizer.save_pretrained(target)
        copy_files(beside, target)
        processor.save(target)
        foreign_code.strip(target)
        if coded:
            bodies.check_loads(target, getattr(torch, chosen))
        model_card.write(
            target, facts, found, fingerprint=before, weights=weights_in(target), finetuned=finetuned, name=name
        )

    write_folder(folder, fill, overwrite=overwrite)
    return facts


def _infos(found: Subject, *, force: bool, progress: Progress) -> dict[str, TableInfo]:
    """Facts of the tables that are compressed, or are to be, by name. Raises as `check_base` for other artifacts."""
    if not found.artifacts:
        return {name: table_info(found.source, name) for name in compact.compressed_tables(found.source.skeleton)}
    infos = {}
    for name, artifact in zip(found.tables, found.artifacts, strict=True):
        infos[name] = table_info(found.source, name)
        check_base(artifact, infos[name], force=force, progress=progress)
    return infos


def _check_request(form: str, dtype: str | None, body: str, name: str | None, push: str | None) -> None:
    if form not in FORMS:
        raise UsageError(f"`form` must be one of {', '.join(FORMS)}, not {form!r}")
    if dtype not in (None, *FLOAT_DTYPES):
        raise UsageError(f"`dtype` must be one of {', '.join(FLOAT_DTYPES)}, not {dtype!r}")
    if form == GGUF:
        for field, value in {
            "body": None if body == NONE else body,
            "dtype": dtype,
            "name": name,
            "push": push,
        }.items():
            if value is not None:
                raise UsageError(f"`{field}` is not for the gguf form: all but the table stays as it is, in one file")
    bodies.check_request(body, form)
    if form == ONNX:
        if dtype not in (None, *onnx.DTYPES):
            raise UsageError(f"the onnx form is written in {' or '.join(onnx.DTYPES)}, not in {dtype}")
        onnx.require()


def _check_place(folder: Path, *, overwrite: bool) -> None:
    """Refuse now, not after an hour's work, a place that is taken or can't be written."""
    check_place(folder, overwrite=overwrite)
    check_writable(next(parent for parent in folder.absolute().parents if parent.exists()))


def _check_not_inside(folder: Path, found: Subject) -> None:
    """Refuse a folder that holds what is to be exported: it would be gone with what is replaced."""
    for path in (*found.paths, found.source.local):
        if path is not None and path.resolve().is_relative_to(folder.resolve()):
            raise OutputError(f"{folder} holds {path}, which is to be exported: name another place")


def _check_form(form: str, source: ModelSource, *, encoder: bool) -> None:
    """Refuse, before all weights are read, a form that this model, a sentence encoder or not, can't be written in."""
    config = type(source.config)
    if form == ONNX:
        onnx.check(source.skeleton)
    if form != COMPACT:
        return
    if foreign_code.is_foreign(config):
        raise ExportError(f"{source.id} is code of its repository: export it in the dense or the onnx form")
    if (kind := source.architecture.__name__) not in compact_code.classes(config).values():
        raise ExportError(
            f"{source.id} is a {kind}, which none of transformers' auto classes loads: export it in the dense form"
        )
    if encoder and "AutoModelForSeq2SeqLM" in compact_code.classes(config):
        raise ExportError(
            f"{source.id} is a sentence encoder that sentence-transformers loads by a class of its own "
            f"({config.model_type}), which knows no compressed table: export it in the dense form"
        )


def _tokenizer(form: str, source: ModelSource, progress: Progress) -> PreTrainedTokenizerBase | None:
    """The model's tokenizer; None, with a warning, where it has none.

    Raises `ExportError` for one that is code, and a form that takes along no code but orientc's.
    """
    try:
        found = source.tokenizer
    except ModelError as error:
        progress.warn(f"{error}; exported without one")
        return None
    if form != DENSE and foreign_code.is_foreign(type(found)):
        raise ExportError(
            f"{source.id} has a tokenizer that is code of its repository: export it in the dense form, or, where "
            "transformers has one of its own for it, without `trust_remote_code`"
        )
    return found


def _put_in(model: PreTrainedModel, found: Subject, head: str | None, *, decoded: bool) -> str:
    """Put the artifacts in, where there are some, as they are or `decoded`; the head policy the model runs under."""
    if found.artifacts:
        policy = head or head_policies(model, found.tables)[-1]
        (dense.decode_into if decoded else substitute)(model, found.artifacts, policy)
        return policy
    assert found.source.compact is not None
    if head not in (None, policy := found.source.compact.head):
        raise SubstitutionError(f"{found.source.id} was saved with its head {policy}: that can't be changed any more")
    return policy


def _tell_if_larger(
    model: PreTrainedModel,
    source: ModelSource,
    infos: Mapping[str, TableInfo],
    dtype: str,
    progress: Progress,
    *,
    chosen: bool,
) -> None:
    """Warn where all but the tables will be written with more bytes than it came with, before artifacts are put in."""
    parts = {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}
    for name in infos:
        for module in users_of(model, name).values():
            own = module.factors.tensors.values() if isinstance(module, CompressedTable) else [table_of(module)]
            for tensor in own:
                parts.pop(tensor.data_ptr(), None)
    here = sum(tensor.nbytes for tensor in parts.values())
    before = next(iter(infos.values())).model_bytes - sum(info.nbytes for info in infos.values())
    kinds = source.dequantized_from
    if kinds or here > _LARGER * before:
        why = f"; it was quantized ({kinds}), and is dequantized" if kinds else ""
        half = sum(tensor.numel() for tensor in parts.values()) * 2
        helps = f"; `dtype` float16 gives {half / MB:.2f}" if dtype == "float32" and not chosen else ""
        progress.warn(
            f"the body of {source.id} is written out as {dtype}, {here / MB:.2f} MB instead of "
            f"{before / MB:.2f}{why}{helps}"
        )


def _taken(folder: Path) -> int:
    """Bytes of all files in a folder; one that lies there under several names counts once."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({(entry.st_dev, entry.st_ino): entry.st_size for entry in found}.values())


def weights_in(folder: Path) -> int:
    """What the model's weight files in a folder weigh, those of a sentence encoder's other modules not counted.

    A graph that lies there under several names counts once.
    """
    return onnx.nbytes(folder) or sum(path.stat().st_size for path in folder.iterdir() if path.suffix in WEIGHTS)


def _halved(folder: Path, facts: Facts) -> int | None:
    """What the weights would weigh with float16 in the place of float32; None where there is nothing to halve."""
    if facts.dtype != "float32" or facts.form == ONNX or facts.body:
        return None
    whole = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118
        whole += sum(4 * math.prod(entry.get_shape()) for entry in stored if entry.get_dtype() == "F32")
    return weights_in(folder) - whole // 2
