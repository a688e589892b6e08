"""`orientc similarity`"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import options, output
from orientc.comparison.numbers import figure


class Pooling(StrEnum):
    """How token states become a sentence's vector."""

    mean = "mean"
    cls = "cls"
    max = "max"
    last = "last"


def similarity(
    subject: options.Subject,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sentences, one a line, UTF-8. [default: STS-B's dev set, with its scores]"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where STS-B is, as for orientc glue. [default: nyu-mll/glue from the hub]"),
    ] = None,
    pooling: Annotated[
        Pooling | None,
        typer.Option(help="Token states to sentence vector. [default: as the model's folder says, else mean]"),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens per sentence. [default: as the model's folder says]")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Sentences at a time; does not change the figures.")] = 64,
    dtype: options.ComputeDtype = "float32",
    model: options.BaseModel = None,
    force: options.Force = False,
    device: options.Device = None,
    out: options.RunsFolder = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure again what was measured before.")] = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how far compression turns sentence vectors; for encoders without a language-model head.

    Example: `orientc similarity runs/all-MiniLM-L6-v2/svd-r75-5d1778d0.safetensors --text sentences.txt`
    """
    from orientc.errors import UsageError
    from orientc.evaluation import similarity as measure
    from orientc.evaluation import texts
    from orientc.models import resolve
    from orientc.storage.runs import records_folder
    from orientc.utils import distributed
    from orientc.utils.devices import pick_device
    from orientc.utils.files import check_writable

    if text is not None and data is not None:
        raise UsageError("--text takes sentences, --data STS-B with its scores: give one of them")
    settings = measure.Settings(pooling, max_length, batch_size, dtype)
    found = resolve.subject(
        subject, model=model, revision=revision, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
    )
    chosen = pick_device(device)
    folder = records_folder(found.source.id, found.path, out)
    check_writable(folder)
    with distributed.main_first():
        sentences = texts.from_file(text) if text else measure.stsb(data)
    with output.stages(quiet=quiet) as progress:
        measurement = measure.Measurement(
            found.source,
            sentences,
            settings,
            folder=folder,
            device=chosen,
            again=overwrite,
            force=force,
            progress=progress,
        )
        compressed = measurement.compressed(found.path, found.artifact) if found.path and found.artifact else ()
        records = [measurement.original(), *compressed]
    if as_json:
        output.show_json({"records": [record.as_dict() for record in records]})
        return
    names = [name for name in ("spearman", "cosine", "cosine_p5") if name in records[0].metrics]
    output.show_table(
        ["table", *(name.replace("_p5", " 5th percentile") for name in names), "sentences", "seconds"],
        [
            [
                f"{record.artifact['method']} r{record.artifact['rank']}" if record.artifact else "original",
                *(f"{record.metrics[name]:.4f}" for name in names),
                str(record.metrics["sentences"]),
                figure(record.seconds),
            ]
            for record in records
        ],
        title=f"{found.source.id}; sentence vectors ({measurement.full_settings['pooling']}) on {sentences.name}",
    )
