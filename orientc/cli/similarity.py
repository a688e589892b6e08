"""`orientc similarity`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import options, output
from orientc.comparison.numbers import figure, with_error
from orientc.evaluation.option_values import POOLINGS


def similarity(
    subject: options.Subjects,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Sentences, one a line, UTF-8. [default: STS-B's dev set, with its scores]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where STS-B is, as for orientc glue. [default: nyu-mll/glue from the hub]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Measure only the first so many sentences or pairs. [default: all]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        options.choice(
            POOLINGS,
            help="Token states to sentence vector. [default: as the model's folder says, else mean]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Tokens per sentence. [default: as the model's folder says]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            help="Sentences at a time; does not change the figures.",
            rich_help_panel=options.EVALUATION,
        ),
    ] = 64,
    dtype: options.ComputeDtype = "float32",
    model: options.BaseModel = None,
    force: options.Force = False,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    out: options.RunsFolder = None,
    overwrite: options.OverwriteRun = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how far compression turns sentence vectors; for encoders without a language-model head.

    Example: `orientc similarity small.safetensors --text sentences.txt`
    """
    import orientc

    with output.stages(quiet=quiet) as progress:
        found = orientc.similarity(
            subject,
            text=text,
            data=data,
            limit=limit,
            pooling=pooling,
            max_length=max_length,
            batch_size=batch_size,
            dtype=dtype,
            model=model,
            force=force,
            device=device,
            device_map=device_map,
            max_memory=max_memory,
            out=out,
            overwrite=overwrite,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    if as_json:
        output.show_json(found.as_dict())
        return
    original = found.records[0]
    names = [name for name in ("spearman", "cosine", "cosine_p5") if name in original.metrics]
    output.show_table(
        ["table", *(name.replace("_p5", " 5th percentile") for name in names), "sentences", "seconds"],
        [
            [
                f"{record.artifact['method']} r{record.artifact['rank']}" if record.artifact else "original",
                *(with_error(f"{record.metrics[name]:.4f}", record.standard_error(name)) for name in names),
                str(record.metrics["sentences"]),
                figure(record.seconds),
            ]
            for record in found.records
        ],
        title=f"{original.model['id']}; sentence vectors ({original.settings['pooling']}) on {found.text}",
    )
