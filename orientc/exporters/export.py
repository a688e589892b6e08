"""From an artifact, or a folder that `glue` or `squad` saved, to a model folder that others can load.

Three forms: *compact* keeps the table as factors and takes the code along that transformers needs for it; *dense* is
the architecture's own, with the table rebuilt: no smaller, and it loads anywhere; *onnx* is the compact graph.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from orientc.errors import ExportError, ModelError, OutputError, SubstitutionError, UsageError
from orientc.evaluation.setup import check_base
from orientc.exporters import dense, model_card, onnx, sentence_transformers
from orientc.exporters.model_card import COMPACT, DENSE, ONNX, Facts
from orientc.models import compact, compact_code
from orientc.models.resolve import Subject, subject
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute
from orientc.models.table import read_table
from orientc.storage.artifact import FLOAT_DTYPES
from orientc.utils.files import check_writable, write_folder
from orientc.utils.progress import Progress

FORMS = (COMPACT, DENSE, ONNX)
WEIGHTS = {".safetensors", ".onnx", ".onnx_data"}


@dataclass(frozen=True)
class Exported:
    """A folder that was written: `facts` about the model, and the bytes of its weight files and of all its files."""

    folder: Path
    facts: Facts
    weights: int
    nbytes: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        sizes = {"weights": self.weights, "nbytes": self.nbytes}
        return {"folder": str(self.folder)} | asdict(self.facts) | sizes


def export(
    argument: str | Path,
    to: str | Path,
    *,
    form: str = COMPACT,
    head: str | None = None,
    dtype: str | None = None,
    model: str | None = None,
    revision: str | None = None,
    force: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **trust: bool,
) -> Exported:
    """Write a model with its table compressed into the folder `to`, which appears complete or not at all.

    `argument` is an artifact or a folder in the compact form. `head` is the head policy, unless given the one that
    makes the model smallest; `dtype` that of all weights, unless given the base checkpoint's. `model`, `revision`,
    `force` and trust are as for the commands that take an artifact. Raises `UsageError`, `ExportError`, `OutputError`,
    and what loading and substituting raise.
    """
    progress, folder = progress or Progress(), Path(to)
    _check_request(form, dtype)
    _check_place(folder, overwrite=overwrite)
    found = subject(str(argument), model=model, revision=revision, **trust)
    if found.artifact is None and found.source.compact is None:
        raise ExportError(f"{argument} holds no compressed table: name an artifact, or a folder glue or squad saved")
    _check_not_inside(folder, found)
    info = read_table(found.source).info
    if found.artifact:
        check_base(found.artifact, info, force=force, progress=progress)
    beside = sentence_transformers.files_of(found.source)
    _check_form(form, found.source, encoder=bool(beside))
    chosen = dtype or ("float32" if form == ONNX or info.dtype not in FLOAT_DTYPES else info.dtype)
    held = found.source.load(None, dtype=getattr(torch, chosen))
    policy = _put_in(held, found, head)
    if form == DENSE:
        dense.check(policy)
    facts = Facts.of(held, found, info, form=form, head=policy, dtype=chosen, sentences=bool(beside))

    def fill(target: Path) -> None:
        if form == COMPACT:
            compact.save(held, target, policy)
        elif form == DENSE:
            dense.save(held, target)
        else:
            onnx.save(held, found.source.tokenizer, target)
        try:
            found.source.tokenizer.save_pretrained(target)
        except ModelError as error:
            progress.warn(f"{error}; exported without one")
        sentence_transformers.copy(beside, target)
        model_card.write(target, facts, found, weights=_weights(target))

    write_folder(folder, fill)
    nbytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Exported(folder, facts, _weights(folder), nbytes)


def _check_request(form: str, dtype: str | None) -> None:
    if form not in FORMS:
        raise UsageError(f"form must be one of {', '.join(FORMS)}, not {form!r}")
    if dtype not in (None, *FLOAT_DTYPES):
        raise UsageError(f"dtype must be one of {', '.join(FLOAT_DTYPES)}, not {dtype!r}")
    if form == ONNX:
        if dtype not in (None, "float32"):
            raise UsageError(f"the onnx form is written in float32, not in {dtype}")
        onnx.require()


def _check_place(folder: Path, *, overwrite: bool) -> None:
    """Refuse now, not after an hour's work, a place that is taken or can't be written."""
    taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if taken and not (overwrite and folder.is_dir()):
        raise OutputError(f"{folder} is there already: name another place, or replace a folder with --overwrite")
    if taken and not (folder / compact.CONFIG).is_file():
        raise OutputError(f"{folder} holds something other than a model, which --overwrite would delete: name another")
    check_writable(next(parent for parent in folder.absolute().parents if parent.exists()))


def _check_not_inside(folder: Path, found: Subject) -> None:
    """Refuse a folder that holds what is to be exported: it would be gone with what is replaced."""
    for path in (found.path, found.source.local):
        if path is not None and path.resolve().is_relative_to(folder.resolve()):
            raise OutputError(f"{folder} holds {path}, which is to be exported: name another place")


def _check_form(form: str, source: ModelSource, *, encoder: bool) -> None:
    """Refuse, before all weights are read, a form that this model, a sentence encoder or not, can't be written in."""
    config = type(source.config)
    if form == ONNX:
        onnx.check(source.skeleton)
    if form != COMPACT:
        return
    if not config.__module__.startswith("transformers."):
        raise ExportError(f"{source.id} is code of its repository: export it in the dense or the onnx form")
    if encoder and "AutoModelForSeq2SeqLM" in compact_code.classes(config):
        raise ExportError(
            f"{source.id} is a sentence encoder that sentence-transformers loads by a class of its own "
            f"({config.model_type}), which knows no compressed table: export it in the dense form"
        )


def _put_in(model: PreTrainedModel, found: Subject, head: str | None) -> str:
    """Put the artifact in, where there is one; the head policy the model runs under."""
    if found.artifact:
        policy = head or head_policies(model)[-1]
        substitute(model, found.artifact, policy)
        return policy
    assert found.source.compact is not None
    if head not in (None, policy := found.source.compact.head):
        raise SubstitutionError(f"{found.source.id} was saved with its head {policy}: that can't be changed any more")
    return policy


def _weights(folder: Path) -> int:
    """What the model's weight files in a folder weigh, those of a sentence encoder's other modules not counted."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in WEIGHTS)
